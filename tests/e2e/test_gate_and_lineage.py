"""From one answered prediction back to the bytes it came from, and who moved which alias when and why."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_core import api, open_bundle
from mlops_core.errors import Rejected, UsageError
from mlops_core.hashing import FileDigests
from mlops_core.objects import tree_digest


@pytest.fixture
def served(here: Any) -> Iterator[Any]:
    config = here.root / "conf" / "config.yaml"
    text = config.read_text().replace("  - _self_\n", "  - deployer: http\n  - _self_\n")
    config.write_text(text + "deployer: {auth: none}\n")
    try:
        yield here
    finally:
        api.stop(here.root)


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    done = subprocess.run(
        ["git", *who, *words], cwd=root, capture_output=True, text=True, timeout=30, check=True, env=None
    )
    return done.stdout.strip()


def logged(project: Any, prediction: str) -> dict[str, Any]:
    """The line of the prediction log with that id."""
    import time

    for _ in range(100):
        for segment in (project.root / ".mlops" / "serve" / "toy" / "log").glob("*.jsonl"):
            for line in segment.read_text().splitlines():
                found: dict[str, Any] = json.loads(line)
                if found["id"] == prediction:
                    return found
        time.sleep(0.1)
    raise AssertionError(f"{prediction} is not in the log")


def test_a_prediction_is_traced_to_the_bytes_of_its_data(served: Any) -> None:
    root = served.root
    git(root, "init", "-q")
    (root / ".gitignore").write_text(".mlops/\n__pycache__/\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    api.run(root)
    answer = api.predict(root, [{"a": 1.0, "b": 0.0}])

    line = logged(served, answer["id"])
    version = api.version(root, line["version"])
    bundle = open_bundle(version.model.path, sha256=version.model.digest)
    lineage = bundle.manifest["lineage"]
    assert lineage["name"] == "toy" and lineage["seed"] == 1
    assert lineage["data"]["digest"] == version.model.dataset
    assert sum(lineage["data"]["rows"].values()) == 200
    source = hashlib.sha256((root / "data.csv").read_bytes()).hexdigest()
    assert lineage["data"]["source"] == {"plugin": "csv", "source.data.csv": source}
    frozen = root / ".mlops" / "data" / version.model.dataset[:12]
    assert version.model.dataset == tree_digest(frozen, FileDigests(None)).sha256
    assert version.code == {"git": git(root, "rev-parse", "HEAD"), "dirty": False}
    assert "shift: 0.0" in version.config["text"]
    assert version.run in {r.id for r in api.status(root, judge=False).runs}


def test_uncommitted_changes_are_recorded(here: Any) -> None:
    git(here.root, "init", "-q")
    (here.root / ".gitignore").write_text("__pycache__/\n")
    git(here.root, "add", ".")
    git(here.root, "commit", "-qm", "first")
    api.run(here.root, ["trainer.shift=0.01"])
    assert api.version(here.root, 1).code["dirty"] is False, "our own state is no change of theirs"
    more = here.root / "more.py"
    more.write_text(more.read_text().replace("1.0", "1.001"))
    api.run(here.root)
    code = api.version(here.root, 2).code
    assert code == {"git": git(here.root, "rev-parse", "HEAD"), "dirty": True}
    assert "with uncommitted changes" in here.mlops("versions", "show", "2").stdout


def test_outside_git_there_is_no_revision(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(here.root.parent))
    api.run(here.root)
    assert api.version(here.root, 1).code == {}
    assert "code      not in git" in here.mlops("versions", "show", "1").stdout


def test_each_move_is_in_the_audit_with_who_and_why(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_ACTOR", "ada")
    api.run(here.root)
    api.run(here.root, ["trainer.shift=0.01"])
    monkeypatch.setenv("MLOPS_ACTOR", "grace")
    api.rollback(here.root, reason="callers complain")
    api.promote(here.root, 2, reason="it was not the model")
    entries, fault = api.audit(here.root)
    assert fault == ""
    moves = [(e.actor, e.subject, e.facts["from"], e.facts["to"]) for e in reversed(entries) if "alias" in e.action]
    assert moves == [
        ("ada", "toy@champion", None, 1),
        ("ada", "toy@champion", 1, 2),
        ("ada", "toy@previous", None, 1),
        ("grace", "toy@champion", 2, 1),
        ("grace", "toy@previous", 1, 2),
        ("grace", "toy@champion", 1, 2),
        ("grace", "toy@previous", 2, 1),
    ]
    reasons = [e.reason for e in reversed(entries) if e.subject == "toy@champion"]
    assert reasons[1].startswith("passed its gate: accuracy 0.")
    assert reasons[2:] == ["callers complain", "it was not the model"]
    told = here.mlops("versions", "audit").stdout
    assert "the chain is whole" in told and "toy@champion 1 -> 2: it was not the model" in told


def test_a_rejected_version_is_in_the_audit_and_moves_nothing(here: Any) -> None:
    api.run(here.root)
    with pytest.raises(Rejected):
        api.run(here.root, ["trainer.shift=4"])
    entries, _ = api.audit(here.root)
    added = next(e for e in entries if e.action == "version.added")
    assert added.subject == "toy/2" and added.facts["status"] == "rejected"
    assert "at least 0.6 declared" in added.reason
    assert [e.subject for e in entries if "alias" in e.action] == ["toy@champion"]
    with pytest.raises(UsageError, match="there is no earlier champion to roll back to"):
        api.rollback(here.root, reason="none")


def test_verdict_over_several_rules_and_slices(here: Any) -> None:
    """One rule that is not met is enough, and each tells its numbers."""
    rules = (
        "gate=[{metric: accuracy, at_least: 0.6}, {metric: log_loss, at_most: 0.001}, {metric: auroc, at_least: 0.5}]"
    )
    with pytest.raises(Rejected) as told:
        api.run(here.root, [rules])
    assert "log_loss" in str(told.value) and "accuracy" not in str(told.value)
    reasons = api.version(here.root, 1).reasons
    assert len(reasons) == 3 and all("declared" in r and "[" in r for r in reasons)
    assert api.versions(here.root)[1] == {}
