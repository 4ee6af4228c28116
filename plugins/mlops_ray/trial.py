"""What runs inside a Ray worker: one trial after another, in the same warm process."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from mlops_core import NoMetric, better, judged
from mlops_core.contracts import Goal, Params, Pruned, Scores, Start
from mlops_core.errors import TrainingError
from mlops_core.stages import Objective
from mlops_ray.home import Place, Road, place_of


class WorkerFailed(TrainingError):
    """One of several workers of a trial failed; its words say which, and why."""


@dataclass(frozen=True)
class Attempt:
    """Runs one trial in its own folder and reports to Tune: `score`, `step`, `scores`, and at its end `state`."""

    objective: Objective
    goal: Goal
    out: Path
    resources: Mapping[str, float]
    timeout: float | None = None
    workers: int = 1
    road: Road | None = None
    steps: int | None = None  # of a leg

    def __call__(self, config: Mapping[str, Any]) -> None:
        from ray import tune

        if self.road is not None:
            self.road.borrow()
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(place_of(self.road, self.out, config["number"]))
            log = stack.enter_context((place.folder / "output.log").open("a", buffering=1))
            stack.enter_context(contextlib.redirect_stdout(log))
            stack.enter_context(contextlib.redirect_stderr(log))
            place.begin()
            stack.enter_context(_telling_where(self.timeout, log))
            start = self._start(config.get("after"), place)
            last = self._run(config["params"], place, start)
            if last.get("state") == "done":
                place.ended(config["params"], last["scores"], start)
        tidy()
        tune.report(last)

    def _start(self, after: int | None, place: Place) -> Start | None:
        if self.steps is None:
            return None
        return Start(steps=self.steps, after=after, scratch=None if after is None else place.left_by(after))

    def _run(self, params: Params, place: Place, start: Start | None) -> dict[str, Any]:
        told = Told(self.goal, place.reported)
        try:
            scores = judged(self._fit(params, place, told, start), self.goal, ended=True)
        except Pruned:
            if told.stopped:  # how Tune ends a thread; nothing may be reported any more
                raise SystemExit(0) from None
            return told.message(told.best or {self.goal.metric: float("nan")}, state="pruned")
        except NoMetric as error:
            return {"score": float("nan"), "step": told.step, "scores": {}, "fatal": str(error)}
        except WorkerFailed:
            raise
        except Exception as error:
            traceback.print_exc()
            raise TrainingError(words(error)) from None
        return told.message(scores, state="done")

    def _fit(self, params: Params, place: Place, told: Told, start: Start | None) -> Scores:
        objective = place.own(self.objective)
        if start is not None:
            return objective(params, place.folder, told, self.resources, start=start)
        if self.workers == 1:
            return objective(params, place.folder, told, self.resources)
        from mlops_ray.gang import together

        return together(objective, params, place.folder, told, self.resources, self.workers)


@contextlib.contextmanager
def _telling_where(timeout: float | None, log: TextIO) -> Iterator[None]:
    """A trial that takes too long writes where it stands before it is killed, even from a loop in C."""
    if timeout is not None:
        faulthandler.dump_traceback_later(timeout, file=log)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class Told:
    """The `report` of one trial. Keeps its best scores, and calls `after` each; raises Pruned where the scheduler stops
    it."""

    def __init__(self, goal: Goal, after: Callable[[], None] = lambda: None) -> None:
        self.goal, self.after, self.step, self.stopped = goal, after, 0, False
        self.best: Scores = {}

    def __call__(self, step: int, scores: Scores) -> None:
        from ray import tune

        if self.stopped:
            raise Pruned
        found = judged(scores, self.goal)
        self.step = step
        self.best = found if not self.best or better(found, self.best, self.goal) else self.best
        try:
            # a trainer keeps its best epoch, so that is what a trial is worth
            tune.report(self.message(self.best) | {"now": found[self.goal.metric]})
        except SystemExit:
            self.stopped = True
            raise Pruned from None
        self.after()

    def message(self, scores: Scores, state: str = "") -> dict[str, Any]:
        ended = {"state": state} if state else {}
        return {"score": scores[self.goal.metric], "step": self.step, "scores": dict(scores), **ended}


def words(error: Exception) -> str:
    """The error in one line, with the place in the user's code where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"


def tidy() -> None:
    """What one trial leaves in the process must not fill the next one's memory."""
    gc.collect()
    if not gc.get_freeze_count():  # what the first trial imported stays: to look through it again takes 80 ms a trial
        gc.freeze()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
