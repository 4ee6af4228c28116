"""The ASGI front door, without a framework: a request costs parsing, the model, and little else.

    GET  /  /docs  /openapi.json  /status  /healthz  /readyz
    POST /predict
    GET  /v2  /v2/health/live  /v2/health/ready  /v2/models/NAME[/versions/N][/ready]
    POST /v2/models/NAME[/versions/N]/infer

Versions change with `apply`: the new ones are loaded and must answer their smoke set first, then one
assignment switches; requests under way end with the models they began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson

from mlops_core.contracts import Serving
from mlops_core.serving import openapi, pages, protocol_v2, requests
from mlops_core.serving.forms import PLAIN, TENSORS, Form
from mlops_core.serving.log import PredictionLog
from mlops_core.serving.models import Loaded, Table, load
from mlops_core.serving.problems import Refused
from mlops_core.serving.requests import Gone, Receive, Scope, Send
from mlops_core.serving.rows import Batch

if TYPE_CHECKING:
    from mlops_core.plugins import Plugins

Reply = tuple[int, bytes, bytes]  # status, content type, body
Headers = list[tuple[bytes, bytes]]

INLINE_BYTES = 32 * 1024  # a larger body is read and answered in a thread, so that small ones need not wait for it
JSON, HTML, PROBLEM = b"application/json", b"text/html; charset=utf-8", b"application/problem+json"
log = logging.getLogger("mlops_core.serving")


def create_app(serving: Serving, plugins: Plugins | None = None) -> App:
    """The endpoint as an ASGI application. Raises ServingError where a version cannot be served."""
    return App(serving, plugins)


class App:
    """An endpoint that answers. `apply` changes what it serves, `status` tells, `close` ends it."""

    def __init__(self, serving: Serving, plugins: Plugins | None = None) -> None:
        self._plugins = plugins
        self._table = load(serving, plugins)
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
            table, old = load(serving, self._plugins, self._table.loaded.values()), self._log
            if serving.log == self._table.serving.log:
                _keep(old, table)
            else:
                self._log = _open_log(table)
            self._table = table
            if old is not self._log:
                old.close()

    def close(self) -> None:
        """Ends the threads; what is queued for the prediction log is written first."""
        self._pool.shutdown(wait=True)
        self._log.close()

    def status(self) -> dict[str, Any]:
        """Counts since the start, and how the prediction log fares."""
        table = self._table
        routes = [
            {"version": r.version, "weight": r.weight, "role": r.role, "sha256": r.sha256} for r in table.serving.routes
        ]
        by_version = {str(v): n for v, n in sorted(self._by_version.items())}
        return {
            "name": table.serving.name,
            "routes": routes,
            **self._counts,
            "by_version": by_version,
            "log": self._log.status(),
        }

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
        headers += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive, headers: Headers) -> Reply:
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/") or "/"
        table = self._table
        if path == "/predict":
            return await self._infer(table, table.choose(), PLAIN, scope, receive, headers)
        if path in PAGES:
            requests.allow(scope, "GET", "HEAD")
            return PAGES[path](self, table)
        found = requests.MODEL.fullmatch(path)
        if not found or found["name"] != table.serving.name:
            raise requests.lost(path, found, table.serving.name)
        model = table.version(found["version"]) if found["version"] else None
        if found["verb"] == "infer":
            return await self._infer(table, model or table.choose(), TENSORS, scope, receive, headers)
        requests.allow(scope, "GET", "HEAD")
        if found["verb"] == "ready":
            return self._ready({"name": table.serving.name})
        versions = [model.version] if model else sorted(table.loaded)
        return 200, JSON, orjson.dumps(protocol_v2.metadata(table.serving.name, versions, model or table.first))

    async def _infer(
        self, table: Table, model: Loaded, form: Form, scope: Scope, receive: Receive, headers: Headers
    ) -> Reply:
        requests.allow(scope, "POST")
        data = await requests.body(scope, receive, table.serving.max_bytes)
        id = requests.request_id(scope)
        if len(data) <= INLINE_BYTES:
            id, batch, body = self._run(table, model, form, id, data)
        else:
            loop = asyncio.get_running_loop()
            id, batch, body = await loop.run_in_executor(self._pool, self._run, table, model, form, id, data)
        self._count(model.version, batch)
        headers.append((b"x-request-id", id.encode()))
        return 200, JSON, body

    def _run(self, table: Table, model: Loaded, form: Form, id: str, data: bytes) -> tuple[str, Batch, bytes]:
        request = requests.parse(data)
        batch = form.read(model, request, table.serving.max_rows)
        id = form.id(request) or id
        answer = model.predict(batch.columns)
        body = orjson.dumps(form.write(table.serving.name, model, id, answer, request))
        self._log.add(id, model.version, batch.rows, batch.columns, answer)
        return id, batch, body

    def _count(self, version: int, batch: Batch) -> None:
        self._counts["requests"] += 1
        self._counts["rows"] += batch.rows
        self._counts["unseen"] += batch.unseen
        self._by_version[version] = self._by_version.get(version, 0) + batch.rows

    def _ready(self, extra: dict[str, Any]) -> Reply:
        return 503 if self.draining else 200, JSON, orjson.dumps(extra | {"ready": not self.draining})


PAGES: dict[str, Callable[[App, Table], Reply]] = {
    "/": lambda app, table: (200, HTML, pages.home(table, app.status())),
    "/docs": lambda app, table: (200, HTML, pages.docs(table)),
    "/openapi.json": lambda app, table: (200, JSON, orjson.dumps(openapi.describe(table))),
    "/status": lambda app, table: (200, JSON, orjson.dumps(app.status())),
    "/healthz": lambda app, table: (200, JSON, b'{"live":true}'),
    "/readyz": lambda app, table: app._ready({}),
    "/v2": lambda app, table: (200, JSON, b'{"name":"mlops_core","version":"2","extensions":[]}'),
    "/v2/health/live": lambda app, table: (200, JSON, b'{"live":true}'),
    "/v2/health/ready": lambda app, table: app._ready({}),
}


def _open_log(table: Table) -> PredictionLog:
    opened = PredictionLog(table.serving.log)
    _keep(opened, table)
    return opened


def _keep(kept: PredictionLog, table: Table) -> None:
    for version, loaded in table.loaded.items():
        kept.keep(version, loaded.bundle)
