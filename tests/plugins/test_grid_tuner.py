"""Tuner `grid`: every point once, in order, whatever happens on the way."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlops_local.tuner import GridTuner

from mlops_core.contracts import Distribution, Goal, Pruned
from mlops_core.errors import TrainingError
from mlops_core.grid import values_of
from mlops_core.options import check_options
from mlops_core.testing import check_tuner

GOAL = Goal(metric="auroc", mode="max", seed=3)
SPACE = {
    "trainer.lr": Distribution(kind="loguniform", args=(1e-4, 1e-2)),
    "trainer.depth": Distribution(kind="randint", args=(1, 4)),
    "trainer.kind": Distribution(kind="choice", args=(["a", "b"],)),
}


@dataclass(frozen=True)
class Hill:
    """An objective with its top at depth 2, kind b; `sick` kinds go wrong in their own way."""

    sick: str = ""
    wrong: str = "auroc"

    def __call__(self, params, out, report, resources=None):
        with (out / "calls").open("a") as calls:
            calls.write("x")
        kind, depth = params["trainer.kind"], params["trainer.depth"]
        score = 0.5 + 0.1 * (kind == "b") - 0.05 * abs(depth - 2) - params["trainer.lr"]
        (out / "scratch").mkdir(exist_ok=True)
        report(1, {self.wrong: score - 0.01, "loss": 1.0})
        if kind == self.sick == "a":
            raise RuntimeError("kind a does not converge")
        if depth == 3 and self.sick == "pruned":
            raise Pruned
        if depth == 3 and self.sick == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return {self.wrong: score, "loss": 1.0}


def search(tmp_path, objective=Hill(), **options):
    said = []
    tuned = GridTuner(**options).search(objective, SPACE, GOAL, tmp_path, lambda *told: said.append(told))
    return tuned, said


def test_every_point_is_tried_once_in_order_and_the_best_is_found(tmp_path):
    tuned, said = search(tmp_path, points=3)
    assert len(tuned.trials) == 3 * 3 * 2
    assert [t.number for t in tuned.trials] == list(range(18))
    assert tuned.params == {"trainer.lr": 1e-4, "trainer.depth": 2, "trainer.kind": "b"}
    assert tuned.scores["auroc"] == pytest.approx(0.6 - 1e-4)
    assert sorted({t.params["trainer.lr"] for t in tuned.trials}) == [1e-4, 1e-3, 1e-2]
    assert [step for step, _ in said] == list(range(1, 19))
    assert said[-1][1]["loss"] == 1.0


@pytest.mark.parametrize(
    ("kind", "args", "expected"),
    [
        ("uniform", (0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("loguniform", (0.1, 1000.0), [0.1, 1.0, 10.0, 100.0, 1000.0]),
        ("randint", (2, 5), [2, 3, 4]),
        ("quniform", (0.0, 0.3, 0.1), [0.0, 0.1, 0.2, 0.3]),
        ("quniform", (0.0, 100.0, 1.0), [0.0, 25.0, 50.0, 75.0, 100.0]),
        ("grid", ([1, 2],), [1, 2]),
        ("choice", ([[64, 32], [8]],), [[64, 32], [8]]),
    ],
)
def test_the_values_of_each_kind_of_dimension(kind, args, expected):
    assert values_of(Distribution(kind=kind, args=args), 5) == expected


def test_a_cap_draws_the_same_points_each_time(tmp_path):
    first, _ = search(tmp_path / "a", trials=5)
    second, _ = search(tmp_path / "b", trials=5)
    assert len(first.trials) == 5
    assert [t.params for t in first.trials] == [t.params for t in second.trials]
    assert len({t.params["trainer.kind"] for t in first.trials}) == 2  # not one corner of the grid


def test_a_failed_trial_is_recorded_and_passed_over(tmp_path):
    tuned, _ = search(tmp_path, Hill(sick="a"), points=1)
    failed = [t for t in tuned.trials if t.state == "failed"]
    assert {t.params["trainer.kind"] for t in failed} == {"a"}
    assert failed[0].error == "RuntimeError: kind a does not converge"
    assert tuned.params["trainer.kind"] == "b"


def test_all_failing_tells_the_first_reason(tmp_path):
    space = SPACE | {"trainer.kind": Distribution(kind="choice", args=(["a"],))}
    with pytest.raises(TrainingError, match=r"all 3 trials failed; trial 0 with .*kind=a: RuntimeError: kind a"):
        GridTuner(points=1).search(Hill(sick="a"), space, GOAL, tmp_path, lambda *_: None)


def test_a_pruned_trial_is_no_failure_and_never_beats_a_finished_one(tmp_path):
    tuned, _ = search(tmp_path, Hill(sick="pruned"), points=1)
    assert {t.state for t in tuned.trials if t.params["trainer.depth"] == 3} == {"pruned"}
    assert all(t.scores["auroc"] for t in tuned.trials)
    assert tuned.params["trainer.depth"] == 2


def test_a_metric_that_is_never_reported_is_told_at_the_first_report(tmp_path):
    with pytest.raises(TrainingError, match=r"metric 'auroc' is not among .*auprc, loss.*did you mean 'auprc'"):
        search(tmp_path, Hill(wrong="auprc"))
    assert len(list((tmp_path / "trials").iterdir())) == 1


def test_an_empty_space_and_an_endless_grid_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="search space is empty"):
        GridTuner().search(Hill(), {}, GOAL, tmp_path, lambda *_: None)
    endless = {f"x{i}": Distribution(kind="uniform", args=(0.0, 1.0)) for i in range(9)}
    with pytest.raises(TrainingError, match=r"5 x 5 x .* = 1953125 points; set tuner.trials"):
        GridTuner().search(Hill(), endless, GOAL, tmp_path, lambda *_: None)


def calls_of(folder, trial):
    return len((folder / "trials" / f"{trial.number:04d}" / "calls").read_text())


def test_a_search_goes_on_where_it_was_and_repeats_nothing(tmp_path):
    first, _ = search(tmp_path, Hill(sick="a"), points=1)
    again, said = search(tmp_path, Hill(), points=1)
    assert again == first
    assert {calls_of(tmp_path, t) for t in again.trials} == {1}
    assert len(said) == 6


def test_checkpoints_go_once_the_trial_is_kept_and_not_before(tmp_path, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("mlops_local.tuner.Trials.add", lambda *_: signal.raise_signal(signal.SIGINT))
        search(tmp_path, points=1)
    signal.signal(signal.SIGINT, before)
    assert (tmp_path / "trials" / "0000" / "scratch").exists()
    search(tmp_path, points=1)
    assert not list(tmp_path.glob("trials/*/scratch"))


def test_a_search_in_which_all_failed_begins_anew(tmp_path):
    space = SPACE | {"trainer.kind": Distribution(kind="choice", args=(["a"],))}
    tuner = GridTuner(points=1)
    with pytest.raises(TrainingError, match="all 3 trials failed"):
        tuner.search(Hill(sick="a"), space, GOAL, tmp_path, lambda *_: None)
    tuned = tuner.search(Hill(), space, GOAL, tmp_path, lambda *_: None)
    assert {t.state for t in tuned.trials} == {"done"}
    assert {calls_of(tmp_path, t) for t in tuned.trials} == {2}


def test_a_torn_last_line_costs_one_trial(tmp_path):
    whole, _ = search(tmp_path, points=1)
    kept = tmp_path / "trials.jsonl"
    kept.write_text(kept.read_text()[:-20])
    again, _ = search(tmp_path, points=1)
    assert again.params == whole.params
    assert len([json.loads(line) for line in kept.read_text().splitlines()]) == 6


def test_workers_run_in_processes_of_their_own_and_may_die(tmp_path, monkeypatch):
    (tmp_path / "my_hill.py").write_text(Path(__file__).read_text().partition("def search(")[0])
    monkeypatch.syspath_prepend(tmp_path)
    hill = importlib.import_module("my_hill").Hill(sick="killed")
    tuned, _ = search(tmp_path, hill, points=1, workers=2)
    died = [t for t in tuned.trials if t.state == "failed"]
    assert {t.params["trainer.depth"] for t in died} == {3}
    assert "its process died" in died[0].error
    assert len(tuned.trials) == 6
    assert tuned.params["trainer.depth"] == 2


def test_an_objective_that_cannot_travel_is_told(tmp_path):
    with pytest.raises(TrainingError, match=r"cannot run in processes of their own.*set tuner.workers to 1"):
        search(tmp_path, lambda *_: {}, workers=2)
    with pytest.raises(TrainingError, match="cannot load the objective: ModuleNotFoundError"):
        search(tmp_path, Hill(), workers=2)


SWEEP = """
import sys, time
from pathlib import Path
from mlops_local.tuner import GridTuner
from mlops_core.contracts import Distribution, Goal
def objective(params, out, report, resources=None):
    with open(sys.argv[1] + "/ran", "a") as f: f.write(f"{params['x']}\\n")
    time.sleep(0.1)
    report(1, {"m": 1.0})
    return {"m": 1.0}
space, goal = {"x": Distribution(kind="randint", args=(0, 12))}, Goal(metric="m", mode="max", seed=0)
GridTuner().search(objective, space, goal, Path(sys.argv[1]), lambda *_: None)
"""


def test_a_killed_search_repeats_at_most_the_trial_at_work(tmp_path):
    command = [sys.executable, "-c", SWEEP, str(tmp_path)]
    first = subprocess.Popen(command)
    deadline = time.monotonic() + 30
    while not (tmp_path / "trials.jsonl").exists() or len((tmp_path / "trials.jsonl").read_text().splitlines()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.kill()
    first.wait()
    subprocess.run(command, check=True, timeout=60)
    ran = (tmp_path / "ran").read_text().split()
    assert set(ran) == {str(i) for i in range(12)}
    assert len(ran) <= 13


LONG = """
import os, signal, sys, time
from pathlib import Path
from mlops_local.tuner import GridTuner
from mlops_core.contracts import Distribution, Goal
def objective(params, out, report, resources=None):
    (out / "pid").write_text(str(os.getpid()))
    time.sleep(300)
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    space, goal = {"x": Distribution(kind="randint", args=(0, 12))}, Goal(metric="m", mode="max", seed=0)
    GridTuner(workers=2).search(objective, space, goal, Path(sys.argv[1]), lambda *_: None)
"""


def test_ctrl_c_ends_the_trials_at_work_and_records_none_of_them(tmp_path):
    (tmp_path / "long.py").write_text(LONG)
    search = subprocess.Popen([sys.executable, tmp_path / "long.py", tmp_path], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(found := [p.read_text() for p in tmp_path.glob("trials/*/pid")]) < 2 or "" in found:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    search.send_signal(signal.SIGINT)  # to the search alone, as a supervisor or a notebook sends it
    try:
        assert search.wait(20) != 0
    finally:
        search.kill()
        search.wait()
    assert len(list(tmp_path.glob("trials/*/pid"))) == 2
    assert not (tmp_path / "trials.jsonl").exists()
    for pid in map(int, found):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_it_keeps_the_promises_of_a_tuner(tmp_path, workers):
    check_tuner(GridTuner(workers=workers), tmp_path, modes=("max",))


def test_options_out_of_range_are_told():
    assert [p.key for p in check_options(GridTuner, {"points": 0})] == ["points"]
    assert check_options(GridTuner, {"trials": 3, "workers": 2}) == []
