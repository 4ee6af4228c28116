"""How an answer leaves the process: its head and its body in one write.

uvicorn writes them one by one. A process that is killed in between leaves half an answer, which nobody in front
of it may ask for again; and two writes are one system call too many.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD = b"HTTP/1."


class WholeAnswers(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # whichever of uvicorn's two can be had
    """uvicorn's HTTP protocol over a transport that holds a head back until what follows it is written."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _HeadWaits(transport, self.loop)))


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
