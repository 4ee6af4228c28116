"""The Open Inference Protocol v2 over gRPC, beside HTTP: the same process, event loop, versions, door and log.

A refusal has the code that belongs to its HTTP status and the same words. Needs grpcio (the extra `grpc`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.errors import ServingError
from mlops_core.privacy import trace
from mlops_core.serving import protocol_grpc, protocol_v2
from mlops_core.serving.messages import SERVICE, messages
from mlops_core.serving.ports import owner
from mlops_core.serving.problems import Refused
from mlops_core.serving.renewal import Pair
from mlops_core.serving.requests import Headers, checked_id, new_id

if TYPE_CHECKING:
    from mlops_core.serving.app import App

CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
SENT_BYTES = 256 * 1024 * 1024  # an answer of so many rows as a request may have is larger than that request
FAREWELL = 0.2  # seconds
log = logging.getLogger("mlops_core.serving")


class Rpc:
    """Answers for an `App`. `port` is where it listens once it was started."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.port = 0
        self._server: Any = None
        self._ending = False

    async def start(self, host: str, port: int, tls: tuple[Path, Path] | None = None, *, shared: bool = False) -> None:
        """Listens on `port`, 0 for a free one; `tls` names the files of a certificate and its key. Raises
        ServingError. A `shared` port is that of several processes of one user, among which the system shares out
        connections."""
        from grpc import aio, method_handlers_generic_handler, unary_unary_rpc_method_handler

        calls = {"ServerLive": self._live, "ServerReady": self._ready, "ModelReady": self._model_ready}
        calls |= {"ServerMetadata": self._server_metadata, "ModelMetadata": self._model_metadata}
        calls |= {"ModelInfer": self._infer}
        handlers = {name: unary_unary_rpc_method_handler(self._told(name, call)) for name, call in calls.items()}
        sizes = {"receive": self.app.serving.max_bytes, "send": SENT_BYTES}
        options = [(f"grpc.max_{what}_message_length", size) for what, size in sizes.items()]
        server = aio.server(options=[*options, ("grpc.so_reuseport", int(shared))])
        server.add_generic_rpc_handlers([method_handlers_generic_handler(SERVICE, handlers)])
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                self.port = server.add_insecure_port(where)
            else:
                self.port = server.add_secure_port(where, Pair(*tls).credentials())
        except RuntimeError:
            raise ServingError(f"gRPC cannot listen on {where}: taken by {owner(port)}? declare another port") from None
        await server.start()
        self._server = server

    async def stop(self, grace: float) -> None:
        """Takes no more calls, and waits `grace` seconds for those under way.

        First callers are told for a moment: a call that has come but is not taken yet when gRPC stops is cut off.
        """
        if self._server is not None:
            self._ending = True
            await asyncio.sleep(FAREWELL)
            await self._server.stop(grace)

    def _told(self, name: str, call: Callable[[bytes, Headers], Awaitable[bytes]]) -> Callable[[bytes, Any], Any]:
        """`call` with its refusals and failures as gRPC tells them."""
        from grpc import StatusCode

        async def answered(data: bytes, context: Any) -> bytes:
            sent = context.invocation_metadata() or ()
            headers = [(k.encode(), v if isinstance(v, bytes) else v.encode()) for k, v in sent]
            try:
                if self._ending:
                    raise Refused(503, "this endpoint is ending")
                return await call(data, headers)
            except Refused as refused:
                self.app.count("refused", refused.status)
                code, words = CODES.get(refused.status, "UNKNOWN"), refused.detail
            except Exception as error:
                self.app.count("failed")
                log.error("%s failed: %s", name, trace(error, self.app.personal))
                code, words = "INTERNAL", "the request failed here; the endpoint's log says why"
            await context.abort(StatusCode[code], words)
            raise AssertionError("abort raises")

        return answered

    async def _live(self, data: bytes, headers: Headers) -> bytes:
        return _made("ServerLiveResponse", live=True)

    async def _ready(self, data: bytes, headers: Headers) -> bytes:
        return _made("ServerReadyResponse", ready=not self.app.draining)

    async def _server_metadata(self, data: bytes, headers: Headers) -> bytes:
        self.app.admitted(headers, "/v2")
        return _made("ServerMetadataResponse", name="mlops_core", version="2")

    async def _model_ready(self, data: bytes, headers: Headers) -> bytes:
        self._model(protocol_grpc.parse(data, "ModelReadyRequest"), headers)
        return _made("ModelReadyResponse", ready=not self.app.draining)

    async def _model_metadata(self, data: bytes, headers: Headers) -> bytes:
        table, asked = self._model(protocol_grpc.parse(data, "ModelMetadataRequest"), headers)
        versions = [asked.version] if asked else table.versions
        return _made(
            "ModelMetadataResponse", **protocol_v2.metadata(table.serving.name, versions, asked or table.first)
        )

    async def _infer(self, data: bytes, headers: Headers) -> bytes:
        request = protocol_grpc.parse(data)
        table, asked = self._model(request, headers, request.model_name, request.model_version)
        given = dict(headers).get(b"x-request-id")
        id = new_id() if given is None else checked_id(given.decode("latin-1"))
        _, body = await self.app.infer(table, asked, "messages", id, data, headers)
        return body

    def _model(self, request: Any, headers: Headers, name: str | None = None, version: str | None = None) -> Any:
        """The endpoint as it stands, and the version that is asked for by number, or None. Raises Refused."""
        name = request.name if name is None else name
        version = request.version if version is None else version
        table = self.app.admitted(headers, "/v2/models")
        if name != table.serving.name:
            raise Refused(404, f"there is no model {name[:80]!r} here; this is {table.serving.name!r}")
        return table, table.version(version) if version else None


def _made(message: str, /, **fields: Any) -> bytes:
    found: bytes = messages()[message](**fields).SerializeToString()
    return found
