"""One tensor of the Open Inference Protocol: which column it fits, and its values from bytes and to bytes.

What is missing: NaN in FP64, FP32 and FP16. BYTES has no null, so there an empty text is a missing value, unless
the column may have none missing or counts '' among its values. Integers and BOOL have none missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import Any

import numpy as np

from mlops_core.contracts import Column
from mlops_core.serving.cells import Wrong
from mlops_core.serving.problems import Refused

WHOLE = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")
REAL = ("FP64", "FP32", "FP16")
DATATYPES = ("BOOL", "BYTES", *REAL, *WHOLE)
LITTLE = {"BOOL": "?", "INT8": "i1", "UINT8": "u1"} | {
    "FP64": "<f8", "FP32": "<f4", "FP16": "<f2",
    "INT64": "<i8", "INT32": "<i4", "INT16": "<i2",
    "UINT64": "<u8", "UINT32": "<u4", "UINT16": "<u2",
}  # fmt: skip
LENGTH = Struct("<I")


def datatype(column: Column) -> str:
    """The datatype in which a column is best sent."""
    if column.kind == "number":
        return "INT64" if column.dtype.startswith(("int", "uint")) else "FP64"
    return {"boolean": "BOOL", "array": "FP32"}.get(column.kind, "BYTES")


def misfit(kind: Any, shape: Any, column: Column, limit: int) -> str:
    """Why a tensor of this datatype and shape is not this column; '' where it is. Raises Refused for too many rows."""
    if kind not in DATATYPES:
        return f"unknown datatype {kind[:40]!r}" if isinstance(kind, str) and kind else "has no datatype"
    if kind not in _accepted(column):
        return f"datatype {kind} does not fit, expected {datatype(column)}"
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**40 for n in shape) or not shape:
        return "has no shape of whole numbers"
    if shape[0] > limit:
        raise Refused(
            413, f"{shape[0]} rows are more than the {limit} that one request may hold; send several requests"
        )
    cell = list(column.shape)
    if shape[1:] != cell and not (column.kind != "array" and shape[1:] == [1]):
        return f"has shape {shape}, expected {['n', *cell]}".replace("'", "")
    return ""


def values(flat: Any, shape: Sequence[int], column: Column) -> Any:
    """Flat values, an array of numbers or a list of texts, as the rows of this column. Raises Wrong."""
    if len(flat) != math.prod(shape):
        raise Wrong(f"has {len(flat)} values, its shape {list(shape)} says {math.prod(shape)}")
    if column.kind == "array":
        return np.asarray(flat).reshape(shape)
    if isinstance(flat, list):
        return gaps(flat, column)
    if column.kind in ("number", "boolean"):
        return flat
    return [None if v != v else v for v in flat.tolist()]


def gaps(texts: list[Any], column: Column) -> list[Any]:
    """The texts, with None for what is missing."""
    if not column.nullable or "" in column.categories or "" not in texts:
        return texts
    return [None if v == "" else v for v in texts]


def unpacked(kind: str, data: bytes, count: int) -> Any:
    """`count` values from their bytes: an array of numbers or a list of texts. Raises Wrong."""
    if kind == "BYTES":
        return _texts(data, count)
    dtype = np.dtype(LITTLE[kind])
    if len(data) != count * dtype.itemsize:
        raise Wrong(f"has {len(data)} bytes, {count} values of {kind} are {count * dtype.itemsize}")
    if kind == "BOOL" and data.translate(None, b"\0\1"):
        raise Wrong("has bytes other than 0 and 1 as BOOL")
    return np.frombuffer(data, dtype)


def packed(kind: str, array: Any) -> bytes:
    """The values as bytes, in row-major order."""
    if kind != "BYTES":
        return np.ascontiguousarray(array, LITTLE[kind]).tobytes()
    texts = [str(v).encode() for v in array.reshape(-1).tolist()]
    return b"".join([part for text in texts for part in (LENGTH.pack(len(text)), text)])


def decoded(found: Sequence[bytes]) -> list[str]:
    """Raises Wrong where one is no UTF-8."""
    try:
        return [str(v, "utf-8") for v in found]
    except UnicodeDecodeError:
        at = next(i for i, v in enumerate(found) if not _is_text(v))
        raise Wrong(f"value {at} is no text in UTF-8") from None


def _texts(data: bytes, count: int) -> list[str]:
    """Each text comes after its length, four bytes, little-endian."""
    plain = data.isascii()
    source: Any = str(data, "ascii") if plain else data
    found, at, end, length = [], 0, len(data), LENGTH.unpack_from
    try:
        for _ in range(count):
            start = at + 4
            at = start + length(data, at)[0]
            found.append(source[start:at])
    except StructError:
        at = end + 1
    if at != end:
        raise Wrong(f"has {end} bytes, which are not {count} texts with their lengths")
    return found if plain else decoded(found)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _accepted(column: Column) -> tuple[str, ...]:
    if column.kind == "number" or column.kind == "array":
        return REAL + WHOLE
    if column.kind == "boolean" or column.dtype == "boolean":
        return ("BOOL",)
    if column.dtype.startswith(("int", "uint")):
        return ("BYTES", *WHOLE)
    return ("BYTES", *REAL, *WHOLE) if column.dtype.startswith("float") else ("BYTES",)
