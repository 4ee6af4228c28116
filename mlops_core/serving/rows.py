"""From a request's JSON to the columns a predictor takes, checked against the model's signature.

No object per row: each column is gathered and converted at once. Only when a column does not convert are its
values looked at one by one, to say which row is wrong and why.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlops_core.contracts import Column, Columns, Signature, record
from mlops_core.errors import did_you_mean
from mlops_core.serving.problems import Fault, Refused

NONE = type(None)
FORMS = 'send {"rows": [{...}]}, {"columns": {...}} or one row as an object'
LARGEST = 3e38  # models compute in 32 bits
LARGEST_WHOLE = 2**62


@record
class Batch:
    """The rows of one request as columns; `unseen` counts values of categories that training never saw."""

    columns: Columns
    rows: int
    unseen: int


class Reader:
    """Reads requests for one signature."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.cells = tuple(CELLS[c.kind](c) for c in signature.inputs)
        self.names = frozenset(c.name for c in signature.inputs)

    def body(self, body: Any, limit: int) -> Batch:
        """`{"rows": [{...}, ...]}`, `{"columns": {name: [...], ...}}`, or one row `{name: value, ...}`."""
        if not isinstance(body, dict) or not body:
            given = "an empty object" if body == {} else kind_of(body)
            raise Refused(422, f"the body is {given}; {FORMS}")
        form = next((f for f in ("rows", "columns") if f in body and self._is_form(f, body)), "")
        if not form:
            return self.rows([body], limit)
        beside = [k for k in body if k != form]
        if beside:
            raise Refused.unfit([(None, beside[0], f"does not belong beside {form!r}")])
        if form == "rows":
            if not isinstance(body[form], list):
                raise Refused(422, f"'rows' is {kind_of(body[form])}, expected a list of rows")
            return self.rows(body[form], limit)
        if not isinstance(body[form], dict):
            raise Refused(422, f"'columns' is {kind_of(body[form])}, expected an object of lists")
        return self.columns(body[form], limit)

    def _is_form(self, form: str, body: dict[str, Any]) -> bool:
        """Whether `form` is our word here, and not a column of the model that happens to be called so."""
        return form not in self.names or (len(body) == 1 and isinstance(body[form], list | dict))

    def rows(self, rows: list[Any], limit: int) -> Batch:
        self._count(len(rows), limit)
        wrong = [(i, kind_of(r)) for i, r in enumerate(rows) if type(r) is not dict]
        if wrong:
            raise Refused.unfit([(i, "", f"expected a row as an object, got {kind}") for i, kind in wrong])
        try:
            listed = [[row[c.name] for row in rows] for c in self.cells]
            exact = all(len(row) == len(self.cells) for row in rows)
        except KeyError:
            listed, exact = [[row.get(c.name, ABSENT) for row in rows] for c in self.cells], False
        unknown = [] if exact else [(i, k) for i, row in enumerate(rows) for k in row if k not in self.names]
        return self._batch(listed, len(rows), [(i, k, self.unknown(k)) for i, k in unknown])

    def columns(self, columns: Mapping[str, Any], limit: int) -> Batch:
        faults: list[Fault] = []
        for name, values in columns.items():
            if name not in self.names:
                faults.append((None, name, self.unknown(name)))
            elif not isinstance(values, list):
                faults.append((None, name, f"expected a list of values, got {kind_of(values)}"))
        if faults:
            raise Refused.unfit(faults)
        counts = {name: len(values) for name, values in columns.items()}
        rows = max(counts.values(), default=0)
        self._count(rows, limit)
        faults = [(None, name, f"has {n} values, others have {rows}") for name, n in counts.items() if n != rows]
        if faults:
            raise Refused.unfit(faults)
        return self._batch([columns.get(c.name, [ABSENT] * rows) for c in self.cells], rows, [])

    def unknown(self, name: str) -> str:
        if name == self.signature.target:
            return "is what the model predicts; leave it out"
        return f"unknown column; {did_you_mean(name, self.names)}"

    def _count(self, rows: int, limit: int) -> None:
        if rows == 0:
            raise Refused(422, "there are no rows; send at least one")
        if rows > limit:
            raise Refused(
                413, f"{rows} rows are more than the {limit} that one request may hold; send several requests"
            )

    def _batch(self, listed: list[list[Any]], rows: int, faults: list[Fault]) -> Batch:
        columns, unseen = {}, 0
        for cell, values in zip(self.cells, listed, strict=True):
            try:
                columns[cell.name] = cell.read(values)
                unseen += cell.unseen(columns[cell.name])
            except (TypeError, ValueError, OverflowError):
                faults += cell.faults(values)
        if faults:
            raise Refused.unfit(sorted(faults, key=lambda f: -1 if f[0] is None else f[0]))
        return Batch(columns=columns, rows=rows, unseen=unseen)


class Wrong(ValueError):
    """What is wrong with a value, in words that the caller may read."""


class _Absent:
    """Stands for a column that a row does not have."""


ABSENT = _Absent()


class Cell:
    """How values of one column are read: all at once, or one by one to find what is wrong."""

    wanted = ""
    types: frozenset[type] = frozenset()

    def __init__(self, column: Column) -> None:
        self.column = column
        self.name = column.name
        self.optional = column.nullable and column.kind != "array"

    def read(self, values: list[Any]) -> Any:
        """The column as a predictor takes it. Raises TypeError, ValueError or OverflowError where it cannot be."""
        found = set(map(type, values))
        if not found <= self.types:
            if not (self.optional and found <= self.types | {NONE, _Absent}):
                raise TypeError
            values = [None if v is ABSENT else v for v in values]
        return self.convert(values)

    def convert(self, values: list[Any]) -> Any:
        """The values as an array, missing ones None. Each kind of column has its own; this class is none of them."""
        raise NotImplementedError

    def unseen(self, array: Any) -> int:
        return 0

    def faults(self, values: list[Any]) -> list[Fault]:
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

    def convert(self, values: list[Any]) -> Any:
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

    def convert(self, values: list[Any]) -> Any:
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

    def convert(self, values: list[Any]) -> Any:
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

    def unseen(self, array: Any) -> int:
        known = self.known
        return sum(1 for v in array if v is not None and v not in known) if known else 0


class Time(Cell):
    wanted = "a date or time in ISO 8601 (2026-01-31 or 2026-01-31T12:00:00Z)"
    types = frozenset({str})

    def convert(self, values: list[Any]) -> Any:
        return np.array([np.datetime64("NaT") if v is None else _moment(v) for v in values], "datetime64[us]")


class Array(Cell):
    types = frozenset({list})

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.wanted = f"{' x '.join(map(str, column.shape))} numbers as nested lists"

    def convert(self, values: list[Any]) -> Any:
        array = np.array(values)
        if array.dtype.kind not in "iuf" or array.shape[1:] != self.column.shape:
            raise ValueError
        if array.size and bool((np.abs(array) > LARGEST).any()):
            raise Wrong("holds too large a number")
        return array.astype(np.float32)


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
