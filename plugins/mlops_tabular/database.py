"""Data source `sql`."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from mlops_core import urls
from mlops_core.contracts import Table
from mlops_core.errors import DataError
from mlops_tabular.sqlrows import Adbc, Rows

_PEEK = 1000
_POSTGRESQL = ("postgres", "adbc+postgres")


@dataclass(frozen=True)
class Sql:
    """A query of a database, streamed in batches.

    The URL is SQLAlchemy's (sqlite:///data.db, postgresql+psycopg://user@host/db), or adbc+sqlite:///data.db and
    adbc+postgresql://user@host/db, which hand over Arrow data and are several times faster. Keep a password out
    of the files: `url: ${oc.env:DATABASE_URL}`, and write what is special in it percent-encoded, '@' as %40. End
    the query in ORDER BY: the same rows in another order are divided otherwise. Dtypes are told from the first
    batch.

    url: where the database is
    query: the SELECT whose rows are read
    table: a table or view to read whole, instead of a query; in another schema as schema.table
    version_query: a SELECT whose answer changes exactly when the data does, such as one of max(updated_at) and
        count(*); without it the data is read at every run
    batch: how many rows are fetched at a time
    """

    url: str = field(repr=False)
    query: str = ""
    table: str = ""
    version_query: str = ""
    batch: int = 50_000

    def __post_init__(self) -> None:
        if bool(self.query) == bool(self.table):
            raise ValueError("give either query or table")
        if self.batch < 1:
            raise ValueError(f"batch is at least 1, got {self.batch}")

    def read(self) -> Table:
        import pyarrow as pa

        stream = self._stream(self._select(), self.batch)
        first = _first(stream)
        return pa.RecordBatchReader.from_batches(first.schema, itertools.chain([first], stream))

    def schema(self) -> Mapping[str, str]:
        import polars as pl

        with closing(self._stream(self._select(), min(self.batch, _PEEK))) as stream:
            empty = pl.DataFrame(pl.from_arrow(_first(stream).slice(0, 0)))
        return {name: str(dtype) for name, dtype in empty.schema.items()}

    def fingerprint(self) -> Mapping[str, str] | None:
        if not self.version_query:
            return None
        answer = [batch.to_pylist() for batch in self._stream(self.version_query, self.batch)]
        return {"version_query": hashlib.sha256(repr(answer).encode()).hexdigest()}

    def _select(self) -> str:
        if self.query:
            return self.query.strip().rstrip(";")
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in self.table.split("."))
        return f"SELECT * FROM {quoted}"

    def _stream(self, select: str, batch: int) -> Generator[Any, None, None]:
        try:
            url = urls.encoded(self.url) if self.url.startswith(_POSTGRESQL) else self.url
        except ValueError as error:
            raise DataError(f"data.url: {error}") from None
        return (Adbc if url.startswith("adbc+") else Rows)(url).batches(select, batch)


def _first(stream: Iterator[Any]) -> Any:
    batch = next(stream, None)
    if batch is None:
        raise DataError("the query gives no row")
    return batch
