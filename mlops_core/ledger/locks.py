"""One run at a time on one project: a lock that the holder's death releases."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from mlops_core.errors import StoreError
from mlops_core.ledger.database import Database
from mlops_core.ledger.records import now

Waiting = Callable[[str], None]


class Locks:
    db: Database

    def lock(
        self, name: str, waiting: Waiting | None = None, timeout: float | None = None
    ) -> AbstractContextManager[None]:
        """Holds the lock of project `name`; another holder, in any process, is waited for.

        Calls `waiting` once with who holds it, in words. Raises StoreError after `timeout` seconds.
        """
        from mlops_core.ledger.postgresql import Postgresql

        if isinstance(self.db, Postgresql):
            return _server_lock(self.db, name, waiting, timeout)
        return _file_lock(Path(self.db.place), name, waiting, timeout)


@contextmanager
def _file_lock(place: Path, name: str, waiting: Waiting | None, timeout: float | None) -> Iterator[None]:
    path = place.with_name(f"{place.name}.{_slug(name)}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError.of(f"cannot lock {name} by {path}", error) from error
    try:
        _wait(name, lambda: _flock(fd), lambda: _holder(os.pread(fd, 1000, 0)), waiting, timeout)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps([os.getpid(), os.uname().nodename, now()]).encode(), 0)
        yield
    finally:
        os.close(fd)


@contextmanager
def _server_lock(db: Any, name: str, waiting: Waiting | None, timeout: float | None) -> Iterator[None]:
    with db.told():
        with db.write():  # makes the tables where they are missing
            pass
        connection = db.connect()
    key = int.from_bytes(hashlib.sha256(f"lock:{name}".encode()).digest()[:8], "big", signed=True)

    def held() -> bool:
        with db.told():
            return bool(connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()[0])

    def holder() -> str:
        row = db.row("SELECT pid, host, since FROM mlops_locks WHERE name = ?", name)
        return _holder(json.dumps(list(row)).encode() if row else b"")

    try:
        _wait(name, held, holder, waiting, timeout)
        with db.write() as tx:
            tx.write("DELETE FROM mlops_locks WHERE name = ?", name)
            tx.insert("mlops_locks", name=name, pid=os.getpid(), host=os.uname().nodename, since=now())
        yield
    finally:
        connection.close()


def _wait(
    name: str, held: Callable[[], bool], holder: Callable[[], str], waiting: Waiting | None, timeout: float | None
) -> None:
    start, told = time.monotonic(), False
    while not held():
        if timeout is not None and time.monotonic() - start >= timeout:
            raise StoreError(f"{name} is in use by {holder()}; gave up after {timeout:g} s")
        if waiting is not None and not told:
            waiting(holder())
            told = True
        time.sleep(0.1)


def _flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(raw: bytes) -> str:
    try:
        pid, host, since = json.loads(raw)
    except ValueError:
        return "another process"
    return f"process {pid} on {host} since {since[:19]}Z"


def _slug(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
