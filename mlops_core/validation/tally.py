"""What is counted while batches pass, so that whole-table checks need no second look where none is needed."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_core.validation.contract import Contract
from mlops_core.validation.keys import mixed

if TYPE_CHECKING:
    import polars as pl

SAMPLE = 1_000_000


@dataclass
class Sample:
    """A deterministic sample of a column: all values up to SAMPLE, then those rows whose mixed number is lowest."""

    keys: Any = field(default_factory=lambda: np.empty(0, np.uint64))
    values: Any = field(default_factory=lambda: np.empty(0))
    below: int = 2**64 - 1

    def add(self, rows: Any, values: Any) -> None:
        keys = mixed(rows, 0)
        taken = ~np.isnan(values) & (keys <= np.uint64(self.below))
        self.keys, self.values = np.r_[self.keys, keys[taken]], np.r_[self.values, values[taken]]
        while len(self.values) > SAMPLE:
            self.below //= 2
            kept = self.keys <= np.uint64(self.below)
            self.keys, self.values = self.keys[kept], self.values[kept]


@dataclass
class Tally:
    """Counts over all rows (`rows`, `nulls`, `newest`, `broken` rules) and over the rejected (`reasons`)."""

    contract: Contract
    rows: int = 0
    rejected: int = 0
    unlabelled: int = 0
    newest: dt.date | None = None
    nulls: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    samples: dict[str, Sample] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    unordered: set[str] = field(default_factory=set)

    def add(self, batch: pl.DataFrame, why: pl.Series | None, unlabelled: str) -> None:
        """One batch of rows, its reasons (null where a row passes) and the reason that means: has no label."""
        rules = self.contract.columns.values()
        self.nulls.update(dict(zip(batch.columns, batch.null_count().row(0), strict=True)))
        for rule in rules:
            if rule.unique:
                self._ordered(rule.name, batch[rule.name])
            if rule.outliers is not None:
                self._sampled(rule.name, batch[rule.name])
        self._fresh(batch)
        self._rules(batch)
        self.rows += batch.height
        if why is not None:
            self._rejected(why, unlabelled)

    def _ordered(self, name: str, column: pl.Series) -> None:
        """A column that only ever grows has no duplicates; others are looked at again afterwards."""
        if name in self.unordered or not len(column):
            return
        first, before = column[0], self.last.get(name)
        grows = column.null_count() == 0 and bool((column[1:] > column[:-1]).all())
        if grows and (before is None or first > before):
            self.last[name] = column[-1]
        else:
            self.unordered.add(name)

    def _sampled(self, name: str, column: pl.Series) -> None:
        import polars as pl

        rows = np.arange(self.rows, self.rows + len(column), dtype=np.uint64)
        self.samples.setdefault(name, Sample()).add(rows, column.cast(pl.Float64).to_numpy())

    def _fresh(self, batch: pl.DataFrame) -> None:
        name = self.contract.fresh_column
        newest: Any = batch[name].max() if name else None
        if newest is not None and (self.newest is None or newest > self.newest):
            self.newest = newest

    def _rules(self, batch: pl.DataFrame) -> None:
        import polars as pl

        for rule in self.contract.rules:
            if rule.action != "reject":
                self.broken[rule.name] += batch.select((~pl.sql_expr(rule.sql)).sum()).item()

    def _rejected(self, why: pl.Series, unlabelled: str) -> None:
        refused = why.drop_nulls()
        self.rejected += len(refused)
        self.unlabelled += int((refused.list.join("|") == unlabelled).sum()) if unlabelled else 0
        counts = refused.explode(empty_as_null=False).value_counts()
        self.reasons.update({row[0]: row[1] for row in counts.rows()})


def counted(counts: Mapping[str, int], limit: int = 20) -> list[tuple[str, int]]:
    """The largest first; equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
