"""The ledger in a SQLite file: WAL, so that readers never wait; every commit synced, so that none is lost."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlops_core.errors import StoreError, UsageError
from mlops_core.ledger.database import Database, Row

_BUSY_SECONDS = 30.0


class Sqlite(Database):
    _dialect = 0

    def __init__(self, url: str) -> None:
        super().__init__()
        self.path = _path(url)
        self.shown = str(self.path)

    @property
    def place(self) -> str:
        return str(self.path)

    def _connect(self, create: bool) -> sqlite3.Connection | None:
        if not create and not self.path.exists():
            return None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError.of(f"cannot create the ledger {self.shown}", error) from error
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _lost(self) -> bool:
        return False

    def _begin(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")

    def _rollback(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def _query(self, connection: sqlite3.Connection, sql: str, args: Sequence[object]) -> list[Row]:
        return connection.execute(sql, args).fetchall()

    def _script(self, connection: sqlite3.Connection, sql: str) -> None:
        # executescript() would commit first; a trigger's body holds semicolons of its own.
        statement = ""
        for line in sql.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                connection.execute(statement)
                statement = ""

    def _version(self, connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    def _stamp(self, connection: sqlite3.Connection) -> None:
        from mlops_core.ledger.schema import VERSION

        connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"the ledger {self.shown} {self._words(error)}") from error

    def _words(self, error: sqlite3.Error) -> str:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_FULL"):
            return "cannot be written: the disk is full; nothing was changed"
        if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN")):
            return f"cannot be opened for writing: {self.path.parent} is read-only, or closed to this user ({error})"
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return f"is damaged ({error}); restore it from a copy, or move it away to begin anew"
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return f"was kept busy by another process for {_BUSY_SECONDS:.0f} s; try again"
        if name.startswith("SQLITE_IOERR"):
            return f"cannot be read or written ({error}: {name}): look at the disk, it may be full or failing"
        return f"refused: {error}"


def _use_wal(connection: sqlite3.Connection) -> None:
    """WAL stays with the file. Switching to it does not wait for others by itself, so this does."""
    end = time.monotonic() + _BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _path(url: str) -> Path:
    if "://" not in url:
        return Path(url)
    parts = urllib.parse.urlsplit(url)
    if parts.netloc or not parts.path.strip("/"):
        raise UsageError(
            f"store.ledger: {url!r} names no file; expected sqlite:///relative/path or sqlite:////absolute/path"
        )
    # SQLAlchemy's form: three slashes and a relative path, four and an absolute one.
    return Path(urllib.parse.unquote(parts.path[1:]))
