"""Data source `csv`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlops_core.contracts import Table
from mlops_core.errors import DataError
from mlops_tabular import files
from mlops_tabular.csvfile import Dialect, batches, told

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
Dtype = Literal["int64", "int32", "float64", "float32", "string", "boolean", "date", "datetime"]


@dataclass(frozen=True)
class Csv:
    """Delimited text files, streamed and read strictly.

    A row with too few or too many values, a value that is not of its column's dtype, or a byte that is not of
    the encoding is an error that names the file and the row. Dtypes are told from the first 64 MiB of each file;
    a column that is whole numbers in one file and fractions in another is float64.

    path: a file, a folder (all .csv and .tsv files in it, also .gz, deep), or a pattern such as data/2024-*.csv;
        also as a URL, s3://bucket/data/
    separator: what stands between values; a tab is "\\t"
    quote: what encloses a value that holds a separator or a line break; "" for nothing
    decimal: what stands between whole and fraction
    encoding: how characters are stored, such as utf8, latin-1, cp1252
    null_values: texts that mean a missing value
    dtypes: column -> dtype, where the guess is wrong
    names: the column names, where the files have no header row
    skip_rows: lines to skip before the header
    """

    path: Path
    separator: str = ","
    quote: str = '"'
    decimal: str = "."
    encoding: str = "utf8"
    null_values: tuple[str, ...] = ("",)
    dtypes: Mapping[str, Dtype] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    skip_rows: int = 0

    def __post_init__(self) -> None:
        for name, limit in (("separator", (1,)), ("quote", (0, 1)), ("decimal", (1,))):
            if len(getattr(self, name)) not in limit:
                raise ValueError(f"{name} is one character, got {getattr(self, name)!r}")

    def read(self) -> Table:
        import pyarrow as pa

        found = self._files()
        schema = self._schema(found)
        return pa.RecordBatchReader.from_batches(schema, self._stream(found, schema))

    def schema(self) -> Mapping[str, str]:
        import polars as pl
        import pyarrow as pa

        # Not schema.empty_table(): it makes pyarrow import pandas, a second of CPU.
        empty = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([], schema=self._schema(self._files()))))
        return {name: str(dtype) for name, dtype in empty.schema.items()}

    def fingerprint(self) -> Mapping[str, str]:
        return files.fingerprint(self.path, self._files())

    def _files(self) -> list[Path]:
        return files.find(self.path, SUFFIXES)

    def _dialect(self) -> Dialect:
        return Dialect(
            separator=self.separator, quote=self.quote, decimal=self.decimal, encoding=self.encoding,
            null_values=self.null_values, names=self.names, skip_rows=self.skip_rows, dtypes=self.dtypes,
        )  # fmt: skip

    def _stream(self, found: list[Path], schema: Any) -> Iterator[Any]:
        for path in found:
            yield from batches(path, self._dialect(), schema)

    def _schema(self, found: list[Path]) -> Any:
        """The columns of all files, with dtypes that hold every file's values; a column of no values is text."""
        import pyarrow as pa

        first, types = found[0], dict[str, Any]()
        for path in found:
            mine = {f.name: f.type for f in told(path, self._dialect())}
            lost = set(mine) ^ set(types or mine)
            if lost:
                raise DataError(f"{path} and {first} have different columns: {', '.join(sorted(map(repr, lost)))}")
            for name, dtype in mine.items():
                wide = _wide(types.get(name, dtype), dtype)
                if wide is None:
                    was = types[name]
                    raise DataError(
                        f"column {name!r} is {was} in {first} and {dtype} in {path}; set data.dtypes.{name}"
                    )
                types[name] = wide
        return pa.schema([(n, pa.string() if pa.types.is_null(t) else t) for n, t in types.items()])


def _wide(one: Any, other: Any) -> Any:
    """The dtype that holds the values of both; None where there is none."""
    from pyarrow import float64, timestamp, types

    if one == other or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    if all(types.is_integer(t) or types.is_floating(t) for t in (one, other)):
        return float64()
    return timestamp("us") if all(types.is_date(t) or types.is_timestamp(t) for t in (one, other)) else None
