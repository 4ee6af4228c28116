"""The trials of a search, kept through a full disk."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_core.contracts import Goal, Trial
from mlops_core.trials import Trials, key_of, lineage


def trial(number: int) -> Trial:
    return Trial(number=number, params={"lr": number / 10}, scores={"auroc": 0.5}, state="done", seconds=0.0)


def test_a_disk_that_takes_a_part_of_a_line_is_told_and_loses_no_other(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    trials.add(trial(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (trials.path.stat().st_size + 20, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            trials.add(trial(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = Trials(tmp_path)
    assert [t.number for t in again] == [1]
    again.add(trial(2))
    assert [t.number for t in Trials(tmp_path)] == [1, 2]
    assert again.tuned(Goal(metric="auroc", mode="max", seed=0)).params == {"lr": 0.1}


def test_a_leg_is_another_trial_than_one_of_the_same_parameters_from_elsewhere(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    legs = [trial(1), replace(trial(1), number=2, after=1, steps=4), replace(trial(1), number=3, after=2, steps=6)]
    for leg in legs:
        trials.add(leg)
    again = Trials(tmp_path)
    assert list(again) == legs
    assert [again.known({"lr": 0.1}, after) for after in (None, 1, 2, 3)] == [*legs, None]
    assert lineage(again, legs[2]) == tuple(legs)
    best = again.tuned(Goal(metric="auroc", mode="max", seed=0))
    assert (best.best, best.params) == (1, {"lr": 0.1})


def test_what_was_kept_before_there_were_legs_is_known_by_the_same_key(tmp_path: Path) -> None:
    assert key_of({"b": 1, "a": [0.5, "x"]}) == '{"a": [0.5, "x"], "b": 1}'
    line = (
        '{"error": "", "number": 0, "params": {"lr": 0.1}, "scores": {"auroc": 0.5}, "seconds": 1.0, "state": "done"}'
    )
    (tmp_path / "trials.jsonl").write_text(line + "\n")
    (old,) = Trials(tmp_path)
    assert (old.after, old.steps) == (None, 0) and Trials(tmp_path).known({"lr": 0.1}) == old
