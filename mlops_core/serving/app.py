"""The ASGI front door, without a framework: a request costs parsing, the model, and little else.

    GET  /  /docs  /openapi.json  /status  /metrics  /healthz  /readyz
    POST /predict
    GET  /v2  /v2/health/live  /v2/health/ready  /v2/models/NAME[/versions/N][/ready]
    POST /v2/models/NAME[/versions/N]/infer
    POST /v2/models/NAME/feedback

Versions change with `apply`: the new ones are loaded and must answer their smoke set first, then one
assignment switches; requests under way end with the models they began with. Who answers is up to `dispatch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from mlops_core.contracts import Serving
from mlops_core.privacy import personal, trace
from mlops_core.serving import access_log, exposition, forms, openapi, pages, protocol_v2, requests
from mlops_core.serving.access_log import AccessLog
from mlops_core.serving.dispatch import ROUTE, Dispatch, batching
from mlops_core.serving.door import ADMIN, Door, scope_of, shown
from mlops_core.serving.guests import Guest
from mlops_core.serving.labelling import Labelling
from mlops_core.serving.log import PredictionLog, pseudonyms
from mlops_core.serving.models import Known, Loaded, Table, load
from mlops_core.serving.problems import Refused
from mlops_core.serving.requests import Gone, Headers, Receive, Scope, Send
from mlops_core.serving.telemetry import Telemetry, told

if TYPE_CHECKING:
    from mlops_core.plugins import Plugins

Reply = tuple[int, bytes, bytes]  # status, content type, body

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
        self._replicas: int | None = None
        self._labels = Labelling(serving.log)
        self._applying = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2), thread_name_prefix="predict")
        self._telemetry = Telemetry(self._beside)
        self._dispatch = Dispatch(serving, _open_log(self._table), self._telemetry, self._pool)
        self._accesses = _access_log(serving)
        self.draining = False
        self.at_admin: Callable[[Scope], bool] | None = None  # whether a caller came by the port of the operators
        self.apart = False  # whether only that port tells what is theirs; where callers need keys it always is so

    @property
    def serving(self) -> Serving:
        return self._table.serving

    @property
    def personal(self) -> bool:
        """Whether requests hold values that no log may tell."""
        table = self._table
        known: list[Known] = [*table.loaded.values(), *table.guests.values()]
        return any(personal(model.bundle.signature) for model in known)

    def apply(self, serving: Serving) -> None:
        """Makes `serving` so, or raises ServingError and leaves everything as it was. Blocks while models load:
        call it in a thread where an event loop runs."""
        with self._applying:
            before, old, labels = self._table, self._dispatch.log, self._labels
            table = load(serving, self._plugins, before)
            if serving.log == self._table.serving.log:
                _keep(old, table)
            else:
                self._dispatch.log, self._labels = _open_log(table), Labelling(serving.log)
            self._table, self._door = table, Door(serving)
            if self._replicas is not None:
                self.shared_by(self._replicas)
            if serving.batching != before.serving.batching:
                self._dispatch.batching = batching(serving)
            if serving.access_log != (self._accesses is not None):
                accesses, self._accesses = self._accesses, _access_log(serving)
                if accesses is not None:
                    accesses.close()
            if old is not self._dispatch.log:
                old.close()
                labels.close()
            for guest in before.guests.values():
                if guest not in table.guests.values():
                    guest.close()  # what it was asked and has not answered, the stable version answers

    def close(self) -> None:
        """Ends the threads and guests; what is queued for the prediction log is written first. Waits for a change
        that is under way, whose guests are to end too."""
        with self._applying:
            self._pool.shutdown(wait=True)
            for guest in self._table.guests.values():
                guest.close()
            self._dispatch.log.close()
            self._labels.close()
            self._telemetry.close()
            if self._accesses is not None:
                self._accesses.close()

    def shared_by(self, replicas: int) -> None:
        """How many processes share out the rates of the keys, where that is not as declared: Serve scales."""
        self._replicas = replicas
        self._door.share = 1 / max(1, replicas)

    def share(self, folder: Path) -> None:
        """From now on `status` and /metrics are of all processes of the endpoint that share this folder."""
        self._telemetry.share(folder)

    def status(self) -> dict[str, Any]:
        """Counts since the start, and how guests and the prediction log fare. Reads files where it is shared."""
        serving, whole = self._table.serving, self._telemetry.whole()
        routes = [
            {"version": r.version, "weight": r.weight, "role": r.role, "arm": r.arm, "sha256": r.sha256}
            for r in serving.routes
        ]
        return {"name": serving.name, "routes": routes, **told(whole)}

    def metrics(self) -> bytes:
        """The same for Prometheus."""
        serving = self._table.serving
        return exposition.expose(self._telemetry.whole(), serving.name, _version(), serving.routes)

    def count(self, what: Literal["refused", "failed"], status: int = 500) -> None:
        """One more request that was 'refused' with a status, or 'failed'."""
        if what == "refused":
            self._telemetry.refused(status)
        else:
            self._telemetry.failed()

    def hidden(self, scope: Scope | None = None) -> bool:
        """Whether pages and counts are kept from this caller, or from the main port, for they are on another port."""
        if self.at_admin is None or not (self.apart or self.serving.auth == "keys"):
            return False
        return scope is None or not self.at_admin(scope)

    def _beside(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """For the telemetry: what guests and the prediction log count, and how they are now."""
        guests = {str(v): guest.status() for v, guest in sorted(self._table.guests.items())}
        logged = self._dispatch.log.status()
        counts = {
            "guests": {v: {"starts": g["starts"], "failures": g["failures"]} for v, g in guests.items()},
            "log": {name: logged[name] for name in ("written", "dropped")} | {"labels": self._labels.kept},
        }
        now = {
            "guests": {v: {"up": int(g["state"] == "up"), "error": g["error"]} for v, g in guests.items()},
            "log": {name: logged[name] for name in ("waiting", "error", "written_at")}
            | {"labels_error": self._labels.error},
        }
        return counts, now

    def admitted(self, headers: Headers, path: str) -> Table:
        """The endpoint as it stands, for a caller who may ask for `path`. Raises Refused."""
        self._door.admit(headers, scope_of(path))
        return self._table

    async def infer(
        self, table: Table, asked: Loaded | Guest | None, form: str, id: str, data: bytes, headers: Headers
    ) -> tuple[str, bytes]:
        """The request's id and the answer's body, by the version `asked` for or by one of those that answer."""
        return await self._dispatch.infer(table, asked, form, id, data, headers)

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
        await self.drain()
        await send({"type": "lifespan.shutdown.complete"})

    async def drain(self) -> None:
        """Once no request is under way: lets the shadows finish their copies, and ends the guests."""
        await self._dispatch.drain(2 * self.serving.deadline)
        for guest in self._table.guests.values():
            await guest.leave()
        self.flush()

    def flush(self) -> None:
        """Writes what is queued for the prediction log."""
        self._dispatch.log.flush()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = []
        began = time.perf_counter()
        self._telemetry.in_flight += 1
        try:
            status, kind, body = await self._answer(scope, receive, headers)
        except Gone:
            raise
        except Refused as refused:
            self.count("refused", refused.status)
            status, kind, body = refused.status, PROBLEM, refused.body()
            headers += refused.headers
        except Exception as error:
            self.count("failed")
            log.error("%s %s failed: %s", scope["method"], scope["path"], trace(error, self.personal))
            status, kind, body = (
                500,
                PROBLEM,
                Refused(500, "the request failed here; the endpoint's log says why").body(),
            )
        finally:
            self._telemetry.in_flight -= 1
        if kind is HTML:
            headers += pages.SAFE
        if self._accesses is not None:
            taken = time.perf_counter() - began
            self._accesses.add(access_log.line(scope, headers, ROUTE.get(), status, taken, len(body)))
        headers += [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive, headers: Headers) -> Reply:
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/") or "/"
        if path in ADMIN and self.hidden(scope):
            raise Refused(404, "this is told on the admin port only")
        table = self.admitted(scope["headers"], path)
        if path == "/predict":
            return await self._infer(table, None, "plain", scope, receive, headers)
        if path in PAGES:
            requests.allow(scope, "GET", "HEAD")
            return PAGES[path](self, table)
        if path in TOLD:
            requests.allow(scope, "GET", "HEAD")
            return await asyncio.get_running_loop().run_in_executor(self._pool, TOLD[path], self, table)
        found = requests.MODEL.fullmatch(path)
        if not found or found["name"] != table.serving.name:
            raise requests.lost(path, found, table.serving.name)
        model = table.version(found["version"]) if found["version"] else None
        if found["verb"] == "infer":
            return await self._infer(table, model, "tensors", scope, receive, headers)
        if found["verb"] == "feedback" and model is None:
            return await self._feedback(table, scope, receive)
        requests.allow(scope, "GET", "HEAD")
        if found["verb"] == "feedback":
            raise requests.lost(path, None, table.serving.name)
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

    async def _feedback(self, table: Table, scope: Scope, receive: Receive) -> Reply:
        """Answers when the labels are on the disk: in a thread."""
        requests.allow(scope, "POST")
        data = await requests.body(scope, receive, table.serving.max_bytes)
        signature, limit, by = table.first.bundle.signature, table.serving.max_rows, shown(scope["headers"])
        loop = asyncio.get_running_loop()
        return 200, JSON, await loop.run_in_executor(self._pool, self._labels.take, data, signature, limit, by)

    def _ready(self, extra: dict[str, Any]) -> Reply:
        return 503 if self.draining else 200, JSON, orjson.dumps(extra | {"ready": not self.draining})


SERVER = orjson.dumps({"name": "mlops_core", "version": "2", "extensions": protocol_v2.EXTENSIONS})
PAGES: dict[str, Callable[[App, Table], Reply]] = {
    "/docs": lambda app, table: (200, HTML, pages.docs(table)),
    "/openapi.json": lambda app, table: (200, JSON, orjson.dumps(openapi.describe(table, not app.hidden()))),
    "/healthz": lambda app, table: (200, JSON, b'{"live":true}'),
    "/readyz": lambda app, table: app._ready({}),
    "/v2": lambda app, table: (200, JSON, SERVER),
    "/v2/health/live": lambda app, table: (200, JSON, b'{"live":true}'),
    "/v2/health/ready": lambda app, table: app._ready({}),
}

TOLD: dict[str, Callable[[App, Table], Reply]] = {  # from files of other processes: in a thread
    "/": lambda app, table: (200, HTML, pages.home(table, app.status())),
    "/status": lambda app, table: (200, JSON, orjson.dumps(app.status())),
    "/metrics": lambda app, table: (200, exposition.CONTENT_TYPE, app.metrics()),
}


def _access_log(serving: Serving) -> AccessLog | None:
    if not serving.access_log:
        return None
    serving.state.mkdir(parents=True, exist_ok=True)
    return AccessLog(serving.state / "access.log")


@functools.cache
def _version() -> str:
    return version("mlops-core-framework")


def _open_log(table: Table) -> PredictionLog:
    opened = PredictionLog(table.serving.log)
    _keep(opened, table)
    return opened


def _keep(kept: PredictionLog, table: Table) -> None:
    kept.names, kept.retention = pseudonyms(table.serving), table.serving.retention
    models: list[Known] = [*table.loaded.values(), *table.guests.values()]
    for model in models:
        kept.keep(model.version, model.bundle)
