"""One way to speak to SQLite and to PostgreSQL: `write()` is a transaction, `read()` a query.

Both are spoken to directly: importing SQLAlchemy takes ten times the CPU of a whole run that has nothing to do.
SQL is written once, with `?` for arguments.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mlops_core.errors import StoreError
from mlops_core.ledger.schema import MIGRATIONS, VERSION

Row = Sequence[Any]
_INHERITED: list[Any] = []


class Database(ABC):
    """A database that is opened when it is first used, and again in a forked child."""

    shown: str

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._connection: Any = None
        self._pid = 0

    def read(self, sql: str, *args: Any) -> list[Row]:
        """The rows of a query; none where nothing was ever written."""
        with self._lock, self._told():
            connection = self._open(create=False)
            if connection is None:
                return []
            try:
                return self._query(connection, sql, args)
            except Exception:
                if not self._lost():
                    raise
            return self._query(self._open(create=False), sql, args)

    def row(self, sql: str, *args: Any) -> Row | None:
        return next(iter(self.read(sql, *args)), None)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One transaction. Writers of one database take turns, so what is read within stays true to its end."""
        with self._lock, self._told():
            connection = self._begun()
            try:
                yield Transaction(self, connection)
                self._query(connection, "COMMIT", ())
            except BaseException:
                self._rollback(connection)
                raise

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def _begun(self) -> Any:
        connection = self._open(create=True)
        try:
            self._begin(connection)
        except Exception:
            if not self._lost():
                raise
            connection = self._open(create=True)
            self._begin(connection)
        return connection

    def _open(self, create: bool) -> Any:
        if self._connection is not None and self._pid != os.getpid():
            _INHERITED.append(self._connection)  # of the parent process, which goes on using it: not ours to close
            self._connection = None
        if self._connection is None or self._lost():
            self._connection = self._connect(create)
            self._pid = os.getpid()
            if self._connection is not None:
                try:
                    self._upgrade(self._connection)
                except BaseException:
                    self.close()
                    raise
        return self._connection

    def _upgrade(self, connection: Any) -> None:
        found = self._version(connection)
        if found == VERSION:
            return
        self._begin(connection)
        try:
            found = self._version(connection)
            if found > VERSION:
                raise StoreError(
                    f"the ledger {self.shown} was written by a newer mlops_core (schema {found}, this one knows "
                    f"{VERSION}); upgrade mlops_core"
                )
            for step in MIGRATIONS[found:]:
                self._script(connection, step[self._dialect])
            self._stamp(connection)
            self._query(connection, "COMMIT", ())
        except BaseException:
            self._rollback(connection)
            raise

    _dialect: int

    @abstractmethod
    def _connect(self, create: bool) -> Any: ...
    @abstractmethod
    def _lost(self) -> bool: ...
    @abstractmethod
    def _begin(self, connection: Any) -> None: ...
    @abstractmethod
    def _rollback(self, connection: Any) -> None: ...
    @abstractmethod
    def _query(self, connection: Any, sql: str, args: Sequence[Any]) -> list[Row]: ...
    @abstractmethod
    def _script(self, connection: Any, sql: str) -> None: ...
    @abstractmethod
    def _version(self, connection: Any) -> int: ...
    @abstractmethod
    def _stamp(self, connection: Any) -> None: ...
    @abstractmethod
    def _told(self) -> Any:
        """A context in which the database's own errors become StoreError."""

    @property
    @abstractmethod
    def place(self) -> str:
        """A path prefix on this machine for what is kept beside the database (keys, witnesses, locks)."""


class Transaction:
    """Queries within one transaction."""

    def __init__(self, db: Database, connection: Any) -> None:
        self._db, self._connection = db, connection

    def read(self, sql: str, *args: Any) -> list[Row]:
        return self._db._query(self._connection, sql, args)

    def row(self, sql: str, *args: Any) -> Row | None:
        return next(iter(self.read(sql, *args)), None)

    def write(self, sql: str, *args: Any) -> None:
        self._db._query(self._connection, sql, args)

    def insert(self, table: str, **values: Any) -> None:
        names = ", ".join(f'"{name}"' for name in values)
        self.write(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", *values.values())
