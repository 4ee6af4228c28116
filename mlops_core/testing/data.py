"""What a data source promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.errors import DataError
from mlops_core.testing.promises import BrokenPromise, broken, check_options, inside, nothing_written, promise

if TYPE_CHECKING:
    import polars as pl


def check_data(source: Any, folder: Path, *, missing: Any = None, change: Callable[[], object] | None = None) -> None:
    """Checks the data source `source`, with `folder` (tmp_path) to work in.

    `missing`: the same source pointed at data that is not there. `change`: changes the data under `source`,
    so that its fingerprint must change too.
    """
    check_options(source)
    with inside(folder / "elsewhere") as here, nothing_written(here, doing="a data source"):
        table = _read(source)
        promise(table.equals(_read(source)), "read() must give the same table when nothing changed")
        _check_schema(source, table)
        _check_fingerprint(source, change)
        if missing is not None:
            _check_missing(missing)


def _read(source: Any) -> pl.DataFrame:
    import polars as pl

    table = source.read()
    if isinstance(table, pl.LazyFrame):
        return table.collect(engine="streaming")
    if not hasattr(table, "__arrow_c_stream__"):
        broken(
            "read() must return a polars LazyFrame or an object with __arrow_c_stream__ (polars, pyarrow and pandas "
            f"tables have it), not {type(table).__name__}"
        )
    return pl.DataFrame(table)


def _check_schema(source: Any, table: pl.DataFrame) -> None:
    schema = source.schema()
    promise(isinstance(schema, Mapping), f"schema() must return a mapping, not {type(schema).__name__}")
    read = list(table.columns)
    promise(
        list(schema) == read, f"schema() must name the columns of read() in order: {list(schema)}, read gave {read}"
    )
    for name, dtype in schema.items():
        found = str(table.schema[name].base_type()).lower()
        promise(
            isinstance(dtype, str) and dtype.lower().split("(")[0] == found,
            f"schema() must give polars dtype names: column {name!r} is {dtype!r}, read gave {found!r}",
        )


def _check_fingerprint(source: Any, change: Callable[[], object] | None) -> None:
    before = source.fingerprint()
    if before is None:
        return
    text = isinstance(before, Mapping) and all(isinstance(x, str) for pair in before.items() for x in pair)
    promise(text and before, f"fingerprint() must be None or a mapping of part to digest, both text, not {before!r}")
    promise(source.fingerprint() == before, "fingerprint() must be the same when nothing changed")
    if change is not None:
        change()
        promise(source.fingerprint() != before, "fingerprint() must change when the data changes")


def _check_missing(source: Any) -> None:
    try:
        _read(source)
    except DataError as error:
        promise(str(error).strip(), "the DataError for missing data must say what is missing")
    except Exception as error:
        kind = type(error).__name__
        raise BrokenPromise(f"read() must raise DataError where there is no data, not {kind}: {error}") from error
    else:
        broken("read() must raise DataError where there is no data; it returned a table")
