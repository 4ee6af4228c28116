"""One column of a request: what its values must be, how they become an array, and what is wrong with one."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops_core.contracts import Column
from mlops_core.serving.problems import Fault

NONE = type(None)
LARGEST = 3e38  # models compute in 32 bits
LARGEST_WHOLE = 2**62


class Wrong(ValueError):
    """What is wrong with a value, in words that the caller may read."""


class Absent:
    """Stands for a column that a row does not have."""


ABSENT = Absent()
GAPS = frozenset({NONE, Absent})


class Cell(ABC):
    """How values of one column are read: all at once, or one by one to find what is wrong."""

    wanted = ""
    types: frozenset[type] = frozenset()

    def __init__(self, column: Column) -> None:
        self.column = column
        self.name = column.name
        self.optional = column.nullable and column.kind != "array"

    def read(self, values: Sequence[Any]) -> Any:
        """The column as a predictor takes it. Raises TypeError, ValueError or OverflowError where it cannot be."""
        found = self.check(values)
        return self.convert([None if v is ABSENT else v for v in values] if Absent in found else values)

    def check(self, values: Sequence[Any]) -> set[type]:
        """The types among the values. Raises TypeError where one does not belong."""
        found = set(map(type, values))
        if not found <= self.types and not (self.optional and found <= self.types | GAPS):
            raise TypeError
        return found

    @abstractmethod
    def convert(self, values: Sequence[Any]) -> Any:
        """The values as an array, missing ones None."""

    def unseen(self, values: Any) -> int:
        """How many values training never saw."""
        return 0

    def faults(self, values: Sequence[Any]) -> list[Fault]:
        return [(i, self.name, said) for i, v in enumerate(values) if (said := self.fault(v))]

    def fault(self, value: Any) -> str:
        """What is wrong with one value; '' where nothing is."""
        if value is ABSENT or value is None:
            return "" if self.optional else "is missing" if value is ABSENT else "must not be null"
        try:
            self.read([value])
        except Wrong as error:
            return str(error)
        except (TypeError, ValueError, OverflowError):
            return f"expected {self.wanted}, got {self.shown(value)}"
        return ""

    def shown(self, value: Any) -> str:
        return kind_of(value) if "pii" in self.column.roles else brief(value)


class Number(Cell):
    wanted = "a number"
    types = frozenset({int, float})

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.whole = column.dtype.startswith(("int", "uint"))
        self.largest = LARGEST_WHOLE if self.whole else LARGEST
        if self.whole:
            self.wanted = "a whole number"

    def convert(self, values: Sequence[Any]) -> Any:
        array = np.array(values, np.float64)
        # As float64 a whole number just over the bound is the bound: those are looked at as they came.
        if bool((np.abs(array) >= self.largest).any()) and any(v is not None and abs(v) > self.largest for v in values):
            raise Wrong("is too large a number")
        if self.whole and bool((array % 1 > 0).any()):
            raise ValueError
        return array


class Boolean(Cell):
    wanted = "true or false"
    types = frozenset({bool})

    def convert(self, values: Sequence[Any]) -> Any:
        return np.array(values, np.float64)


class Category(Cell):
    """Text; where the data held numbers or booleans as categories, these too."""

    wanted = "text"
    types = frozenset({str})

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.known = frozenset(column.categories)
        if column.dtype.startswith(("int", "uint")):
            self.wanted, self.types = "a whole number or text", frozenset({str, int})
        elif column.dtype.startswith("float"):
            self.wanted, self.types = "a number or text", frozenset({str, int, float})
        elif column.dtype == "boolean":
            self.wanted, self.types = "true or false", frozenset({bool, str})

    def convert(self, values: Sequence[Any]) -> Any:
        if len(self.types) > 1 or bool in self.types:
            values = [v if v is None else self.text(v) for v in values]
        array = np.empty(len(values), object)
        array[:] = values
        return array

    def text(self, value: Any) -> str:
        """As the data frame spelled it at training."""
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(float(value)) if self.column.dtype.startswith("float") and not isinstance(value, str) else str(value)

    def unseen(self, values: Any) -> int:
        known = self.known
        if not known or known.issuperset(values):
            return 0
        return sum(1 for v in values if v is not None and v is not ABSENT and v not in known)


class Time(Cell):
    wanted = "a date or time in ISO 8601 (2026-01-31 or 2026-01-31T12:00:00Z)"
    types = frozenset({str})

    def convert(self, values: Sequence[Any]) -> Any:
        return np.array(["NaT" if v is None else _moment(v).isoformat() for v in values], "datetime64[us]")


class Array(Cell):
    types = frozenset({list, np.ndarray})

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.wanted = f"{' x '.join(map(str, column.shape))} numbers as nested lists"

    def convert(self, values: Sequence[Any]) -> Any:
        array = np.asarray(values)
        if array.dtype.kind not in "iuf" or array.shape[1:] != self.column.shape:
            raise ValueError
        if not bool((np.abs(array) <= LARGEST).all()):
            raise Wrong("holds NaN" if np.isnan(array).any() else "holds too large a number")
        return array.astype(np.float32, copy=False)


CELLS: Mapping[str, type[Cell]] = {
    "number": Number,
    "boolean": Boolean,
    "category": Category,
    "text": Category,
    "time": Time,
    "array": Array,
}


def _moment(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment.astimezone(datetime.UTC).replace(tzinfo=None) if moment.tzinfo else moment


def kind_of(value: Any) -> str:
    """The JSON type of a value, in words."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a boolean"
    for cls, words in ((str, "text"), ((int, float), "a number"), (list, "a list"), (dict, "an object")):
        if isinstance(value, cls):  # type: ignore[arg-type]
            return words
    return type(value).__name__


def brief(value: Any, limit: int = 40) -> str:
    """A value as shown in an error: short, never a whole document."""
    if isinstance(value, str):
        return "text " + repr(value if len(value) <= limit else value[:limit] + "...")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else kind_of(value)
