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
STORED = {"BOOL": "?", "INT8": "i1", "UINT8": "u1"} | {
    "FP64": "<f8", "FP32": "<f4", "FP16": "<f2",
    "INT64": "<i8", "INT32": "<i4", "INT16": "<i2",
    "UINT64": "<u8", "UINT32": "<u4", "UINT16": "<u2",
}  # fmt: skip
LITTLE = {kind: np.dtype(text) for kind, text in STORED.items()}
LENGTH = Struct("<I")


def datatype(column: Column) -> str:
    """The datatype in which a column is best sent."""
    if column.kind == "number":
        return "INT64" if column.dtype.startswith(("int", "uint")) else "FP64"
    return {"boolean": "BOOL", "array": "FP32"}.get(column.kind, "BYTES")


class Slot:
    """Where a tensor goes: a column, and what fits it."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.accepted = frozenset(_accepted(column))
        self.cell = list(column.shape)
        self.tails = [self.cell] if column.kind == "array" else [[], [1]]  # what may follow the number of rows
        self.numeric = column.kind in ("number", "boolean")
        self.gaps = column.nullable and "" not in column.categories

    def misfit(self, kind: Any, shape: Any, limit: int) -> str:
        """Why a tensor of this datatype and shape does not fit; '' where it does. Raises Refused for too many rows."""
        if type(kind) is str and kind in self.accepted and type(shape) is list and shape and shape[1:] in self.tails:
            rows = shape[0]
            if type(rows) is int and 0 <= rows <= limit:
                return ""
        return self._why(kind, shape, limit)

    def _why(self, kind: Any, shape: Any, limit: int) -> str:
        if type(kind) is not str or not kind:
            return "has no datatype"
        if kind not in self.accepted:
            if kind not in DATATYPES:
                return f"unknown datatype {kind[:40]!r}"
            return f"datatype {kind} does not fit, expected {datatype(self.column)}"
        if type(shape) is not list or not shape or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
            return "has no shape of whole numbers"
        if shape[0] > limit:
            raise Refused(
                413, f"{shape[0]} rows are more than the {limit} that one request may hold; send several requests"
            )
        return f"has shape {shape}, expected {['n', *self.cell]}".replace("'", "")

    def values(self, flat: Any, shape: list[int]) -> Any:
        """Flat values, an array of numbers or a list of texts, as rows. Raises Wrong."""
        if len(flat) != math.prod(shape):
            raise Wrong(f"has {len(flat)} values, its shape {shape} says {math.prod(shape)}")
        if self.numeric:
            return flat
        if isinstance(flat, list):
            return self.texts(flat)
        if self.column.kind == "array":
            return flat.reshape(-1, *self.cell)
        return [None if v != v else v for v in flat.tolist()]

    def texts(self, found: list[Any]) -> list[Any]:
        """The texts, with None for what is missing."""
        return [None if v == "" else v for v in found] if self.gaps and "" in found else found


def unpacked(kind: str, data: bytes, count: int) -> Any:
    """`count` values from their bytes: an array of numbers or a list of texts. Raises Wrong."""
    if kind == "BYTES":
        return _texts(data, count)
    dtype = LITTLE[kind]
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
