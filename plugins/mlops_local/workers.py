"""Processes that run trials side by side, and may die without harm."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import cast

from mlops_core.contracts import Params, Trial
from mlops_core.errors import TrainingError

SPAWN = get_context("spawn")  # a fork of a process with threads (polars, torch) may hang

Attempt = Callable[[int, Params], Trial]
"""Runs the trial of that number; picklable where it is to run in another process."""


class Workers:
    """Runs attempts here (one worker), or each in one of several processes that may die without harm."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pools: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        self._line, self._alive = SPAWN.Pipe(duplex=False)  # workers end where nobody holds its end `alive`

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        while not self._pools.empty():
            self._pools.get().shutdown(wait=True, cancel_futures=True)
        self._alive.close()
        self._line.close()

    def run(self, attempt: Attempt, todo: list[tuple[int, Params]]) -> Iterator[Trial]:
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


def _packed(attempt: Attempt) -> bytes:
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
