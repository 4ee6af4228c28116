"""Requests that arrive together, predicted as one call: less time for each of many, a little more for each of few."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np

from mlops_core.contracts import Columns
from mlops_core.serving.models import Loaded
from mlops_core.serving.rows import Batch

TOGETHER = 4096  # rows


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    answer: asyncio.Future[Columns | BaseException]


@dataclass(slots=True)
class _Gathered:
    """The requests of one version that wait, their rows, and what ends the wait."""

    requests: list[_Waiting] = field(default_factory=list)
    rows: int = 0
    end: asyncio.Handle | None = None


class Batching:
    """Collects the requests of a version until they have `size` rows together, or the first has waited `wait`
    seconds. Belongs to one event loop."""

    def __init__(self, size: int, wait: float) -> None:
        self.size = size
        self.wait = wait
        self._gathered: dict[Loaded, _Gathered] = {}

    def gathers(self) -> bool:
        """Whether a request that comes now may have company."""
        return True

    async def predict(self, model: Loaded, batch: Batch) -> Columns:
        """The model's answer to these rows. Raises what the model raises for them alone."""
        loop = asyncio.get_running_loop()
        mine = _Waiting(batch, loop.create_future())
        found = self._gathered.get(model)
        if found is None:
            found = self._gathered[model] = _Gathered()
            found.end = self._later(loop, model)
        found.requests.append(mine)
        found.rows += batch.rows
        if found.rows >= self.size:
            self._answer(model)
        answer = await mine.answer
        if isinstance(answer, BaseException):  # raised here: a future takes no StopIteration
            raise answer
        return answer

    def _later(self, loop: asyncio.AbstractEventLoop, model: Loaded) -> asyncio.Handle:
        return loop.call_later(self.wait, self._answer, model)

    def _answer(self, model: Loaded) -> None:
        found = self._gathered.pop(model)
        if found.end is not None:
            found.end.cancel()
        waiting = [w for w in found.requests if not w.answer.done()]  # a caller may have left
        if not waiting:
            return
        given: list[Columns] | list[Columns | BaseException]
        try:
            given = _split(model.predict(_joined(waiting)), [w.batch.rows for w in waiting])
        except BaseException:  # of one of them, perhaps: each finds out for itself. A panic in Rust is no Exception
            given = [_alone(model, w.batch) for w in waiting]
        for one, answer in zip(waiting, given, strict=True):
            one.answer.set_result(answer)


class Turns(Batching):
    """Collects what arrives in one turn of the event loop; nobody waits for who is not there yet.

    Callers who were answered together come back together. So only a turn after one with several requests gathers: who
    is alone is answered at once.
    """

    def __init__(self, size: int = TOGETHER) -> None:
        super().__init__(size, 0.0)
        self._now = self._before = 0

    def gathers(self) -> bool:
        if not self._now:
            asyncio.get_running_loop().call_soon(self._over)
        self._now += 1
        return self._before > 1

    def _over(self) -> None:
        self._before, self._now = self._now, 0

    def _later(self, loop: asyncio.AbstractEventLoop, model: Loaded) -> asyncio.Handle:
        return loop.call_soon(self._answer, model)


def _joined(waiting: list[_Waiting]) -> Columns:
    first = waiting[0].batch.columns
    if len(waiting) == 1:
        return first
    return {name: np.concatenate([w.batch.columns[name] for w in waiting]) for name in first}


def _split(answer: Columns, rows: list[int]) -> list[Columns]:
    if len(rows) == 1:
        return [answer]
    ends = np.cumsum(rows).tolist()
    return [{name: v[end - n : end] for name, v in answer.items()} for n, end in zip(rows, ends, strict=True)]


def _alone(model: Loaded, batch: Batch) -> Columns | BaseException:
    try:
        return model.predict(batch.columns)
    except BaseException as error:
        return error
