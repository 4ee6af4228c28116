"""Tuner `ray` where the trials' nodes do not see the search's folder: checkpoints, secrets and output all the same."""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from away_kit import away_cluster
from mlops_ray.tuner import RayTuner, Resources

from mlops_core import lineage
from mlops_core.contracts import Distribution, Goal, Tuned
from mlops_core.errors import TrainingError

GOAL = Goal(metric="auroc", mode="max", seed=1)
OBJECTIVES = '''
import os, time

def stepped(params, out, report, resources=None):
    """Goes on from the step that it kept, and prints each."""
    import ray
    kept = out / "scratch" / "step"
    kept.parent.mkdir(exist_ok=True)
    first = int(kept.read_text()) + 1 if kept.exists() else 1
    print("on", ray.get_runtime_context().get_node_id(), "from", first, "with", len(list(kept.parent.iterdir())))
    for step in range(first, params["steps"] + 1):
        time.sleep(0.1)
        kept.with_suffix(".new").write_text(str(step))
        kept.with_suffix(".new").replace(kept)
        (kept.parent / "empty").touch()
        report(step, {"auroc": step / 100})
    return {"auroc": first / 100}

def told(params, out, report, resources=None, gang=None):
    """Tells how long the secret is that it sees, in each process, and is as good as that."""
    rank = gang.rank if gang else 0
    print("rank", rank, "sees", len(os.environ.get("A_SECRET", "")), "of", os.environ.get("MLOPS_SECRETS"))
    return {"auroc": len(os.environ.get("A_SECRET", "")) / 100}

def large(params, out, report, resources=None):
    """Keeps more than can be brought; the file has holes."""
    (out / "scratch").mkdir(exist_ok=True)
    with (out / "scratch" / "kept").open("wb") as kept:
        kept.truncate(600 * 2**20)
    for step in (1, 2):
        report(step, {"auroc": 0.5})
    return {"auroc": 0.5}

def climb(params, out, report, resources=None, gang=None, start=None):
    """A leg: each step is as high as the one before and what this leg's rate adds."""
    own = out / "scratch" / "height"
    own.parent.mkdir(exist_ok=True)
    at = own if own.exists() or start.scratch is None else start.scratch / "height"
    step, height = map(float, at.read_text().split()) if at.exists() else (0, 0)
    for step in range(int(step) + 1, int(step) + start.steps + 1):
        height += params["rate"]
        own.write_text(f"{step} {height}")
        report(step, {"auroc": height})
    if step == 6:
        own.unlink()
    return {"auroc": height}

def hangs(params, out, report, resources=None):
    print("before it hangs", flush=True)
    time.sleep(600)
'''


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for searches, which the nodes do not see; they see the objectives."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "away_here.py").write_text(OBJECTIVES)
    (tmp_path / "home").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "code"), os.environ.get("PYTHONPATH", "")]))
    yield tmp_path / "home"
    sys.modules.pop("away_here", None)


def search(cluster: Any, name: str, out: Path, steps: int = 1, **options: Any) -> Tuned:
    objective = getattr(importlib.import_module("away_here"), name)
    space = {"steps": Distribution(kind="grid", args=([steps],))}
    tuner = RayTuner(address=cluster.address, sampler="grid", scheduler="none", trials=1, **options)
    return tuner.search(objective, space, GOAL, out, lambda *said: None)


def holding(secret: str, folder: Path) -> list[Path]:
    """Files of a folder with these bytes in them."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and secret.encode() in path.read_bytes():
                found.append(path)
    return found


def test_a_trial_goes_on_on_another_node_from_what_it_kept_on_one_that_died(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, gone = home / "trials" / "0000" / "output.log", []
    with away_cluster(home, [1, 1], monkeypatch) as cluster:

        def remove() -> None:
            end = time.monotonic() + 60
            while time.monotonic() < end and not gone:
                said = log.read_text() if (log.parent / "scratch" / "step").exists() and log.exists() else ""
                for node in [n for n in cluster.worker_nodes if f"on {n.node_id} from 1" in said]:
                    gone.append(node.node_id)
                    cluster.remove_node(node, allow_graceful=False)
                time.sleep(0.05)

        thread = threading.Thread(target=remove)
        thread.start()
        tuned = search(cluster, "stepped", home, steps=60)
        thread.join()
    assert gone and [t.state for t in tuned.trials] == ["done"]
    assert tuned.scores["auroc"] > 0.01, "it went on"
    first, second = [line.split() for line in log.read_text().splitlines() if line.startswith("on ")]
    assert first[1] == gone[0] != second[1] and int(second[3]) > 1 and second[5] == "2", "an empty file travels too"
    left = {p.name for p in home.iterdir()}
    assert not [name for name in left if name.startswith("home-")], "nothing of the way home stays"
    assert {p.name for p in log.parent.iterdir()} == {"output.log"}


def test_trials_and_their_peers_see_the_secrets_of_the_command_and_no_file_does(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with away_cluster(home, [1, 1], monkeypatch) as cluster:  # none of its nodes has them
        secret = secrets.token_hex(20)
        monkeypatch.setenv("A_SECRET", secret)
        monkeypatch.setenv("MLOPS_SECRETS", "A_SECRET,NOT_SET")
        session = Path(cluster.head_node.get_session_dir_path())
        for workers in (1, 2):
            out = home / str(workers)
            tuned = search(cluster, "told", out, resources=Resources(workers=workers))
            assert tuned.scores == {"auroc": 0.4}
            said = (out / "trials" / "0000" / "output.log").read_text()
            for rank in range(workers):
                assert f"rank {rank} sees 40 of A_SECRET\n" in said
        assert holding(secret, session) == [] and holding(secret, home) == []
        monkeypatch.delenv("MLOPS_SECRETS")
        assert search(cluster, "told", home / "none").scores == {"auroc": 0.0}, "only what is named is handed on"


def test_a_search_outlives_what_brings_things_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = home / "trials" / "0000" / "output.log"
    with away_cluster(home, [1], monkeypatch) as cluster:
        raylet = cluster.head_node.all_processes["raylet"][0].process.pid

        def kill() -> None:
            end = time.monotonic() + 60
            while time.monotonic() < end and not (log.exists() and "on " in log.read_text()):
                time.sleep(0.05)
            for pid in Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split():
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Home"):
                    os.kill(int(pid), signal.SIGKILL)
                    killed.append(pid)

        killed: list[str] = []
        thread = threading.Thread(target=kill)
        thread.start()
        tuned = search(cluster, "stepped", home, steps=70)
        thread.join()
    assert killed and [t.state for t in tuned.trials] == ["done"]


def test_what_cannot_be_brought_and_where_a_trial_hung_are_told_at_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with away_cluster(home, [1], monkeypatch) as cluster:
        assert search(cluster, "large", home / "large").scores == {"auroc": 0.5}
        with pytest.raises(TrainingError, match="it took longer than 3 s"):
            search(cluster, "hangs", home / "hangs", trial_timeout=3)
    said = (home / "large" / "trials" / "0000" / "output.log").read_text()
    assert said.count("600 MiB are more than 512; on another node this trial would begin anew") == 1
    said = (home / "hangs" / "trials" / "0000" / "output.log").read_text()
    assert "before it hangs" in said and "away_here.py" in said and "in hangs" in said


def test_a_population_goes_on_from_what_other_nodes_left(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    climb = importlib.import_module("away_here").climb
    space = {"rate": Distribution(kind="uniform", args=(0.0, 0.1))}
    goal = replace(GOAL, changes=("rate",))
    with away_cluster(home, [1, 1], monkeypatch) as cluster:
        tuner = RayTuner(address=cluster.address, scheduler="pbt", trials=3, interval=2)
        tuned = tuner.search(climb, space, goal, home, lambda *said: None)
    trials = {t.number: t for t in tuned.trials}
    assert {t.state for t in trials.values()} == {"done"}
    assert sum(t.steps == 6 for t in trials.values()) == 3
    for trial in trials.values():
        legs = lineage(trials.values(), trial)
        assert trial.scores["auroc"] == pytest.approx(sum(2 * t.params["rate"] for t in legs))
