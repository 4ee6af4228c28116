"""Rows straight from JSON into values of the signature's types, in one pass.

Nothing is explained here: what does not fit comes back as None, and is read again by whoever can say what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any

import msgspec
from msgspec.structs import astuple

from mlops_core.serving.cells import Array, Cell, Number

WHOLE = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # a larger one is a float to other JSON parsers


class Decoder:
    """Decodes `{"rows": [{...}, ...]}` where each row has what these columns need, and nothing else."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._decode = _decode(cells)

    def rows(self, data: bytes) -> list[tuple[Any, ...]] | None:
        """The rows, each column's value in the order of the columns: whole numbers as floats, what is left out as
        None. None where the body is anything else."""
        if self._decode is None:
            return None
        try:
            return list(map(astuple, self._decode(data).rows))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None


def _decode(cells: Sequence[Cell]) -> Any:
    strict: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}
    names = {f"column{i}": cell.name for i, cell in enumerate(cells)}
    try:
        row: Any = msgspec.defstruct(
            "Row",
            [
                (name, kind | None, None) if cell.optional else (name, kind)
                for name, cell, kind in zip(names, cells, map(_kind, cells), strict=True)
            ],
            rename=names,
            kw_only=True,
            **strict,
        )
    except ValueError:  # a name with a quotation mark or a backslash
        return None
    body: Any = msgspec.defstruct("Body", [("rows", list[row])], **strict)
    return msgspec.json.Decoder(body).decode


def _kind(cell: Cell) -> Any:
    if isinstance(cell, Number):
        return float
    if isinstance(cell, Array):
        return list
    return reduce(or_, [WHOLE if kind is int else kind for kind in cell.types])
