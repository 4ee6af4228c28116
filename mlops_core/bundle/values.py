"""Columns as JSON, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlops_core.contracts import Column

ANSWERS = ("prediction", "probability")


def to_plain(values: Any) -> list[Any]:
    """One column as JSON-able values: a missing number is null, a time is ISO text."""
    array = np.asarray(values)
    if array.dtype.kind == "M":
        text = np.datetime_as_string(array.astype("datetime64[us]"))
        return [None if v == "NaT" else str(v) for v in text]
    listed: list[Any] = array.tolist()
    # The sum of squares is NaN where one of them is, and the cheapest way to ask.
    return _nulls(listed) if array.dtype.kind == "f" and math.isnan(np.vdot(array, array)) else listed


def to_orjson(values: Any) -> Any:
    """The same for `orjson.dumps` with OPT_SERIALIZE_NUMPY, which writes numbers straight from the array, NaN as null:
    several times as fast."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, np.float64)  # of 32 bits it would write the shortest text, another number
    return to_plain(array)


def from_plain(values: list[Any], column: Column) -> Any:
    """The inverse of `to_plain` for a column of a signature."""
    if column.kind == "time":
        return np.array([np.datetime64("NaT") if v is None else v for v in values], "datetime64[us]")
    if column.kind == "array":
        return np.array(values, np.float32).reshape(len(values), *column.shape)
    if column.kind in ("number", "boolean"):
        return np.array(values, np.float64)
    return np.array(values, object)


def _nulls(values: list[Any]) -> list[Any]:
    return [_nulls(v) if isinstance(v, list) else None if v != v else v for v in values]
