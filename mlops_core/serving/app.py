"""The ASGI front door, without a framework: a request costs parsing, the model, and little else.

    GET  /  /docs  /openapi.json  /status  /healthz  /readyz
    POST /predict
    GET  /v2  /v2/health/live  /v2/health/ready  /v2/models/NAME[/versions/N][/ready]
    POST /v2/models/NAME[/versions/N]/infer

Versions change with `apply`: the new ones are loaded and must answer their smoke set first, then one
assignment switches; requests under way end with the models they began with. Candidates and shadows are guests
(`guests`): a candidate that fails or is late is answered for by the stable version, a shadow gets a copy of
what was answered already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson

from mlops_core.contracts import Route, Serving
from mlops_core.serving import forms, openapi, pages, protocol_v2, requests
from mlops_core.serving.answering import answer
from mlops_core.serving.door import Door, scope_of
from mlops_core.serving.guests import Failed, Guest
from mlops_core.serving.log import Entry, PredictionLog
from mlops_core.serving.models import Known, Loaded, Table, load
from mlops_core.serving.problems import Refused
from mlops_core.serving.requests import Gone, Receive, Scope, Send

if TYPE_CHECKING:
    from mlops_core.plugins import Plugins

Reply = tuple[int, bytes, bytes]  # status, content type, body
Headers = list[tuple[bytes, bytes]]

INLINE_BYTES = 32 * 1024  # a larger body is read and answered in a thread, so that small ones need not wait for it
JSON, HTML, PROBLEM = b"application/json", b"text/html; charset=utf-8", b"application/problem+json"
BINARY = b"application/octet-stream"
log = logging.getLogger("mlops_core.serving")


def create_app(serving: Serving, plugins: Plugins | None = None) -> App:
    """The endpoint as an ASGI application. Raises ServingError where a version cannot be served."""
    return App(serving, plugins)


class App:
    """An endpoint that answers. `apply` changes what it serves, `status` tells, `close` ends it."""

    def __init__(self, serving: Serving, plugins: Plugins | None = None) -> None:
        self._plugins = plugins
        self._table = load(serving, plugins)
        self._door = Door(serving)
        self._copies: set[asyncio.Task[None]] = set()
        self._log = _open_log(self._table)
        self._applying = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2), thread_name_prefix="predict")
        self._counts = {"requests": 0, "rows": 0, "refused": 0, "failed": 0, "unseen": 0}
        self._by_version: dict[int, int] = {}
        self.draining = False

    @property
    def serving(self) -> Serving:
        return self._table.serving

    def apply(self, serving: Serving) -> None:
        """Makes `serving` so, or raises ServingError and leaves everything as it was. Blocks while models load:
        call it in a thread where an event loop runs."""
        with self._applying:
            before, old = self._table, self._log
            table = load(serving, self._plugins, before)
            if serving.log == self._table.serving.log:
                _keep(old, table)
            else:
                self._log = _open_log(table)
            self._table, self._door = table, Door(serving)
            if old is not self._log:
                old.close()
            for guest in before.guests.values():
                if guest not in table.guests.values():
                    guest.close()  # what it was asked and has not answered, the stable version answers

    def close(self) -> None:
        """Ends the threads and guests; what is queued for the prediction log is written first."""
        self._pool.shutdown(wait=True)
        for guest in self._table.guests.values():
            guest.close()
        self._log.close()

    def status(self) -> dict[str, Any]:
        """Counts since the start, and how the prediction log fares."""
        table = self._table
        routes = [
            {"version": r.version, "weight": r.weight, "role": r.role, "arm": r.arm, "sha256": r.sha256}
            for r in table.serving.routes
        ]
        by_version = {str(v): n for v, n in sorted(self._by_version.items())}
        return {
            "name": table.serving.name,
            "routes": routes,
            **self._counts,
            "by_version": by_version,
            "guests": {str(v): guest.status() for v, guest in sorted(table.guests.items())},
            "log": self._log.status(),
        }

    def count(self, what: str) -> None:
        """One more request that was 'refused' or 'failed'."""
        self._counts[what] += 1

    def admitted(self, headers: Headers, path: str) -> Table:
        """The endpoint as it stands, for a caller who may ask for `path`. Raises Refused."""
        self._door.admit(headers, scope_of(path))
        return self._table

    async def infer(
        self, table: Table, asked: Loaded | Guest | None, form: str, id: str, data: bytes, headers: Headers
    ) -> tuple[str, bytes]:
        """The request's id and the answer's body, by the version `asked` for or by one of those that answer."""
        model = asked or _choose(table, form, headers, data)
        if isinstance(model, Guest):
            id, body = await self._visit(table, model, form, id, data, alone=asked is not None)
        else:
            id, body = await self._run(table, model, form, id, data)
        for shadow in table.shadows if asked is None else ():
            self._copy(table, shadow, form, id, data)
        return id, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            with contextlib.suppress(Gone):
                await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        self._log.flush()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = []
        try:
            status, kind, body = await self._answer(scope, receive, headers)
        except Gone:
            raise
        except Refused as refused:
            self._counts["refused"] += 1
            status, kind, body = refused.status, PROBLEM, refused.body()
            headers += refused.headers
        except Exception:
            self._counts["failed"] += 1
            log.exception("%s %s failed", scope["method"], scope["path"])
            status, kind, body = (
                500,
                PROBLEM,
                Refused(500, "the request failed here; the endpoint's log says why").body(),
            )
        if kind is HTML:
            headers += pages.SAFE
        headers += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive, headers: Headers) -> Reply:
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/") or "/"
        table = self.admitted(scope["headers"], path)
        if path == "/predict":
            return await self._infer(table, None, "plain", scope, receive, headers)
        if path in PAGES:
            requests.allow(scope, "GET", "HEAD")
            return PAGES[path](self, table)
        found = requests.MODEL.fullmatch(path)
        if not found or found["name"] != table.serving.name:
            raise requests.lost(path, found, table.serving.name)
        model = table.version(found["version"]) if found["version"] else None
        if found["verb"] == "infer":
            return await self._infer(table, model, "tensors", scope, receive, headers)
        requests.allow(scope, "GET", "HEAD")
        if found["verb"] == "ready":
            return self._ready({"name": table.serving.name})
        versions = [model.version] if model else table.versions
        return 200, JSON, orjson.dumps(protocol_v2.metadata(table.serving.name, versions, model or table.first))

    async def _infer(
        self, table: Table, asked: Loaded | Guest | None, form: str, scope: Scope, receive: Receive, headers: Headers
    ) -> Reply:
        requests.allow(scope, "POST")
        data = await requests.body(scope, receive, table.serving.max_bytes)
        if form == "tensors":
            form, data = forms.spelling(scope["headers"], data)
        id, body = await self.infer(table, asked, form, requests.request_id(scope), data, scope["headers"])
        headers.append((b"x-request-id", id.encode()))
        if not body.startswith(protocol_v2.MARK):
            return 200, JSON, body
        length, body = protocol_v2.unframed(body)
        headers.append((forms.LENGTH, b"%d" % length))
        return 200, BINARY, body

    async def _run(
        self, table: Table, model: Loaded, form: str, id: str, data: bytes, instead: int = 0
    ) -> tuple[str, bytes]:
        """A version of this process answers: the request's id and the body."""
        if len(data) <= INLINE_BYTES:
            return self._answered(table, model, form, id, data, instead)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._answered, table, model, form, id, data, instead)

    def _answered(
        self, table: Table, model: Loaded, form: str, id: str, data: bytes, instead: int
    ) -> tuple[str, bytes]:
        began, route, serving = time.perf_counter(), table.routes[model.version], table.serving
        try:
            found = answer(model, serving.name, form, id, data, serving.max_rows)
        except Refused:
            raise
        except Exception as error:
            self._unanswered(route, id, time.perf_counter() - began, type(error).__name__)
            raise
        batch = found.batch
        taken = time.perf_counter() - began
        entry = Entry(found.id, model.version, batch.rows, taken, route.role, route.arm, "", instead)
        entry.columns, entry.answer = batch.columns, found.answer
        self._log.add(entry)
        self._count(model.version, batch.rows, batch.unseen)
        return found.id, found.body

    async def _visit(
        self, table: Table, guest: Guest, form: str, id: str, data: bytes, alone: bool
    ) -> tuple[str, bytes]:
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
            self._keep(route, said, taken)
            self._count(guest.version, said["rows"], said["unseen"])
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
            self._keep(route, said, time.perf_counter() - began)

    def _keep(self, route: Route, said: dict[str, Any], seconds: float) -> None:
        entry = Entry(said["id"], route.version, said["rows"], seconds, route.role, route.arm)
        entry.logged = said["logged"]
        self._log.add(entry)

    def _unanswered(self, route: Route, id: str, seconds: float, error: str) -> None:
        self._log.add(Entry(id, route.version, 1, seconds, route.role, route.arm, error))

    def _count(self, version: int, rows: int, unseen: int) -> None:
        self._counts["requests"] += 1
        self._counts["rows"] += rows
        self._counts["unseen"] += unseen
        self._by_version[version] = self._by_version.get(version, 0) + rows

    def _ready(self, extra: dict[str, Any]) -> Reply:
        return 503 if self.draining else 200, JSON, orjson.dumps(extra | {"ready": not self.draining})


def _choose(table: Table, form: str, headers: Headers, data: bytes) -> Loaded | Guest:
    sticky = table.sticky
    if sticky is None:
        return table.choose()
    request = forms.FORMS[form].plain(data) if sticky.where == "field" else None
    return table.choose(lambda: sticky.draw(dict(headers), request))


SERVER = orjson.dumps({"name": "mlops_core", "version": "2", "extensions": protocol_v2.EXTENSIONS})
PAGES: dict[str, Callable[[App, Table], Reply]] = {
    "/": lambda app, table: (200, HTML, pages.home(table, app.status())),
    "/docs": lambda app, table: (200, HTML, pages.docs(table)),
    "/openapi.json": lambda app, table: (200, JSON, orjson.dumps(openapi.describe(table))),
    "/status": lambda app, table: (200, JSON, orjson.dumps(app.status())),
    "/healthz": lambda app, table: (200, JSON, b'{"live":true}'),
    "/readyz": lambda app, table: app._ready({}),
    "/v2": lambda app, table: (200, JSON, SERVER),
    "/v2/health/live": lambda app, table: (200, JSON, b'{"live":true}'),
    "/v2/health/ready": lambda app, table: app._ready({}),
}


def _open_log(table: Table) -> PredictionLog:
    opened = PredictionLog(table.serving.log)
    _keep(opened, table)
    return opened


def _keep(kept: PredictionLog, table: Table) -> None:
    models: list[Known] = [*table.loaded.values(), *table.guests.values()]
    for model in models:
        kept.keep(model.version, model.bundle)
