"""A listening socket on this machine, or who has it."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_core.errors import ServingError

BACKLOG = 2048
PATIENCE = 2.0  # a process that was just killed lets go of its port a moment after its lock


def address(host: str, port: int, scheme: str = "http") -> dict[str, Any]:
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    return {"host": host, "port": port, "url": url}


def bind(host: str, port: int, state: Path) -> socket.socket:
    """Listens already, so that callers who come before the process is up wait instead of being refused."""
    end = time.monotonic() + PATIENCE
    while True:
        listening = socket.socket(_family(host), socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)
            return listening
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                raise ServingError(f"cannot listen on {host}:{port}: {error.strerror}") from error
            if time.monotonic() > end:
                raise ServingError(f"port {port} on {host} is taken by {owner(port)}; {_advice(state)}") from error
            time.sleep(0.05)


def reserve(host: str, *ports: int | None) -> list[socket.socket]:
    """Sockets that keep `ports` for the processes of this user that share them (SO_REUSEPORT), as long as they live.

    They do not listen, so no caller comes to them. Without them, whatever asks the system for any free port may be
    given one of ours before the process that is to listen there is up. Raises ServingError where one is taken.
    """
    found = []
    for port in filter(None, ports):
        _refuse_taken(host, port)  # several processes may share a port without a word
        one = socket.socket(_family(host))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((host, port))
        found.append(one)
    return found


def _refuse_taken(host: str, port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        with socket.socket(_family(host)) as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind((host, port))
                return
            except OSError as error:
                if time.monotonic() > end:
                    why = f"is taken by {owner(port)}" if error.errno == errno.EADDRINUSE else str(error.strerror)
                    raise ServingError(f"port {port} on {host} {why}; declare another one") from error
        time.sleep(0.05)


def owner(port: int) -> str:
    """The process that listens on a port, in words, where this system tells."""
    inodes = _inodes(port)
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # what is not ours to look at, or has just gone
            if os.readlink(link) in inodes:
                process = link.parent.parent
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return "another process"


def _inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{words[9]}]")
    return found


def _advice(state: Path) -> str:
    return f"stop it, declare another 'port', or remove {state / 'desired.json'} to have a free one chosen"


def other_ports(
    before: Mapping[str, Any], host: str, grpc: int | None, admin: int | None, admin_host: str
) -> dict[str, Any]:
    """The ports of an endpoint beside its main one: those that are wanted; for 0 the one kept from `before`, or a free
    one. None for gRPC is none; operators always have a port, `apart` from the main one where it is wanted.

    Raises ServingError where gRPC cannot be served.
    """
    if grpc is not None:
        _refuse_without_grpc()
        grpc = grpc or before.get("grpc_port") or _free(host)
    kept = before.get("admin_port") if before.get("admin_host") == admin_host else None
    found = {"admin_port": admin or kept or _free(admin_host), "admin_host": admin_host, "apart": admin is not None}
    return {"grpc_port": grpc, **found}


def _refuse_without_grpc() -> None:
    if importlib.util.find_spec("grpc") is None or importlib.util.find_spec("google.protobuf") is None:
        raise ServingError("grpc_port needs grpcio: python -m pip install 'mlops-core-framework[grpc]'")


def _free(host: str) -> int:
    with socket.socket(_family(host)) as free:
        free.bind((host, 0))
        found: int = free.getsockname()[1]
        return found


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
