"""How an answer leaves the process: its head and its body in one write. And how long a request may take to come.

uvicorn writes them one by one. A process that is killed in between leaves half an answer, which nobody in front
of it may ask for again; and two writes are one system call too many. uvicorn also waits for ever for a request
that comes byte by byte, so that a few hundred callers who do so (slowloris) would hold every connection.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from mlops_core.serving.problems import Refused

HEAD = b"HTTP/1."
LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"


class WholeAnswers(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # whichever of uvicorn's two can be had
    """uvicorn's HTTP protocol over a transport that holds a head back until what follows it is written."""

    seconds = 30.0  # from the beginning of a connection or a request to the end of its body
    _since: float | None = None
    _timer: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _HeadWaits(transport, self.loop)))
        self._since = self.loop.time()
        self._timer = self.loop.call_later(self.seconds, self._look)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            self._since = None  # the request is whole
        elif self._since is None:
            self._since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """One timer a connection, wound up again each time: requests that come in time cost nothing."""
        waited = 0.0 if self._since is None else self.loop.time() - self._since
        if waited < self.seconds:
            self._timer = self.loop.call_later(max(self.seconds - waited, 0.01), self._look)
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            body = Refused(408, f"the request was not whole after {self.seconds:g} s").body()
            self.transport.write(LATE + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()


class _HeadWaits:
    """A transport. What was written as a head goes out with the next write, or when the loop turns."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
