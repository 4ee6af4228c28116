"""Tuner `ray`: trials that take less than the start of a process. In a file of its own, for Ray begins with it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from mlops_ray.tuner import RayTuner

from mlops_core.contracts import Distribution, Goal


def test_short_trials_run_in_every_process_and_none_is_started_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes the second takes long to start; trials that take less must not take its place away."""
    starts, up = tmp_path / "starts", tmp_path / "up"
    starts.mkdir()
    up.mkdir()
    (tmp_path / "slow_to_start.py").write_text(
        "import os, pathlib, time\n"
        f"starts, up = pathlib.Path({str(starts)!r}), pathlib.Path({str(up)!r})\n"
        "(starts / str(os.getpid())).touch()\n"
        "time.sleep(2 if len(list(starts.iterdir())) > 1 else 0)\n"
        "(up / str(os.getpid())).touch()\n"
    )
    (tmp_path / "short_ones.py").write_text(
        "import os, pathlib, time\n"
        "def wait(found):\n"
        "    until = time.monotonic() + 60\n"
        "    while not found() and time.monotonic() < until:\n"
        "        time.sleep(0.05)\n"
        "def short(params, out, report, resources=None):\n"
        "    if params['x'] == 2 and not (out / 'tried').exists():\n"
        "        (out / 'tried').touch()\n"
        "        raise RuntimeError('once')\n"
        "    time.sleep(0.1)\n"
        "    if params['x'] in (16, 17):\n"
        f"        wait(lambda: list(pathlib.Path({str(tmp_path)!r}).glob('trials/*/again')))\n"
        "    if params['x'] in (31, 32):\n"
        f"        wait(lambda: len(list(pathlib.Path({str(up)!r}).iterdir())) == 3)\n"
        "    if params['x'] == 2:\n"
        "        (out / 'again').touch()\n"
        "    (out / 'pid').write_text(str(os.getpid()))\n"
        "    return {'auroc': params['x'] / 100}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    space = {"x": Distribution(kind="grid", args=(list(range(60)),))}
    objective = importlib.import_module("short_ones").short
    tuner = RayTuner(trials=60, sampler="grid", concurrency=2, preload=("slow_to_start",))
    goal = Goal(metric="auroc", mode="max", seed=1)
    tuned = tuner.search(objective, space, goal, tmp_path, lambda *told: None)
    assert [t.state for t in tuned.trials] == ["done"] * 60
    order = [t.params["x"] for t in tuned.trials]
    assert order.index(2) < 30, "who is to be tried again does not wait for all others"
    assert all(abs(at - x) < 6 for at, x in enumerate(order) if x > 2), "nor does another"
    ran = [(f / "pid").read_text() for f in (tmp_path / "trials").iterdir()]
    assert len(set(ran)) == 3, "two, and one more for that which ended with what it raised"
    assert set(ran) == {p.name for p in starts.iterdir()}, "every process that was started"
