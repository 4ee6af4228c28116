"""Columns as counts: fixed cells learned from the reference, into which windows are counted and added up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

CLASSES = 16
"""Probabilities of at most this many classes are watched one by one."""


@dataclass(frozen=True)
class Number:
    """Cells between `edges`, with one below the smallest value and one above the largest; the last is missing."""

    name: str
    edges: tuple[float, ...]

    @property
    def cells(self) -> int:
        return len(self.edges) + 2

    @classmethod
    def learn(cls, series: pl.Series, bins: int) -> Number:
        import numpy as np

        values = _floats(series)
        values = values[np.isfinite(values)]
        if not len(values):
            return cls(series.name, ())
        inner = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
        below = np.nextafter(values.min(), -np.inf)
        return cls(series.name, tuple(np.unique([below, *inner, values.max()]).tolist()))

    def code(self, series: pl.Series) -> Any:
        """The cell of each value: how many edges are smaller."""
        import numpy as np

        values = _floats(series)
        cells = np.searchsorted(np.asarray(self.edges), values, side="left")
        return np.where(np.isnan(values), self.cells - 1, cells)

    def shares(self, counts: Any) -> tuple[Any, Any]:
        """Rows below the smallest and above every other edge of those with a value; rows without: (hits, of)."""
        import numpy as np

        present, missing = counts[..., :-1], counts[..., -1:]
        above = present[..., ::-1].cumsum(-1)[..., ::-1]
        hits, of = above[..., 1:], np.broadcast_to(above[..., :1], (*counts.shape[:-1], len(self.edges)))
        hits = np.concatenate([of[..., :1] - hits[..., :1], hits[..., 1:], missing], -1)
        return hits, np.concatenate([of, above[..., :1] + missing], -1)

    def event(self, index: int, fresh: Sequence[str]) -> str:
        """What the share `index` counts, in words."""
        if index == len(self.edges):
            return "missing values"
        if index:
            return f"values above {self.edges[index]:,.6g}"
        return f"values below {math.nextafter(self.edges[0], math.inf) + 0.0:,.6g}"


@dataclass(frozen=True)
class Category:
    """One cell per level, one for all others, and one for missing."""

    name: str
    levels: tuple[str, ...]

    @property
    def cells(self) -> int:
        return len(self.levels) + 2

    @classmethod
    def learn(cls, series: pl.Series, bins: int) -> Category:
        text = _text(series).alias("value").drop_nulls()
        counts = text.value_counts().sort(["count", "value"], descending=[True, False])
        return cls(series.name, tuple(counts["value"].head(bins).to_list()))

    def code(self, series: pl.Series) -> Any:
        import polars as pl

        known = pl.Series(self.levels, dtype=pl.String)
        cells = pl.Series(range(len(self.levels)), dtype=pl.Int64)
        text = _text(series)
        found = text.replace_strict(known, cells, default=len(self.levels), return_dtype=pl.Int64)
        return found.zip_with(
            text.is_not_null(), pl.repeat(self.cells - 1, len(text), dtype=pl.Int64, eager=True)
        ).to_numpy()

    def shares(self, counts: Any) -> tuple[Any, Any]:
        """Rows of each level, and of all others, of those that have a value; then rows without: (hits, of)."""
        import numpy as np

        total = counts.sum(-1, keepdims=True)
        present = np.broadcast_to(total - counts[..., -1:], (*counts.shape[:-1], self.cells - 1))
        return counts, np.concatenate([present, total], -1)

    def event(self, index: int, fresh: Sequence[str]) -> str:
        if index < len(self.levels):
            return repr(self.levels[index])
        if index > len(self.levels):
            return "missing values"
        return "other values" + (f" ({', '.join(map(repr, fresh))})" if fresh else "")

    def fresh(self, series: pl.Series, limit: int = 3) -> list[str]:
        """Some values that are none of the levels."""
        text = _text(series).drop_nulls()
        return [str(v) for v in text.filter(~text.is_in(list(self.levels))).unique(maintain_order=True).head(limit)]


Watched = Number | Category


def derived(frame: pl.DataFrame) -> Iterator[pl.Series]:
    """The series that are watched: an array is watched by its mean and spread, probabilities one by one.

    Times are left out: they always move on.
    """
    import polars as pl

    for series in frame:
        if isinstance(series.dtype, pl.Array | pl.List):
            yield from _inside(series)
        elif not series.dtype.is_temporal() and not isinstance(series.dtype, pl.Struct | pl.Object | pl.Binary):
            yield series


def learn(series: pl.Series, bins: int) -> Watched:
    return Number.learn(series, bins) if series.dtype.is_numeric() else Category.learn(series, bins)


def to_plain(column: Watched) -> dict[str, Any]:
    if isinstance(column, Number):
        return {"name": column.name, "edges": list(column.edges)}
    return {"name": column.name, "levels": list(column.levels)}


def from_plain(data: Mapping[str, Any]) -> Watched:
    if "edges" in data:
        return Number(data["name"], tuple(data["edges"]))
    return Category(data["name"], tuple(data["levels"]))


def _inside(series: pl.Series) -> Iterator[pl.Series]:
    import numpy as np
    import polars as pl

    rows = _matrix(series)
    if series.name == "probability" and rows.shape[1] <= CLASSES:
        for k in range(1, 2) if rows.shape[1] == 2 else range(rows.shape[1]):
            yield pl.Series(f"probability[{k}]", rows[:, k])
        return
    empty = np.isnan(rows).all(1)
    rows = np.where(empty[:, None], 0.0, rows)
    for word, values in (("mean", np.nanmean(rows, 1)), ("spread", np.nanstd(rows, 1))):
        yield pl.Series(f"{series.name} ({word})", np.where(empty, np.nan, values))


def _matrix(series: pl.Series) -> Any:
    """One row of floats per cell, filled up with NaN: [rows, longest], at least one wide."""
    import numpy as np
    import polars as pl

    if isinstance(series.dtype, pl.Array) and len(series) and not series.null_count():
        return series.to_numpy().reshape(len(series), -1).astype(float)
    rows = [np.asarray(r if r is not None else [], float).ravel() for r in series.to_list()]
    filled = np.full((len(rows), max([1, *map(len, rows)])), np.nan)
    for place, row in zip(filled, rows, strict=True):
        place[: len(row)] = row
    return filled


def _floats(series: pl.Series) -> Any:
    import polars as pl

    return series.cast(pl.Float64, strict=False).to_numpy()


def _text(series: pl.Series) -> pl.Series:
    import polars as pl

    return series.cast(pl.String, strict=False)
