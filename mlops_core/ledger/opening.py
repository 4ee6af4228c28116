"""Which database a ledger URL names; each is imported only when it is used."""

from __future__ import annotations

from mlops_core.errors import UsageError
from mlops_core.ledger.database import Database


def open_database(url: str) -> Database:
    """The database a ledger URL names. Raises UsageError for any other URL."""
    if "://" not in url or url.startswith("sqlite:"):
        from mlops_core.ledger.sqlite import Sqlite

        return Sqlite(url)
    if url.startswith(("postgresql://", "postgresql+psycopg://", "postgres://")):
        from mlops_core.ledger.postgresql import Postgresql

        return Postgresql(url)
    scheme = url.split("://")[0]
    raise UsageError(
        f"store.ledger: unknown kind of ledger {scheme!r}; expected sqlite:///path or postgresql://host/db"
    )
