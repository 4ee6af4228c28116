"""A table, in whatever form a data source gives it, as a schema and a stream of polars frames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import Table
from mlops_core.errors import DataError

if TYPE_CHECKING:
    import polars as pl

CELLS = 4_000_000  # in a batch: some 32 MB of numbers


def schema_of(table: Table) -> pl.Schema:
    """Column name -> polars dtype, without reading rows."""
    import polars as pl
    import pyarrow as pa

    with reading():
        if isinstance(table, pl.LazyFrame):
            return table.collect_schema()
        if isinstance(table, pl.DataFrame):
            return table.schema
        if isinstance(table, pa.RecordBatchReader):
            return _frame(table.schema.empty_table()).schema
        raise DataError(f"a data source must give a polars frame or an Arrow stream, not {type(table).__name__}")


def opened(table: Table) -> Table:
    """`table` as a polars frame or an Arrow reader; a pandas frame and other Arrow exporters become readers."""
    import polars as pl
    import pyarrow as pa

    if isinstance(table, pl.LazyFrame | pl.DataFrame | pa.RecordBatchReader):
        return table
    if not hasattr(table, "__arrow_c_stream__"):
        raise DataError(f"a data source must give a polars frame or an Arrow stream, not {type(table).__name__}")
    with reading():
        return pa.RecordBatchReader.from_stream(table)


def batches(table: Table) -> Iterator[pl.DataFrame]:
    """The rows of an opened table in order, about CELLS values at a time, so that memory stays flat."""
    import polars as pl

    width = sum(_width(dtype) for dtype in schema_of(table).values())
    rows = min(262_144, max(1024, CELLS // max(1, width)))
    with reading():
        if isinstance(table, pl.DataFrame):
            yield from table.iter_slices(rows)
        elif isinstance(table, pl.LazyFrame):
            yield from table.collect_batches(chunk_size=rows, maintain_order=True)
        else:
            yield from _of_reader(table, rows)


def _width(dtype: pl.DataType) -> int:
    """How many numbers a cell is worth: text about two, a list is guessed."""
    import polars as pl

    if isinstance(dtype, pl.Array):
        return math.prod(dtype.shape)
    return 64 if isinstance(dtype, pl.List) else 2 if dtype == pl.String else 1


def _of_reader(reader: Any, rows: int) -> Iterator[pl.DataFrame]:
    import pyarrow as pa

    held: list[Any] = []
    for batch in reader:
        held.append(batch)
        if sum(b.num_rows for b in held) >= rows:
            yield _frame(pa.Table.from_batches(held))
            held = []
    if held:
        yield _frame(pa.Table.from_batches(held))


def _frame(table: Any) -> pl.DataFrame:
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(table))
    return frame.drop([c for c in frame.columns if c.startswith("__index_level_")])


@contextmanager
def reading() -> Iterator[None]:
    """Tells what a reader raises, in the words of a DataError."""
    import polars as pl
    import pyarrow as pa

    try:
        yield
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise DataError(f"the data could not be read: {str(error).strip().splitlines()[0]}") from error
