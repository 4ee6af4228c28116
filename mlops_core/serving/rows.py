"""From a request's JSON to the columns a predictor takes, checked against the model's signature.

No object per row: columns of one kind are gathered and converted at once. Only when they do not convert are
values looked at one by one, to say which row is wrong and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from mlops_core.contracts import Columns, Signature, record
from mlops_core.errors import did_you_mean
from mlops_core.serving.blocks import blocks
from mlops_core.serving.cells import ABSENT, CELLS, kind_of
from mlops_core.serving.decoding import Decoder
from mlops_core.serving.problems import Fault, Refused
from mlops_core.serving.requests import parse
from mlops_core.serving.tensors import Slot

FORMS = 'send {"rows": [{...}]}, {"columns": {...}} or one row as an object'
UNFIT = (TypeError, ValueError, OverflowError)


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
        self.slots = {c.name: Slot(c) for c in signature.inputs}
        self.names = frozenset(self.slots)
        self._blocks = blocks(self.cells)
        self._decoder = Decoder(self.cells)
        self._pick = _picker([c.name for c in signature.inputs])

    def read(self, data: bytes, limit: int) -> Batch:
        """The rows of a request in JSON; see `body` for its forms. Raises Refused."""
        rows = self._decoder.rows(data)
        if rows and len(rows) <= limit:
            try:
                return self._at_once(list(zip(*rows, strict=True)), len(rows), typed=True)
            except UNFIT:
                pass  # and read again, to say why
        return self.body(parse(data), limit)

    def body(self, body: Any, limit: int) -> Batch:
        """`{"rows": [{...}, ...]}`, `{"columns": {name: [...], ...}}`, or one row `{name: value, ...}`."""
        if type(body) is dict and len(body) == 1 and type(body.get("rows")) is list:
            return self.rows(body["rows"], limit)
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
        if set(map(type, rows)) != {dict}:
            wrong = [(i, kind_of(r)) for i, r in enumerate(rows) if type(r) is not dict]
            raise Refused.unfit([(i, "", f"expected a row as an object, got {kind}") for i, kind in wrong])
        try:
            listed: Sequence[Any] = list(zip(*map(self._pick, rows), strict=False))
            exact = set(map(len, rows)) == {len(self.cells)}
        except KeyError:
            listed, exact = [[row.get(c.name, ABSENT) for row in rows] for c in self.cells], False
        unknown = [] if exact else [(i, k) for i, row in enumerate(rows) for k in row if k not in self.names]
        return self._batch(listed, len(rows), [(i, k, self.unknown(k)) for i, k in unknown])

    def columns(self, columns: Mapping[str, Any], limit: int) -> Batch:
        """Each column's values as a list; where they came as numbers in binary, as an array, missing ones NaN."""
        faults: list[Fault] = []
        for name, values in columns.items():
            if name not in self.names:
                faults.append((None, name, self.unknown(name)))
            elif not isinstance(values, list | np.ndarray):
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

    def _batch(self, listed: Sequence[Any], rows: int, faults: list[Fault]) -> Batch:
        if faults:
            return self._one_by_one(listed, rows, faults)
        try:
            return self._at_once(listed, rows)
        except UNFIT:
            return self._one_by_one(listed, rows, faults)

    def _at_once(self, listed: Sequence[Any], rows: int, typed: bool = False) -> Batch:
        columns: dict[str, Any] = {}
        unseen = 0
        for block, places in self._blocks:
            found, new = block.read([listed[i] for i in places], typed)
            columns.update(found)
            unseen += new
        return Batch(columns=columns, rows=rows, unseen=unseen)

    def _one_by_one(self, listed: Sequence[Any], rows: int, faults: list[Fault]) -> Batch:
        """The same, slowly, to name what is wrong."""
        columns, unseen = {}, 0
        for cell, given in zip(self.cells, listed, strict=True):
            values = given
            if isinstance(given, np.ndarray) and given.ndim == 1:
                values = [None if v != v else v for v in given.tolist()]
            try:
                columns[cell.name] = cell.read(values)
                unseen += cell.unseen(columns[cell.name])
            except UNFIT:
                faults += cell.faults(values)
        if faults:
            raise Refused.unfit(sorted(faults, key=lambda f: -1 if f[0] is None else f[0]))
        return Batch(columns=columns, rows=rows, unseen=unseen)


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """A row's values in this order. Raises KeyError where there is none."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: tuple(row[name] for name in names)
