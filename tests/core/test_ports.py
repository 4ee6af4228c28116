"""Ports that are kept for a process that is not up yet."""

from __future__ import annotations

import socket

import pytest

from mlops_core import reserve
from mlops_core.errors import ServingError


def test_a_reserved_port_is_for_those_who_share_it_and_takes_no_caller():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (kept,) = reserve("127.0.0.1", port, None)
    with kept, socket.socket() as stranger, socket.socket() as server:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        server.settimeout(5)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
                pass


def test_a_port_on_which_somebody_listens_cannot_be_reserved_even_if_it_is_shared():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServingError, match=rf"port {port} on 127\.0\.0\.1 is taken by process \d+ \("):
            reserve("127.0.0.1", port)
