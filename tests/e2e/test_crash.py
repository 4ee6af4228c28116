"""Killed anywhere, run again: it goes on, nothing is half-written, nothing is there twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest

STAGES = ["data", "train", "seal", "evaluate", "gate"]


def check_whole(toy) -> None:
    """One more run completes; then the ledger, the objects and the versions agree with each other."""
    toy.run()
    assert toy.run()["performed"] == []
    told = json.loads(toy.mlops("versions", "--json").stdout)
    assert [v["number"] for v in told["versions"]] == [1] and told["aliases"]["champion"] == 1
    assert json.loads(toy.mlops("versions", "audit", "--json").stdout)["whole"]
    status = json.loads(toy.mlops("status", "--json").stdout)
    assert [r["state"] for r in status["runs"][:2]] == ["done", "done"]
    assert "running" not in {r["state"] for r in status["runs"]}
    assert not list((toy.root / ".mlops" / "work").glob("*")), "work folders are left behind"


@pytest.mark.parametrize("stage", STAGES)
def test_killed_when_a_stage_starts_or_ends(toy, stage: str) -> None:
    for event in ("started", "finished"):
        process = toy.start("run", "--json")
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if told["event"] == event and told.get("stage") == stage:
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
    check_whole(toy)


def test_killed_at_random_times(toy) -> None:
    toy.mlops("check")
    rng = random.Random(7)
    began = time.monotonic()
    toy.mlops("plan", code=2)
    span = 2 * (time.monotonic() - began)
    for _ in range(12):
        process = toy.start("run")
        time.sleep(rng.uniform(0.1, span))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    check_whole(toy)


def test_two_runs_at_once_do_the_work_once(toy) -> None:
    first, second = toy.start("run", "--json", "trainer.sleep=1"), toy.start("run", "--json", "trainer.sleep=1")
    out = [p.communicate(timeout=120) for p in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), out
    done = [json.loads(o.splitlines()[-1])["run"]["performed"] for o, _ in out]
    assert sorted(map(len, done)) == [0, 5]
    assert any('"event": "waiting"' in o for o, _ in out)
    assert len(json.loads(toy.mlops("versions", "--json").stdout)["versions"]) == 1


def test_interrupted_run_says_so_and_goes_on(toy) -> None:
    process = toy.start("run", "trainer.sleep=30")
    deadline = time.monotonic() + 60
    while not list((toy.root / ".mlops" / "work").glob("train-*/scratch/begun")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "mlops: interrupted; what is done is kept: run again to go on\n"
    assert toy.run()["version"] == 1


def test_full_disk_is_told_and_nothing_is_lost(toy) -> None:
    """A file-size limit stands for the full disk."""
    toy.run()
    head, body = (toy.root / "data.csv").read_text().split("\n", 1)
    (toy.root / "data.csv").write_text(f"{head}\n{body * 400}")
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000));"
        "from mlops_core.cli.main import main; sys.exit(main(['run']))"
    )
    command = [sys.executable, "-c", limited]
    done = subprocess.run(command, cwd=toy.root, env=toy.env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "file too large" in done.stderr.lower() or "full" in done.stderr.lower(), done.stderr
    assert json.loads(toy.mlops("versions", "--json").stdout)["aliases"]["champion"] == 1
    assert toy.run()["performed"][0] == "data"


def test_read_only_project_is_told(toy) -> None:
    state = toy.root / ".mlops"
    state.write_text("a file where the folder should be")
    told = toy.mlops("run", code=1)
    assert "cannot" in told.stderr and str(state) in told.stderr
    state.unlink()
    assert toy.run()["version"] == 1


def test_a_failing_fit_is_told_and_recorded(toy) -> None:
    trainer = toy.plugin / "toyplug" / "trainer.py"
    whole = trainer.read_text()
    trainer.write_text(whole.replace("time.sleep(self.sleep)", "raise ValueError('weights went to infinity')"))
    told = toy.mlops("run", code=1)
    story = "the whole story is in .mlops/failures/train.txt"
    assert told.stderr == f"mlops: train failed: ValueError: weights went to infinity; {story}\n"
    assert "weights went to infinity" in (toy.root / ".mlops" / "failures" / "train.txt").read_text()
    trainer.write_text(whole)
    assert toy.run()["skipped"] == ["data"]
