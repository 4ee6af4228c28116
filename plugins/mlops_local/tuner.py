"""Tuner `grid`: every point of a grid, on this machine, without Ray."""

from __future__ import annotations

import itertools
import math
import os
import pickle
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any, cast

from annotated_types import Ge

from mlops_core import NoMetric, Trials, better, judged
from mlops_core.contracts import Distribution, Goal, Params, Pruned, Scores, Space, Trial, Tuned
from mlops_core.errors import TrainingError
from mlops_core.stages import Objective

MANY = 10_000


@dataclass(frozen=True)
class GridTuner:
    """Tries every point of a grid over the search space, in a fixed order, and keeps the best.

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
        if not space:
            raise TrainingError("the search space is empty; declare tuner.space or remove the tuner")
        kept, points = Trials(out), list(self._grid(space, goal.seed))
        finished = 0
        todo: list[tuple[int, Params]] = []
        for number, params in enumerate(points):
            known = kept.known(params)
            if known and known.state != "failed":
                finished += 1
                report(finished, known.scores)
            else:
                todo.append((number, params))
        with _Workers(self.workers) as workers:
            for trial in workers.run(_Attempt(objective, goal, out.absolute()), todo):
                kept.add(trial)
                finished += 1
                report(finished, trial.scores)
        return kept.tuned(goal)

    def _grid(self, space: Space, seed: int) -> Iterator[Params]:
        axes = [values_of(d, self.points) for d in space.values()]
        total = math.prod(map(len, axes))
        if self.trials is None and total > MANY:
            sizes = " x ".join(str(len(a)) for a in axes)
            raise TrainingError(f"the grid has {sizes} = {total} points; set tuner.trials to try some of them")
        if self.trials is None or self.trials >= total:
            for point in itertools.product(*axes):
                yield dict(zip(space, point, strict=True))
            return
        for index in sorted(random.Random(seed).sample(range(total), self.trials)):
            yield dict(zip(space, _point(axes, index), strict=True))


def values_of(distribution: Distribution, points: int) -> list[Any]:
    """The values of one dimension of the grid, in order and without repetition."""
    kind, args = distribution.kind, distribution.args
    if kind in ("choice", "grid"):
        return list(args[0]) if len(args) == 1 and isinstance(args[0], list | tuple) else list(args)
    low, high = args[0], args[1]
    if kind == "randint":
        return _spread(low, high - 1, high - low, points) if high - low > MANY else list(range(low, high))
    if kind == "quniform":
        step = args[2]
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        count = last - first + 1
        steps = range(first, last + 1) if count <= points else _spread(first, last, count, points)
        return [_tidy(i * step) for i in steps]
    if points == 1 or low == high:
        return [math.sqrt(low * high) if kind == "loguniform" else (low + high) / 2]
    parts = [i / (points - 1) for i in range(points)]
    if kind == "loguniform":
        return [_tidy(math.exp(math.log(low) + p * (math.log(high) - math.log(low)))) for p in parts]
    return [_tidy(low + p * (high - low)) for p in parts]


def _spread(low: int, high: int, count: int, points: int) -> list[int]:
    points = min(points, count)
    return [low] if points == 1 else [low + round(i * (high - low) / (points - 1)) for i in range(points)]


def _tidy(value: float) -> float:
    """0.30000000000000004 as 0.3."""
    return float(f"{value:.12g}")


def _point(axes: list[list[Any]], index: int) -> list[Any]:
    found = []
    for axis in reversed(axes):
        index, at = divmod(index, len(axis))
        found.append(axis[at])
    return found[::-1]


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
            if state != "failed":
                shutil.rmtree(folder / "scratch", ignore_errors=True)
            return Trial(
                number=number, params=params, scores=scores, state=state, seconds=time.monotonic() - began, error=error
            )

        try:
            return ended("done", judged(self.objective(params, folder, told, {"cpus": 1}), self.goal))
        except Pruned:
            return ended("pruned", best)
        except NoMetric:
            raise
        except Exception as error:  # one point of the grid may be impossible; the others need not be
            return ended("failed", best, f"{type(error).__name__}: {error}")


class _Workers:
    """Runs attempts here (one worker), or each in one of several processes that may die without harm."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pools: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        while not self._pools.empty():
            self._pools.get().shutdown(wait=True, cancel_futures=True)

    def run(self, attempt: _Attempt, todo: list[tuple[int, Params]]) -> Iterator[Trial]:
        if self.count == 1:
            for number, params in todo:
                yield attempt(number, params)
            return
        packed = _packed(attempt)
        for _ in range(min(self.count, len(todo))):
            self._pools.put(_pool())
        with ThreadPoolExecutor(self.count) as threads:
            waiting: set[Future[Trial]] = {threads.submit(self._elsewhere, packed, n, p) for n, p in todo}
            try:
                while waiting:
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (f.result() for f in finished)
            finally:
                for future in waiting:
                    future.cancel()

    def _elsewhere(self, packed: bytes, number: int, params: Params) -> Trial:
        pool, began = self._pools.get(), time.monotonic()
        try:
            return pool.submit(_run, packed, number, params).result()
        except BrokenProcessPool:
            pool.shutdown()
            pool = _pool()
            took = time.monotonic() - began
            why = f"its process died after {took:.0f} s (killed, or out of memory)"
            return Trial(number=number, params=params, scores={}, state="failed", seconds=took, error=why)
        finally:
            self._pools.put(pool)


def _packed(attempt: _Attempt) -> bytes:
    try:
        return pickle.dumps(attempt)
    except Exception as error:  # what pickle raises depends on the object
        why = f"trials cannot run in processes of their own, since {error}; set tuner.workers to 1"
        raise TrainingError(why) from error


def _run(packed: bytes, number: int, params: Params) -> Trial:
    try:
        attempt = pickle.loads(packed)
    except Exception as error:  # told here, for in the pool it would look like a death
        raise TrainingError(f"a worker process cannot load the objective: {type(error).__name__}: {error}") from error
    return cast(Trial, attempt(number, params))


def _pool() -> ProcessPoolExecutor:
    # spawn: a fork of a process with threads (polars, torch) may hang
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_settle)


def _settle() -> None:
    """A worker leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
