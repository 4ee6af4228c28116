"""One delimited file: its columns, its batches, and what is wrong with it, told with its name and row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_core.contracts import field, record
from mlops_core.errors import DataError, did_you_mean

SAMPLE = 64 << 20  # dtypes are told from so many bytes of a file
BLOCK = 4 << 20
_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {"boolean": "bool_", "date": "date32"}


@record
class Dialect:
    """How a file is written; see the options of data source `csv`."""

    separator: str = ","
    quote: str = '"'
    decimal: str = "."
    encoding: str = "utf8"
    null_values: tuple[str, ...] = ("",)
    names: tuple[str, ...] = ()
    skip_rows: int = 0
    dtypes: Mapping[str, str] = field(default_factory=dict)

    def open(self, path: Path, block: int, types: Mapping[str, Any], columns: Sequence[str] = ()) -> Any:
        """A reader of record batches. Columns that `types` does not tell are guessed from the first block."""
        import pyarrow.csv as pc

        return pc.open_csv(
            path,
            read_options=pc.ReadOptions(
                use_threads=False,  # with threads an error does not know its row
                block_size=block,
                encoding=self.encoding,
                skip_rows=self.skip_rows,
                column_names=list(self.names) or None,
            ),
            parse_options=pc.ParseOptions(
                delimiter=self.separator, quote_char=self.quote or False, newlines_in_values=True
            ),
            convert_options=pc.ConvertOptions(
                column_types=dict(types),
                include_columns=list(columns),
                strings_can_be_null=True,
                null_values=list(self.null_values),
                decimal_point=self.decimal,
            ),
        )


def told(path: Path, dialect: Dialect) -> Any:
    """The file's columns with the dtypes that its beginning and `dialect.dtypes` tell, as an Arrow schema."""
    size = path.stat().st_size
    if not size:
        raise DataError(f"{path} is empty")
    packed = 20 if path.suffix == ".gz" else 1
    with _named(path, dialect):
        block = max(BLOCK, min(size * packed + 1, SAMPLE))
        schema = dialect.open(path, block, {n: arrow_type(t) for n, t in dialect.dtypes.items()}).schema
    _refuse_odd(path, dialect, schema)
    return schema


def batches(path: Path, dialect: Dialect, schema: Any) -> Iterator[Any]:
    """The file's rows as record batches of exactly this schema, read strictly."""
    last = None
    with _named(path, dialect, schema.names):
        for batch in dialect.open(path, BLOCK, {f.name: f.type for f in schema}, schema.names):
            last = batch if batch.num_rows else last
            yield batch
    if last is not None and _left_open(path, dialect, last):
        raise DataError(f"{path}: a quote is opened near the end and never closed; set data.quote: '' if it is text")


def _left_open(path: Path, dialect: Dialect, last: Any) -> bool:
    """Whether the last value swallowed the end of the file, which the reader takes for a long text."""
    values = [column[-1].as_py() for column in last.columns]
    texts = [v for v in values if isinstance(v, str) and "\n" in v]
    if path.suffix == ".gz" or not texts:
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        end = file.read().decode(dialect.encoding, "replace").rstrip("\r\n")
    # Quotes within are written twice and read once, so lines are compared without.
    lines = [text.rstrip("\r\n").split("\n")[-1].replace(dialect.quote, "") for text in texts]
    return not end.endswith(dialect.quote) and end.split("\n")[-1].replace(dialect.quote, "") in lines


def arrow_type(name: str) -> Any:
    """The Arrow type of a plain dtype name."""
    import pyarrow as pa

    if name == "datetime":
        return pa.timestamp("us")
    made: Any = getattr(pa, _NAMES.get(name, name))()
    return made


def _refuse_odd(path: Path, dialect: Dialect, schema: Any) -> None:
    import pyarrow as pa

    names = schema.names
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"{path}: the header names {', '.join(map(repr, twice))} twice")
    if len(names) == 1 and dialect.separator not in names[0]:
        seen = [s for s in _SEPARATORS if s in names[0]]
        if seen:
            raise DataError(
                f"{path} has one column, {names[0]!r}; its separator seems to be {seen[0]!r}: set data.separator"
            )
    foreign = [f.name for f in schema if pa.types.is_binary(f.type)]
    if foreign:
        raise DataError(_not_encoded(path, dialect, foreign[0]))
    unknown = [n for n in dialect.dtypes if n not in names]
    if unknown:
        raise DataError(
            f"{path} has no column {unknown[0]!r}, which data.dtypes names; {did_you_mean(unknown[0], names)}"
        )


def _not_encoded(path: Path, dialect: Dialect, column: str = "") -> str:
    where = f", column {column!r}" if column else ""
    return (
        f"{path}{where}: there are bytes that are no {dialect.encoding}; set data.encoding, such as latin-1 or cp1252"
    )


class _named:
    """Tells an error of the reader as a DataError with the file, the row, the column and what to do."""

    def __init__(self, path: Path, dialect: Dialect, names: Sequence[str] = ()) -> None:
        self.path, self.dialect, self.names = path, dialect, names

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import pyarrow as pa

        if isinstance(error, pa.ArrowKeyError):
            missing = re.search(r"'([^']+)'", str(error))
            raise DataError(f"{self.path} has no column {missing[1] if missing else error!r}") from error
        if isinstance(error, pa.ArrowInvalid):
            raise DataError(self._words(str(error))) from error
        if isinstance(error, LookupError):
            raise DataError(f"data.encoding: {error}") from error
        if isinstance(error, UnicodeError):
            raise DataError(_not_encoded(self.path, self.dialect)) from error
        if isinstance(error, OSError):
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def _words(self, message: str) -> str:
        row = re.search(r"Row #(\d+)", message)
        at = f"{self.path}, row {row[1]}" if row else str(self.path)
        ragged = re.search(r"Expected (\d+) columns, got (\d+): (.*)", message, re.S)
        if ragged:
            return f"{at}: {ragged[2]} values where the header has {ragged[1]}: {ragged[3][:80]!r}"
        column = re.search(r"In CSV column #(\d+)", message)
        name = self._name(int(column[1])) if column else ""
        if "invalid UTF8" in message:
            return _not_encoded(self.path, self.dialect, name)
        wrong = re.search(r"conversion error to ([^:]+): invalid value '(.*)'", message, re.S)
        if wrong:
            hint = f"set data.dtypes.{name}: string, or name it in data.null_values if it means a missing value"
            return f"{at}, column {name!r}: {wrong[2][:80]!r} is no {wrong[1]}; {hint}"
        if "straddling" in message:
            return f"{at}: a row is longer than {BLOCK >> 20} MiB; is a quote left open?"
        return f"{at}: {message}"

    def _name(self, number: int) -> str:
        names = self.names or self.dialect.open(self.path, BLOCK, {}).schema.names
        return str(names[number])
