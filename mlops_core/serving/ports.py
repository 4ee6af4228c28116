"""A listening socket on this machine, or who has it."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import socket
import time
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
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    end = time.monotonic() + PATIENCE
    while True:
        listening = socket.socket(family, socket.SOCK_STREAM)
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


def rpc_port(wanted: int | None, host: str, kept: int | None = None) -> int | None:
    """The port for gRPC: `wanted`; for 0 the one that was `kept`, or a free one. Raises ServingError where it
    cannot be served."""
    if wanted is None:
        return None
    if importlib.util.find_spec("grpc") is None or importlib.util.find_spec("google.protobuf") is None:
        raise ServingError("grpc_port needs grpcio: python -m pip install 'mlops-core-framework[grpc]'")
    if wanted or kept:
        return wanted or kept
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        free.bind((host, 0))
        found: int = free.getsockname()[1]
        return found
