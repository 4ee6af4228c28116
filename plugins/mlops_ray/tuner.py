"""Tuner `ray`: a search with Ray Tune, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlops_core.contracts import Goal, Space, Tuned
from mlops_core.errors import TrainingError
from mlops_core.stages import Objective
from mlops_ray.search import Resources as Resources
from mlops_ray.search import Search


@dataclass(frozen=True)
class RayTuner(Search):
    __doc__ = Search.__doc__

    def search(self, objective: Objective, space: Space, goal: Goal, out: Path, report: Callable[..., None]) -> Tuned:
        """See `mlops_core.stages.Tuner`."""
        if not space:
            raise TrainingError("the search space is empty; declare tuner.space or remove the tuner")
        for option, why in self.refuses(goal).items():
            raise TrainingError(f"tuner.{option}: {why}")
        if self.legs() and not goal.changes:
            raise TrainingError("tuner.scheduler: pbt has no parameter that may change on the way of a trial")
        from mlops_ray.sweep import sweep

        return sweep(self, objective, space, goal, out.absolute(), report)
