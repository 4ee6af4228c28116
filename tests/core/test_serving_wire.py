"""An answer leaves in one write where it can, and never waits for what does not come. Real uvicorn, raw sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from mlops_core import WholeAnswers

Connect = Callable[[], socket.socket]
BODY = threading.Event()


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """/whole at once, /late with its body when `BODY` is set, /empty without one, /broken fails after its head."""
    path, length = scope["path"], 0 if scope["path"] == "/empty" else 5
    headers = [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200 if length else 204, "headers": headers})
    if path == "/broken":
        raise RuntimeError("after the head")
    if path == "/late":
        await asyncio.to_thread(BODY.wait, 60)
    await send({"type": "http.response.body", "body": b"whole"[:length]})


class Noting:
    """A real transport that notes what is written to it."""

    def __init__(self, transport: Any, seen: list[bytes]) -> None:
        self.transport, self.seen = transport, seen

    def write(self, data: bytes) -> None:
        self.seen.append(data)
        self.transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


@pytest.fixture
def written() -> list[bytes]:
    return []


@pytest.fixture(params=["uvloop", "asyncio"])
def connect(request: pytest.FixtureRequest, written: list[bytes]) -> Iterator[Connect]:
    class Protocol(WholeAnswers):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(Noting(transport, written))  # type: ignore[arg-type]

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(answers, http=Protocol, loop=request.param, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield lambda: socket.create_connection(listening.getsockname(), timeout=10)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def ask(connection: socket.socket, path: str, method: str = "GET") -> None:
    connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())


def until(connection: socket.socket, end: bytes) -> bytes:
    """What comes until `end` came; all of it where `end` is empty."""
    found = b""
    while not end or not found.endswith(end):
        more = connection.recv(4096)
        if not more:
            break
        found += more
    return found


def test_head_and_body_are_one_write(connect: Connect, written: list[bytes]) -> None:
    with connect() as connection:
        for count in (1, 2):
            ask(connection, "/whole")
            assert until(connection, b"whole").startswith(b"HTTP/1.1 200 OK\r\n")
            assert len(written) == count
            assert written[-1].endswith(b"\r\n\r\nwhole")


@pytest.mark.parametrize(("path", "method"), [("/empty", "GET"), ("/whole", "HEAD")])
def test_a_head_alone_is_sent_at_once(connect: Connect, path: str, method: str) -> None:
    with connect() as connection:
        for _ in range(2):
            ask(connection, path, method)
            assert until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 20")
        ask(connection, "/whole")
        assert until(connection, b"whole").count(b"HTTP/1.1") == 1


def test_a_head_does_not_wait_for_a_late_body(connect: Connect) -> None:
    BODY.clear()
    with connect() as connection:
        ask(connection, "/late")
        assert until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        BODY.set()
        assert until(connection, b"whole") == b"whole"


def test_an_app_that_fails_after_its_head_ends_the_connection(connect: Connect) -> None:
    with connect() as connection:
        ask(connection, "/broken")
        found = until(connection, b"")
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")
    assert found.endswith(b"\r\n\r\n")
