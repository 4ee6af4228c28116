"""The ledger in PostgreSQL, for teams and clusters."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlops_core import urls
from mlops_core.errors import StoreError, UsageError
from mlops_core.ledger.database import Database, Row
from mlops_core.ledger.schema import VERSION

# Writers take turns by this advisory lock ('mlops'): the audit chain has one order, versions one numbering.
_TURN = 0x6D6C6F7073


class Postgresql(Database):
    _dialect = 1

    def __init__(self, url: str) -> None:
        super().__init__()
        try:
            self.conninfo = urls.encoded(re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url))
        except ValueError as error:
            raise UsageError(f"store.ledger: {error}") from None
        self.shown = _masked(self.conninfo)

    @property
    def place(self) -> str:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return str(Path(state) / "mlops" / f"ledger-{hashlib.sha256(self.shown.encode()).hexdigest()[:12]}")

    def connect(self) -> Any:
        """A connection of its own, to be closed by the caller."""
        try:
            import psycopg
        except ImportError as error:
            raise StoreError(
                f"the ledger {self.shown} needs psycopg: python -m pip install 'psycopg[binary]'"
            ) from error
        return psycopg.connect(
            self.conninfo,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=10,
            keepalives_idle=20,
            keepalives_interval=5,
            keepalives_count=4,
            application_name="mlops",
        )

    def told(self) -> Any:
        return self._told()

    def _connect(self, create: bool) -> Any:
        return self.connect()

    def _lost(self) -> bool:
        return self._connection is not None and bool(self._connection.closed)

    def _begin(self, connection: Any) -> None:
        connection.execute("BEGIN")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_TURN,))

    def _rollback(self, connection: Any) -> None:
        if not connection.closed:
            connection.execute("ROLLBACK")

    def _query(self, connection: Any, sql: str, args: Sequence[Any]) -> list[Row]:
        cursor = connection.execute(sql.replace("?", "%s"), args or None)
        return cursor.fetchall() if cursor.description else []

    def _script(self, connection: Any, sql: str) -> None:
        connection.execute(sql)

    def _version(self, connection: Any) -> int:
        # Not to_regclass(): that may answer from a cache which is older than the turn just waited for.
        query = (
            "SELECT 1 FROM information_schema.tables "
            "WHERE table_name = 'mlops_schema' AND table_schema = ANY (current_schemas(false))"
        )
        if connection.execute(query).fetchone() is None:
            return 0
        return int(connection.execute("SELECT version FROM mlops_schema").fetchone()[0])

    def _stamp(self, connection: Any) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS mlops_schema (version INTEGER NOT NULL)")
        connection.execute("DELETE FROM mlops_schema")
        connection.execute("INSERT INTO mlops_schema VALUES (%s)", (VERSION,))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # A connection implies that psycopg is here; without one the error is already in words.
            if not type(error).__module__.startswith("psycopg"):
                raise
            raise StoreError(_without_password(_words(self.shown, error), self.conninfo)) from error


def _words(shown: str, error: Any) -> str:
    state = getattr(error, "sqlstate", None) or ""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if state == "25006":
        return f"the ledger {shown} cannot be written: the server is read-only (a replica?)"
    if state == "53100":
        return f"the ledger {shown} cannot be written: the server's disk is full"
    if state == "42501":
        return f"the ledger {shown} refused: {reason}; give this user the rights, or ask its owner to run mlops once"
    if state:
        return f"the ledger {shown} refused: {reason}"
    return f"cannot reach the ledger {shown}: {reason}"


def _without_password(text: str, conninfo: str) -> str:
    """libpq repeats, in quotes, a password that it cannot decode."""
    return text.replace(f'"{urllib.parse.urlsplit(conninfo).password}"', '"***"')


def _masked(conninfo: str) -> str:
    parts = urllib.parse.urlsplit(conninfo)
    netloc = parts.netloc
    if parts.password is not None:
        netloc = netloc.replace(f":{netloc.rsplit('@', 1)[0].split(':', 1)[1]}@", ":***@")
    query = urllib.parse.urlencode(
        [(k, "***" if k in ("password", "sslpassword") else v) for k, v in urllib.parse.parse_qsl(parts.query)]
    )
    return urllib.parse.urlunsplit((parts.scheme, netloc, parts.path, query, ""))
