"""The access log: one JSON line for each request, appended off the hot path, in a few files of bounded size.

All processes of an endpoint append to the same file, each a batch with one write(2). Who finds it too large renames
it; the others notice and follow, also where a subject was forgotten and it was written anew. What cannot be written
is dropped and counted: requests never wait for it. It tells who asked for what and how it went, never a query, a body
or a key's secret.

    access.log  access.log.1 ... access.log.3     {time, id, method, path, status, version, arm, seconds, bytes, key}
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from mlops_core.contracts import Route
from mlops_core.segments import is_at
from mlops_core.serving.door import shown
from mlops_core.serving.requests import Headers, Scope
from mlops_core.serving.state import hold

EVERY = 0.2
WAITING = 100_000  # lines
BYTES = 16 * 1024 * 1024
KEPT = 3
PATH = 200  # characters of a path
log = logging.getLogger("mlops_core.serving")


class AccessLog:
    """Appends to `path`. Thread-safe."""

    def __init__(self, path: Path, bytes: int = BYTES) -> None:
        self.path = path
        self.bytes = bytes
        self.dropped = 0
        self.error = ""
        self._queue: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def add(self, line: dict[str, Any]) -> None:
        with self._lock:
            if len(self._queue) >= WAITING:
                self.dropped += 1
            else:
                self._queue.append(line)

    def flush(self) -> None:
        """Writes what is queued now."""
        with self._writing:
            with self._lock:
                taken, self._queue = self._queue, []
            if not taken:
                return
            try:
                self._append(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in taken))
                self.error = ""
            except OSError as error:
                self.dropped += len(taken)
                if not self.error:
                    log.error("access log %s: %s; requests go on", self.path, error)
                self.error = str(error)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            self.flush()

    def _append(self, data: bytes) -> None:
        """Opened for each batch, so that a file that somebody else has renamed is never written to for long."""
        with _opened(self.path) as file:
            os.write(file, data)
            if os.fstat(file).st_size < self.bytes:
                return
        with still(self.path):
            if self.path.exists() and self.path.stat().st_size >= self.bytes:
                self._turn()

    def _turn(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, KEPT + 1))]
        for newer, older in reversed(list(pairwise(names))):
            if newer.exists():
                newer.replace(older)


def line(scope: Scope, headers: Headers, route: Route | None, status: int, seconds: float, size: int) -> dict[str, Any]:
    """What is kept of a request: `headers` are those of its answer, `route` is who answered, `size` the answer's."""
    found: dict[str, Any] = {"time": round(time.time(), 6), "id": dict(headers).get(b"x-request-id", b"").decode()}
    found |= {"method": scope["method"], "path": scope["path"][:PATH], "status": status}
    found |= {"version": route.version, "arm": route.arm} if route else {"version": None, "arm": ""}
    found |= {"seconds": round(seconds, 6), "bytes": size}
    return found | {"key": "" if status == 401 else shown(scope["headers"])}


@contextlib.contextmanager
def still(path: Path) -> Iterator[None]:
    """Nobody renames a file of the log at `path` meanwhile."""
    with hold(path.with_name(".access.lock")):
        yield


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """What has this name now, to append to. Nobody writes it anew meanwhile."""
    while True:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_at(path, file):
                yield file
                return
        finally:
            os.close(file)
