"""Columns of one kind, read together: what NumPy costs a call is paid once, not for every column.

A block takes one sequence of values, or one array, for each of its columns. It raises TypeError, ValueError or
OverflowError where anything does not fit; its cells, asked one by one, then say what.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from struct import error as StructError
from struct import pack_into
from typing import Any, Protocol

import numpy as np

from mlops_core.serving.cells import ABSENT, GAPS, Boolean, Category, Cell, Number

TEXT = frozenset({str})


class Block(Protocol):
    def read(self, given: Sequence[Any], typed: bool) -> tuple[Mapping[str, Any], int]:
        """The columns by name, and how many values training never saw. `typed`: as a Decoder gives them."""
        ...


class Numbers:
    """Numbers, then booleans: each column is a row of one float64 array, missing is NaN."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self.names = [c.name for c in cells]
        self.numbers = [c for c in cells if isinstance(c, Number)]
        self.whole = [i for i, c in enumerate(self.numbers) if c.whole]
        self.largest = min((c.largest for c in self.numbers), default=math.inf)
        self.square = self.largest * self.largest
        self.filled = [i for i, c in enumerate(cells) if not c.optional]

    def read(self, given: Sequence[Any], typed: bool) -> tuple[Mapping[str, Any], int]:
        if typed:
            flat, whole = self._typed(given), self.whole
        elif np.ndarray in set(map(type, given)):
            flat = self._stacked(given)
            whole = [i for i in self.whole if type(given[i]) is not np.ndarray or given[i].dtype.kind == "f"]
        else:
            flat = self._listed(given)
            whole = [i for i in self.whole if float in set(map(type, given[i]))]
        # Where the squares sum up to less than that of the largest, no value reaches it: one cheap call for most.
        if not np.vdot(flat, flat) < self.square and (np.abs(flat) >= self.largest).any():
            raise ValueError  # may still fit its own column, or be exactly the largest
        table = flat.reshape(len(given), -1)
        if whole and (table[whole] % 1 > 0).any():
            raise ValueError
        return dict(zip(self.names, table, strict=True)), 0

    def _typed(self, given: Sequence[Any]) -> Any:
        """All values one after the other: floats and booleans, and None where a column may be missing."""
        count = len(given) * len(given[0])
        try:
            return _packed(chain.from_iterable(given), count)
        except StructError:
            return _packed((math.nan if v is None else v for v in chain.from_iterable(given)), count)

    def _listed(self, given: Sequence[Any]) -> Any:
        """All values one after the other, from lists."""
        flat = list(chain.from_iterable(given))
        cut = len(self.numbers) * len(given[0])
        numbers, booleans = set(map(type, flat[:cut])), set(map(type, flat[cut:]))
        if not (numbers <= Number.types and booleans <= Boolean.types):
            if not (numbers <= Number.types | GAPS and booleans <= Boolean.types | GAPS):
                raise TypeError
            for i in self.filled:
                self.cells[i].check(given[i])
            flat = [math.nan if v is None or v is ABSENT else v for v in flat]
        try:
            return _packed(flat, len(flat))
        except StructError:
            raise OverflowError from None

    def _stacked(self, given: Sequence[Any]) -> Any:
        """All values one after the other, where some columns came as arrays."""
        parts = [self._array(c, values) for c, values in zip(self.cells, given, strict=True)]
        if any(np.isnan(parts[i]).any() for i in self.filled):
            raise ValueError
        return np.concatenate(parts, dtype=np.float64, casting="unsafe")

    def _array(self, cell: Cell, values: Any) -> Any:
        if type(values) is not np.ndarray:
            return cell.read(values)
        if values.dtype.kind not in ("iuf" if isinstance(cell, Number) else "b"):
            raise TypeError
        return values


class Texts:
    """Categories and free text: each column is a row of one object array, missing is None."""

    def __init__(self, cells: Sequence[Category]) -> None:
        self.cells = cells
        self.names = [c.name for c in cells]

    def read(self, given: Sequence[Any], typed: bool) -> tuple[Mapping[str, Any], int]:
        gaps, unseen = False, 0
        for cell, values in zip(self.cells, given, strict=True):
            if not cell.known.issuperset(values):  # what it knows is text
                gaps = not cell.check(values) <= TEXT or gaps
                unseen += cell.unseen(values)
        flat: Any = chain.from_iterable(given)
        flat = [None if v is ABSENT else v for v in flat] if gaps else list(flat)
        return dict(zip(self.names, np.array(flat, object).reshape(len(given), -1), strict=True)), unseen


class Others:
    """Whatever is read column by column."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells

    def read(self, given: Sequence[Any], typed: bool) -> tuple[Mapping[str, Any], int]:
        columns = {cell.name: cell.read(values) for cell, values in zip(self.cells, given, strict=True)}
        return columns, sum(cell.unseen(columns[cell.name]) for cell in self.cells)


def _packed(values: Iterable[Any], count: int) -> Any:
    buffer = bytearray(8 * count)
    pack_into(f"{count}d", buffer, 0, *values)  # four times as fast as np.array
    return np.frombuffer(buffer)


def blocks(cells: Sequence[Cell]) -> list[tuple[Block, list[int]]]:
    """The blocks that read these columns, each with the places of its own among them."""
    numbers = [i for i, c in enumerate(cells) if isinstance(c, Number)]
    numbers += [i for i, c in enumerate(cells) if isinstance(c, Boolean)]
    texts = {i: c for i, c in enumerate(cells) if isinstance(c, Category) and c.types == TEXT}
    others = [i for i in range(len(cells)) if i not in texts and i not in numbers]
    made: list[tuple[Block, list[int]]] = [(Numbers([cells[i] for i in numbers]), numbers)] if numbers else []
    made += [(Texts(list(texts.values())), list(texts))] if texts else []
    return made + ([(Others([cells[i] for i in others]), others)] if others else [])
