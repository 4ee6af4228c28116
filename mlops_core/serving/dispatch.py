"""From a request to the version that answers it, and from the answer to the prediction log and the counts.

A version of this process answers at once. Requests that arrive in one turn of the event loop are answered by one call
of the model; nobody waits for them. Candidates and shadows are guests: a candidate that fails or is late is answered
for by the stable version, a shadow gets a copy of what was answered already.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from contextvars import ContextVar
from typing import Any

from mlops_core.contracts import Route, Serving
from mlops_core.serving import forms
from mlops_core.serving.answering import Answered, answer, read
from mlops_core.serving.batching import Batching, Turns
from mlops_core.serving.guests import Failed, Guest
from mlops_core.serving.log import Entry, PredictionLog
from mlops_core.serving.models import Loaded, Table
from mlops_core.serving.problems import Refused
from mlops_core.serving.requests import Headers
from mlops_core.serving.telemetry import Telemetry

INLINE_BYTES = 32 * 1024  # a larger body is read and answered in a thread, so that small ones need not wait for it
Reply = tuple[str, bytes]  # the request's id, and the answer's body
ROUTE: ContextVar[Route | None] = ContextVar("route", default=None)  # who answered; each request is a task


class Dispatch:
    """Asks versions. Belongs to one event loop; `log` and `batching` may be changed at any time."""

    def __init__(self, serving: Serving, log: PredictionLog, telemetry: Telemetry, pool: Executor) -> None:
        self.log = log
        self.batching = batching(serving)
        self._telemetry = telemetry
        self._pool = pool
        self._copies: set[asyncio.Task[None]] = set()

    async def infer(
        self, table: Table, asked: Loaded | Guest | None, form: str, id: str, data: bytes, headers: Headers
    ) -> Reply:
        """By the version `asked` for, or by one of those that answer. Raises Refused, and what the model raises."""
        model = asked or _choose(table, form, headers, data)
        if isinstance(model, Guest):
            id, body = await self._visit(table, model, form, id, data, alone=asked is not None)
        else:
            id, body = await self._run(table, model, form, id, data)
        for shadow in table.shadows if asked is None else ():
            self._copy(table, shadow, form, id, data)
        return id, body

    async def drain(self, seconds: float) -> None:
        """Lets the shadows finish their copies."""
        if self._copies:
            await asyncio.wait(self._copies, timeout=seconds)

    async def _run(self, table: Table, model: Loaded, form: str, id: str, data: bytes, instead: int = 0) -> Reply:
        """A version of this process answers."""
        ROUTE.set(table.routes[model.version])
        if len(data) > INLINE_BYTES:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._answered, table, model, form, id, data, instead)
        if self.batching.gathers():
            return await self._together(table, model, form, id, data, instead)
        return self._answered(table, model, form, id, data, instead)

    def _answered(self, table: Table, model: Loaded, form: str, id: str, data: bytes, instead: int) -> Reply:
        began, route, serving = time.perf_counter(), table.routes[model.version], table.serving
        try:
            found = answer(model, serving.name, form, id, data, serving.max_rows)
        except Refused:
            raise
        except Exception as error:
            self._unanswered(route, id, time.perf_counter() - began, type(error).__name__)
            raise
        return self._entered(route, found, time.perf_counter() - began, len(data), instead)

    async def _together(self, table: Table, model: Loaded, form: str, id: str, data: bytes, instead: int) -> Reply:
        """The same, with other requests that arrive at the same time."""
        began, route, serving = time.perf_counter(), table.routes[model.version], table.serving
        asked = read(model, form, id, data, serving.max_rows)
        try:
            found = asked.answered(model, serving.name, await self.batching.predict(model, asked.batch))
        except Exception as error:
            self._unanswered(route, id, time.perf_counter() - began, type(error).__name__)
            raise
        return self._entered(route, found, time.perf_counter() - began, len(data), instead)

    async def _visit(self, table: Table, guest: Guest, form: str, id: str, data: bytes, alone: bool) -> Reply:
        """A guest answers; where it does not, the stable version in its place, unless it `alone` was asked for.

        What the guest refuses and the stable version takes is a failure of the guest.
        """
        began, route, serving = time.perf_counter(), table.routes[guest.version], table.serving
        try:
            said, body = await guest.ask(form, id, data, serving.max_rows, serving.deadline)
        except Failed as failed:
            said, body = {"state": str(failed)}, b""
        taken = time.perf_counter() - began
        if said["state"] == "answered":
            ROUTE.set(route)
            self._keep(route, said, taken, len(data))
            return said["id"], body
        if alone:
            raise Refused.told(body) if body else Refused(503, f"version {guest.version} gives no answer now")
        answered = await self._run(table, table.first, form, id, data, guest.version)
        self._unanswered(route, id, taken, said["state"])
        return answered

    def _copy(self, table: Table, guest: Guest, form: str, id: str, data: bytes) -> None:
        """A shadow gets the request too; nobody waits for it."""
        task = asyncio.get_running_loop().create_task(self._shadow(table, guest, form, id, data))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _shadow(self, table: Table, guest: Guest, form: str, id: str, data: bytes) -> None:
        began, route, serving = time.perf_counter(), table.routes[guest.version], table.serving
        try:
            said, _ = await guest.ask(form, id, data, serving.max_rows, serving.deadline)
        except Failed as failed:
            self._unanswered(route, id, time.perf_counter() - began, str(failed))
            return
        if said["state"] == "answered":
            self._keep(route, said, time.perf_counter() - began, len(data))

    def _entered(self, route: Route, found: Answered, taken: float, size: int, instead: int) -> Reply:
        """Counted and logged."""
        batch = found.batch
        entry = Entry(found.id, route.version, batch.rows, taken, route.role, route.arm, "", instead)
        entry.size, entry.columns, entry.answer = size, batch.columns, found.answer
        self.log.add(entry)
        self._telemetry.answered(route, batch.rows, batch.unseen, taken)
        return found.id, found.body

    def _keep(self, route: Route, said: dict[str, Any], seconds: float, size: int) -> None:
        self._telemetry.answered(route, said["rows"], said["unseen"], seconds)
        entry = Entry(said["id"], route.version, said["rows"], seconds, route.role, route.arm)
        entry.size, entry.logged = size, said["logged"]
        self.log.add(entry)

    def _unanswered(self, route: Route, id: str, seconds: float, error: str) -> None:
        self._telemetry.unanswered(route, error)
        self.log.add(Entry(id, route.version, 1, seconds, route.role, route.arm, error))


def batching(serving: Serving) -> Batching:
    """As declared; else what arrives together anyway."""
    return Batching(int(serving.batching["size"]), serving.batching["wait"]) if serving.batching else Turns()


def _choose(table: Table, form: str, headers: Headers, data: bytes) -> Loaded | Guest:
    sticky = table.sticky
    if sticky is None:
        return table.choose()
    request = forms.FORMS[form].plain(data) if sticky.where == "field" else None
    return table.choose(lambda: sticky.draw(dict(headers), request))
