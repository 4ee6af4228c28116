"""A contract drafted from data: what holds for these rows, with some slack for the next ones."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import Table
from mlops_core.errors import DataError
from mlops_core.validation.contract import Contract
from mlops_core.validation.dtypes import ARRAYS, FLOATS, NUMBERS, TIMES, dtype_name
from mlops_core.validation.intake import intake
from mlops_core.validation.tables import batches, opened, schema_of

if TYPE_CHECKING:
    import polars as pl

FEW = 20  # text of at most so many values, each seen twice on average, is listed
ADDRESS = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
SLACK = 0.25  # how far beyond the seen range a value may lie, as a share of its width


def infer_contract(table: Table) -> dict[str, Any]:
    """A contract, as plain data for YAML, that `table` keeps. Streams; a column of ascending or all-different
    whole numbers or texts is taken for an id, one with e-mail addresses for pii: none of its values is told."""
    table = opened(table)
    schema = schema_of(table)
    taken = intake(Contract(), schema, "")
    seen = {name: _Seen(dtype_name(dtype)) for name, dtype in taken.schema.items()}
    rows = 0
    for raw in batches(table):
        batch = taken.apply(raw)
        rows += batch.height
        for name, column in seen.items():
            column.add(batch[name])
    if not rows:
        raise DataError("a contract cannot be drafted from a table without rows")
    return {
        "columns": {name: column.rule(rows) for name, column in seen.items()},
        "rows": {"at_least": max(1, rows // 2)},
    }


class _Seen:
    """What one column has shown so far."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.nulls = 0
        self.infinite = False
        self.low: Any = None
        self.high: Any = None
        self.values: set[Any] | None = set()
        self.unique = dtype in ("string", "int64", "int32", "uint64", "uint32")
        self.last: Any = None
        self.personal = False

    def add(self, column: pl.Series) -> None:
        self.nulls += column.null_count()
        if self.dtype in (*NUMBERS, *TIMES):
            self._bounds(column)
        elif self.dtype == "string":
            self._distinct(column)
            self.personal = self.personal or bool(column.str.contains(ADDRESS).any())
        if self.unique:
            self._ids(column)

    def _bounds(self, column: pl.Series) -> None:
        if self.dtype in FLOATS:
            self.infinite = self.infinite or bool(column.is_infinite().any())
            column = column.filter(column.is_finite())
        low, high = column.min(), column.max()
        if low is not None:
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)

    def _distinct(self, column: pl.Series) -> None:
        if self.values is not None:
            self.values |= set(column.drop_nulls().unique().head(FEW + 1).to_list())
            self.values = self.values if len(self.values) <= FEW else None

    def _ids(self, column: pl.Series) -> None:
        """Only what grows from row to row is sure to be unique in flat memory; other columns are not called ids."""
        grows = column.null_count() == 0 and bool((column[1:] > column[:-1]).all())
        self.unique = grows and (self.last is None or not len(column) or column[0] > self.last)
        self.last = column[-1] if len(column) else self.last

    def rule(self, rows: int) -> dict[str, Any]:
        rule: dict[str, Any] = {"dtype": self.dtype if self.dtype != "null" else "string", "nullable": self.nulls > 0}
        if self.nulls:
            rule["missing"] = {"at_most": min(1.0, math.ceil(round(self.nulls / rows * 150 + 1, 6)) / 100)}
        if self.personal:
            return rule | {"role": "pii"}
        if self.unique and rows > FEW:
            return rule | {"unique": True, "role": "id"}
        if self.infinite:
            rule["finite"] = False
        elif self.low is not None and self.dtype in NUMBERS:
            rule["range"] = _outward(self.low, self.high, whole=self.dtype not in FLOATS)
        elif self.low is not None and self.dtype in TIMES:
            rule["range"] = [_iso(self.low), None]
        elif self.values and self.dtype == "string" and len(self.values) * 2 <= rows:
            rule["in"] = sorted(self.values)
        if self.dtype in ARRAYS:
            rule["nullable"] = self.nulls > 0
        return rule


def _outward(low: float, high: float, *, whole: bool) -> list[Any]:
    """Bounds beyond [low, high] by SLACK of its width, rounded outward to two figures; zero stays a bound."""
    slack = (high - low) * SLACK or abs(high) * SLACK or 1
    bounds = [_rounded(low - slack, math.floor), _rounded(high + slack, math.ceil)]
    if low >= 0:
        bounds[0] = max(0.0, bounds[0])
    if high <= 0:
        bounds[1] = min(0.0, bounds[1])
    bounds = [min(bounds[0], low), max(bounds[1], high)]
    return [math.floor(bounds[0]), math.ceil(bounds[1])] if whole else [float(b) for b in bounds]


def _rounded(value: float, to: Any) -> float:
    if not value or not math.isfinite(value):
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return float(f"{to(value / unit) * unit:.12g}")


def _iso(value: dt.date) -> str:
    return value.isoformat()


__all__ = ["infer_contract"]
