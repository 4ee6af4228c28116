"""Names of dtypes: polars names, lower case, without parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import ColumnKind

if TYPE_CHECKING:
    import polars as pl

SIGNED = ("int8", "int16", "int32", "int64", "int128")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64")
NUMBERS = (*SIGNED, *UNSIGNED, *FLOATS)
TIMES = ("date", "datetime")
ARRAYS = ("array", "list")
DTYPES = (*NUMBERS, "string", "boolean", *TIMES, *ARRAYS)
_ALIASES = {"utf8": "string", "categorical": "string", "enum": "string", "decimal": "float64", "duration": "float64"}
_KINDS: Mapping[str, Any] = (
    dict.fromkeys(NUMBERS, "number")
    | dict.fromkeys(TIMES, "time")
    | dict.fromkeys(ARRAYS, "array")
    | {"string": "category", "boolean": "boolean"}
)
KIND_DTYPES: Mapping[ColumnKind, tuple[str, ...]] = {
    "number": (*NUMBERS, "boolean"),
    "category": (*NUMBERS, "string", "boolean", *TIMES),
    "boolean": ("boolean",),
    "time": TIMES,
    "array": ARRAYS,
    "text": ("string",),
}


def dtype_name(dtype: Any) -> str:
    """The name of a polars dtype, or of a name as a data source gives it, as it will be frozen.

    >>> dtype_name("Datetime(time_unit='us', time_zone=None)"), dtype_name("Categorical")
    ('datetime', 'string')
    """
    name = str(dtype).split("(")[0].strip().lower()
    return _ALIASES.get(name, name)


def kind_of(dtype: str) -> ColumnKind | None:
    """How a column of this dtype is treated unless the contract says otherwise; None: it cannot be used."""
    return _KINDS.get(dtype)


def widens(found: str, wanted: str) -> bool:
    """Whether every value of dtype `found` is also one of `wanted`, so that a cast loses nothing."""
    if found in (wanted, "null"):
        return True
    if wanted in FLOATS:
        return (found in (*SIGNED, *UNSIGNED) and wanted == "float64") or (found, wanted) == ("float32", "float64")
    if found in SIGNED and wanted in SIGNED:
        return SIGNED.index(found) < SIGNED.index(wanted)
    if found in UNSIGNED and wanted in UNSIGNED:
        return UNSIGNED.index(found) < UNSIGNED.index(wanted)
    if found in UNSIGNED and wanted in SIGNED:
        return UNSIGNED.index(found) < SIGNED.index(wanted)
    return (found, wanted) in (("date", "datetime"), ("list", "array"), ("array", "list"))


def polars_dtype(name: str) -> Any:
    """The polars dtype of a plain name; None for arrays, whose inner dtype the data decides."""
    import polars as pl

    if name in ARRAYS:
        return None
    if name == "datetime":
        return pl.Datetime("us")
    special = {"string": pl.String, "uint8": pl.UInt8, "uint16": pl.UInt16, "uint32": pl.UInt32, "uint64": pl.UInt64}
    return special.get(name) or getattr(pl, name.capitalize())


def normal(schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """How columns are brought into the dtypes that are frozen: a missing number is null and never NaN,
    categoricals are text, datetimes are UTC microseconds without a zone, decimals and durations are float64."""
    import polars as pl

    found = []
    for name, dtype in schema.items():
        column = pl.col(name)
        if dtype.is_float():
            found.append(column.fill_nan(None))
        elif isinstance(dtype, pl.Categorical | pl.Enum):
            found.append(column.cast(pl.String))
        elif isinstance(dtype, pl.Decimal):
            found.append(column.cast(pl.Float64))
        elif isinstance(dtype, pl.Duration):
            found.append(column.dt.total_microseconds().cast(pl.Float64) / 1e6)
        elif isinstance(dtype, pl.Datetime) and (dtype.time_zone or dtype.time_unit != "us"):
            utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
            found.append(utc.cast(pl.Datetime("us")))
    return found
