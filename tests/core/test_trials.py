"""The trials of a search, kept through a full disk."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from mlops_core.contracts import Goal, Trial
from mlops_core.trials import Trials


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
