"""Tuner `grid`: every point of a grid, on this machine, without Ray."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from mlops_core import NoMetric, Trials, better, grid_points, judged
from mlops_core.contracts import Goal, Params, Pruned, Scores, Space, Trial, Tuned
from mlops_core.errors import TrainingError
from mlops_core.stages import Objective


@dataclass(frozen=True)
class GridTuner:
    """Tries every point of a grid over the search space, in a fixed order, and keeps the best, or the front.

    A choice, a grid and a whole-number range contribute each of their values; a continuous dimension
    contributes `points` values, spread evenly (evenly in the logarithm for loguniform). Finished trials are
    kept, so a killed search continues where it was; a trial that fails is recorded and passed over.

    trials: how many points to try at most, drawn from the grid with the seed of the declaration; all by default
    points: values per continuous dimension
    workers: trials at the same time, each in its own process
    """

    trials: Annotated[int, Ge(1)] | None = None
    points: Annotated[int, Ge(1)] = 5
    workers: Annotated[int, Ge(1)] = 1

    def search(self, objective: Objective, space: Space, goal: Goal, out: Path, report: Callable[..., None]) -> Tuned:
        """See `mlops_core.stages.Tuner`."""
        from mlops_local.workers import Workers  # process pools are no price for listing plugins

        if not space:
            raise TrainingError("the search space is empty; declare tuner.space or remove the tuner")
        kept = Trials(out)
        points = grid_points(space, self.points, limit=self.trials, seed=goal.seed)
        finished = 0
        todo: list[tuple[int, Params]] = []
        for number, params in enumerate(points):
            known = kept.known(params)
            if known:
                finished += 1
                report(finished, known.scores)
            else:
                todo.append((number, params))
        with Workers(self.workers) as workers:
            for trial in workers.run(_Attempt(objective, goal, out.absolute()), todo):
                kept.add(trial)
                if trial.state != "failed":
                    shutil.rmtree(out / "trials" / f"{trial.number:04d}" / "scratch", ignore_errors=True)
                finished += 1
                report(finished, trial.scores)
        return kept.tuned(goal)


@dataclass(frozen=True)
class _Attempt:
    """Runs one trial and tells how it ended; picklable when the objective is."""

    objective: Objective
    goal: Goal
    out: Path

    def __call__(self, number: int, params: Params) -> Trial:
        folder, began = self.out / "trials" / f"{number:04d}", time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        best: Scores = {}

        def told(step: int, scores: Scores) -> None:
            nonlocal best
            found = judged(scores, self.goal)
            best = found if not best or better(found, best, self.goal) else best

        def ended(state: Any, scores: Scores, error: str = "") -> Trial:
            return Trial(
                number=number, params=params, scores=scores, state=state, seconds=time.monotonic() - began, error=error
            )

        try:
            return ended("done", judged(self.objective(params, folder, told, {"cpus": 1}), self.goal, ended=True))
        except Pruned:
            return ended("pruned", best)
        except NoMetric:
            raise
        except Exception as error:  # one point of the grid may be impossible; the others need not be
            return ended("failed", best, f"{type(error).__name__}: {error}")
