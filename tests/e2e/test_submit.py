"""A project on a real Ray cluster: sent, followed, stopped, and its versions at home.

The cluster asks for a token and has nothing of the project: it shares PostgreSQL and a folder of objects with home.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import Cluster, Relay, cluster
from docs_kit import script

from mlops_core import api
from mlops_core.errors import LaunchError, UsageError

TOKEN = secrets.token_hex(32)
STORE = "store: {ledger: '${oc.env:LEDGER_URL}', objects: '%s'}\n"
RUNNING = "train     first run"


@pytest.fixture(scope="module")
def there() -> Iterator[Cluster]:
    with cluster({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}) as found:
        yield found


@pytest.fixture
def sent(here: Any, tmp_path: Path, postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The toy project with a ledger and objects that both sides reach; its plugin is a checkout."""
    config = here.root / "conf" / "config.yaml"
    config.write_text(config.read_text() + STORE % f"file://{tmp_path}/objects")
    for name, value in {"LEDGER_URL": postgres_database, "RAY_AUTH_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
        here.env[name] = value
    return here


def test_a_project_is_trained_there_and_its_version_is_at_home(sent: Any, there: Cluster) -> None:
    (sent.root / ".gitignore").write_text("*.log\n")
    (sent.root / "large.log").write_bytes(b"0" * 60_000_000)  # stays at home, so it is not too large
    done = sent.mlops("submit", "--address", there.url, "--env", "LEDGER_URL", "--", "run")
    assert "version 1 accepted" in done.stdout and "mlops: sent as toy-" in done.stderr
    status = api.status(sent.root)
    assert [v.number for v in status.versions] == [1] and status.aliases == {"champion": 1}
    assert [s.state for s in api.plan(sent.root).steps] == ["restore", "restore", "restore", "unchanged", "unchanged"]
    finished = api.run(sent.root)  # at home nothing is trained again: what was made there is laid out here
    assert finished.performed == () and finished.restored == ("data", "train", "seal")
    # The audit says who sent it, and no file on either side holds the secret.
    audit, fault = api.audit(sent.root)
    assert fault == "" and {e.actor for e in audit} == {audit[0].actor}
    secret = re.findall(r":(\w+)@", os.environ["LEDGER_URL"])[0].encode()
    assert secret.decode() not in done.stdout + done.stderr
    assert holding(secret, there.folder) == [] and holding(secret, sent.root.parent) == []
    # A wrong end there is the exit code here.
    words = ["submit", "--address", there.url, "--env", "LEDGER_URL", "--", "run"]
    rejected = sent.mlops(*words, "gate=[{metric: accuracy, at_least: 0.999}]", code=4)
    assert "version 2 did not pass its gate" in rejected.stdout
    listed = api.launcher(sent.root, {"address": there.url}).all()
    assert [s.exit_code for s in listed][:2] == [4, 0] and listed[1].words == ("run",)


def test_trials_of_a_search_there_see_the_secrets(sent: Any, there: Cluster) -> None:
    (sent.root / "more.py").write_text("import os\n\n\ndef factor():\n    return float(os.environ['A_SECRET'])\n")
    sent.env["A_SECRET"] = "1.0"
    words = ["submit", "--address", there.url, "--env", "LEDGER_URL", "--env", "A_SECRET", "--", "run", "tuner=ray"]
    search = ["tuner.address=auto", "tuner.trials=1", "tuner.sampler=grid", "tuner.space={trainer.shift: [0.0]}"]
    done = sent.mlops(*words, *search, "--until", "train")
    assert "the model of trial 0: accuracy 0." in done.stdout


def holding(secret: bytes, folder: Path) -> list[Path]:
    """Files of a folder with these bytes in them."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and secret in path.read_bytes():
                found.append(path)
    return found


def test_following_outlives_a_cut_and_ctrl_c(sent: Any, there: Cluster) -> None:
    with Relay(there.url) as relay:
        words = ["submit", "--address", relay.url, "--env", "LEDGER_URL", "--", "run", "trainer.sleep=8"]
        first = sent.start(*words)
        assert first.stdout is not None
        while RUNNING not in (line := first.stdout.readline()):
            assert line, first.communicate()
        first.send_signal(signal.SIGINT)
        _, told = first.communicate(timeout=60)
        assert first.returncode == 130 and "Traceback" not in told, told
        id = re.findall(r"sent as (\S+)", told)[0]
        assert f"{id} goes on; 'mlops submit logs {id} --address {relay.url}' follows it again" in told
        pieces: list[str] = []
        notices: list[str] = []

        def out(text: str) -> None:
            pieces.append(text)
            if RUNNING in "".join(pieces) and not relay.cuts:
                relay.cut(seconds=2)

        found = api.launcher(sent.root, {"address": relay.url}).follow(id, out, notices.append)
        assert found.state == "succeeded" and found.exit_code == 0 and found.words[0] == "run"
        assert relay.cuts == 1 and "trying again" in notices[0] and notices[-1] == "connected again", notices
        again = sent.mlops("submit", "logs", id, "--address", there.url)
        assert again.stdout == "".join(pieces) and again.stdout.count(RUNNING) == 1
        assert "version 1 accepted" in again.stdout


def test_a_submission_is_stopped(sent: Any, there: Cluster) -> None:
    given = {"address": there.url, "env": ["LEDGER_URL"]}
    id = api.submit(sent.root, ["run", "trainer.sleep=600"], given=given).id
    launcher = api.launcher(sent.root, {"address": there.url})
    assert launcher.status(id).state in ("waiting", "running")
    while launcher.status(id).state == "waiting":
        time.sleep(0.2)
    assert sent.mlops("submit", "stop", id, "--address", there.url).stdout == "stopped\n"
    assert launcher.status(id).state == "stopped" and not launcher.stop(id)
    assert launcher.follow(id, lambda text: None, lambda line: None).exit_code == 130
    with pytest.raises(UsageError, match=r"knows no submission 'nothing'; see 'mlops submit list'"):
        launcher.status("nothing")


def test_who_has_no_token_or_a_wrong_one_is_told(
    sent: Any, there: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = api.launcher(sent.root, {"address": there.url})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(LaunchError, match="refuses the token of RAY_AUTH_TOKEN"):
        launcher.all()
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with pytest.raises(LaunchError, match=r"asks for a token: put it into RAY_AUTH_TOKEN or ~/\.ray/auth_token"):
        launcher.all()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN)
    assert isinstance(launcher.all(), list)


def test_the_page_about_it_is_true(sent: Any, there: Cluster, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "submit.md"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {"RAY_API_SERVER_ADDRESS": there.url, "OBJECTS_URL": f"file://{tmp_path}/objects", "PATH": path}
    command, env = ["bash", "-c", script(page)], {**os.environ, **given, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    assert "version 1 accepted" in done.stdout and "1  accepted  champion" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
