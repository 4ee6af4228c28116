"""Requests that arrive together, predicted as one call: less time for each of many, a little more for each of few."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from mlops_core.contracts import Columns
from mlops_core.serving.models import Loaded
from mlops_core.serving.rows import Batch


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    answer: asyncio.Future[Columns]


class Batching:
    """Collects the requests of a version until they have `size` rows together, or the first has waited `wait`
    seconds. Belongs to one event loop."""

    def __init__(self, size: int, wait: float) -> None:
        self.size = size
        self.wait = wait
        self._waiting: dict[Loaded, list[_Waiting]] = {}
        self._timers: dict[Loaded, asyncio.TimerHandle] = {}

    async def predict(self, model: Loaded, batch: Batch) -> Columns:
        """The model's answer to these rows. Raises what the model raises for them alone."""
        loop = asyncio.get_running_loop()
        mine = _Waiting(batch, loop.create_future())
        waiting = self._waiting.setdefault(model, [])
        waiting.append(mine)
        if sum(w.batch.rows for w in waiting) >= self.size:
            self._answer(model)
        elif len(waiting) == 1:
            self._timers[model] = loop.call_later(self.wait, self._answer, model)
        return await mine.answer

    def _answer(self, model: Loaded) -> None:
        if timer := self._timers.pop(model, None):
            timer.cancel()
        waiting = [w for w in self._waiting.pop(model, ()) if not w.answer.done()]  # a caller may have left
        try:
            given = _split(model.predict(_joined(waiting)), [w.batch.rows for w in waiting])
        except Exception:  # of one of them, perhaps: each finds out for itself
            for one in waiting:
                _alone(model, one)
            return
        for one, answer in zip(waiting, given, strict=True):
            one.answer.set_result(answer)


def _joined(waiting: list[_Waiting]) -> Columns:
    first = waiting[0].batch.columns
    if len(waiting) == 1:
        return first
    return {name: np.concatenate([w.batch.columns[name] for w in waiting]) for name in first}


def _split(answer: Columns, rows: list[int]) -> list[Columns]:
    ends = np.cumsum(rows).tolist()
    return [{name: v[end - n : end] for name, v in answer.items()} for n, end in zip(rows, ends, strict=True)]


def _alone(model: Loaded, one: _Waiting) -> None:
    try:
        one.answer.set_result(model.predict(one.batch.columns))
    except Exception as error:
        one.answer.set_exception(error)
