"""Tuner `grid`: every point of a grid, on this machine, without Ray."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any, cast

from annotated_types import Ge

from mlops_core import NoMetric, Trials, better, grid_points, judged
from mlops_core.contracts import Goal, Params, Pruned, Scores, Space, Trial, Tuned
from mlops_core.errors import TrainingError
from mlops_core.stages import Objective

SPAWN = get_context("spawn")  # a fork of a process with threads (polars, torch) may hang


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
        with _Workers(self.workers) as workers:
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
        self._line, self._alive = SPAWN.Pipe(duplex=False)  # workers end where nobody holds its end `alive`

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        while not self._pools.empty():
            self._pools.get().shutdown(wait=True, cancel_futures=True)
        self._alive.close()
        self._line.close()

    def run(self, attempt: _Attempt, todo: list[tuple[int, Params]]) -> Iterator[Trial]:
        if self.count == 1:
            for number, params in todo:
                yield attempt(number, params)
            return
        packed = _packed(attempt)
        for _ in range(min(self.count, len(todo))):
            self._pools.put(self._pool())
        with ThreadPoolExecutor(self.count) as threads:
            waiting: set[Future[Trial]] = {threads.submit(self._elsewhere, packed, n, p) for n, p in todo}
            try:
                while waiting:
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (f.result() for f in finished)
            finally:
                for future in waiting:
                    future.cancel()
                if waiting:  # left early, by an error or Ctrl-C: trials at work may take hours
                    self._alive.close()

    def _elsewhere(self, packed: bytes, number: int, params: Params) -> Trial:
        pool, began = self._pools.get(), time.monotonic()
        try:
            return pool.submit(_run, packed, number, params).result()
        except BrokenProcessPool:
            pool.shutdown()
            pool = self._pool()
            took = time.monotonic() - began
            why = f"its process died after {took:.0f} s (killed, or out of memory)"
            return Trial(number=number, params=params, scores={}, state="failed", seconds=took, error=why)
        finally:
            self._pools.put(pool)

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=SPAWN, initializer=_settle, initargs=(self._line,))


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


def _settle(line: Connection) -> None:
    """A worker leaves Ctrl-C to its parent, and outlives neither it nor the search."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        line.poll(None)  # nothing is ever sent
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
