"""The rows of a query as record batches, by SQLAlchemy or by ADBC; no password is ever told."""

from __future__ import annotations

import importlib
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mlops_core.errors import DataError
from mlops_tabular.files import instead

if TYPE_CHECKING:
    import polars as pl

_ADBC = {"sqlite": "adbc_driver_sqlite.dbapi", "postgresql": "adbc_driver_postgresql.dbapi"}


class Rows:
    """Any database that SQLAlchemy knows. Rows become columns batch by batch; the first batch tells the dtypes."""

    def __init__(self, url: str) -> None:
        self.url = url

    def batches(self, select: str, batch: int) -> Generator[Any, None, None]:
        import sqlalchemy as sa

        with _told(self.url):
            _there(sa.engine.make_url(self.url))
            engine = sa.create_engine(self.url)
            try:
                with engine.connect() as connection:
                    yield from self._fetched(connection, select, batch)
            finally:
                engine.dispose()

    def _fetched(self, connection: Any, select: str, batch: int) -> Iterator[Any]:
        # no_parameters: a colon or a percent sign in the query stays what it is.
        result = connection.execution_options(stream_results=True, no_parameters=True).exec_driver_sql(select)
        names, done = list(result.keys()), 0
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise DataError(f"the query gives column {twice[0]!r} twice; name one of them with AS")
        schema: Mapping[str, Any] | None = None
        for rows in result.partitions(batch):
            frame, schema = _frame([tuple(r) for r in rows], names, schema, done)
            done += frame.height
            yield frame.to_arrow().combine_chunks().to_batches()[0]


class Adbc:
    """SQLite and PostgreSQL by their ADBC drivers, which hand over Arrow data."""

    def __init__(self, url: str) -> None:
        self.url = url.removeprefix("adbc+")

    def batches(self, select: str, batch: int) -> Generator[Any, None, None]:
        with _told(self.url), self._driver().connect(self._address()) as connection, connection.cursor() as cursor:
            cursor.execute(select)
            for found in cursor.fetch_record_batch():
                if found.num_rows:
                    yield found

    def _driver(self) -> Any:
        scheme = self.url.partition("://")[0]
        if scheme not in _ADBC:
            raise DataError(f"there is no ADBC driver for {scheme!r}; there are {', '.join(sorted(_ADBC))}")
        return importlib.import_module(_ADBC[scheme])

    def _address(self) -> str:
        if not self.url.startswith("sqlite:"):
            return self.url
        path = self.url.removeprefix("sqlite://").removeprefix("/")
        _exists(path)
        return path


def _frame(
    rows: list[tuple[Any, ...]], names: list[str], schema: Mapping[str, Any] | None, done: int
) -> tuple[pl.DataFrame, Mapping[str, Any]]:
    """The rows, and with which schema to read the next ones: values of a kind of their own become text each time."""
    import polars as pl

    try:
        frame = pl.DataFrame(rows, schema=schema or names, orient="row", infer_schema_length=None)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        where = f"rows {done + 1:,} to {done + len(rows):,}"
        said = str(error).splitlines()[0]
        raise DataError(f"{where} of the query are of other types than the rows before; use CAST: {said}") from error
    odd = [n for n, t in frame.schema.items() if t == pl.Object]
    texts = [pl.Series(n, [None if v is None else str(v) for v in frame[n]], dtype=pl.String) for n in odd]
    exact = [pl.col(n).cast(pl.Float64) for n, t in frame.schema.items() if isinstance(t, pl.Decimal)]
    blank = [pl.col(n).cast(pl.String) for n, t in frame.schema.items() if t == pl.Null]
    frame = frame.with_columns(*texts, *exact, *blank)
    return frame, {**frame.schema, **dict.fromkeys(odd, pl.Object)}


def _there(url: Any) -> None:
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        _exists(url.database)


def _exists(database: str) -> None:
    """SQLite would make an empty database in the place of one that is not there."""
    path = Path(database)
    if not database.startswith("file:") and not path.exists():
        raise DataError(f"there is no database {path}{instead(path)}")


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Tells what a driver raises as a DataError, with the password taken out."""
    try:
        yield
    except DataError as error:
        raise DataError(_without_secret(str(error), url)) from error
    except ImportError as error:
        extra = "adbc" if "adbc" in str(error) else "postgres" if "psycopg" in str(error) else ""
        hint = f"; run: python -m pip install 'mlops-core-framework[{extra}]'" if extra else ""
        raise DataError(f"the database driver is not installed: {error.name or error}{hint}") from None
    except Exception as error:
        if not type(error).__module__.startswith(("sqlalchemy", "adbc_driver_manager", "sqlite3", "psycopg")):
            raise
        said = str(getattr(error, "orig", None) or error).strip()
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        # Without its cause: a driver's message and arguments may hold the password.
        raise DataError(_without_secret(f"{_shown(url)}: {'; '.join(lines[:3])}", url)) from None


def _shown(url: str) -> str:
    """Scheme, host and database; of a password with special characters, more is left out rather than less."""
    scheme, _, rest = url.partition("://")
    found = re.match(r"(\[[^\]]*\]|[^:/?#]*)(?::\d*)?(/[^?#]*)?", rest.rpartition("@")[2])
    host, path = found.groups(default="") if found else ("", "")
    return f"{scheme}://{host}{path}"


def _without_secret(text: str, url: str) -> str:
    """An '@' may end the password or be one of it: whatever ends in one is taken out, the longest first."""
    found = re.search(r"://[^:/@]*:(.+)@", url)
    parts = found[1].split("@") if found else []
    for end in range(len(parts), 0, -1):
        secret = "@".join(parts[:end])
        for form in {secret, unquote(secret)} - {""}:
            text = text.replace(form, "***")
    return text
