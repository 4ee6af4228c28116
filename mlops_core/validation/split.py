"""Where a table is cut: exact shares of rows by their keys, in flat memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import record

if TYPE_CHECKING:
    import polars as pl

DIGIT = 16
CHAIN = 32  # comparisons are pushed into the scan, a lookup is not, and costs five times the memory


@record
class Cuts:
    """Per stratum the lowest key of validation and the lowest key of test; below both is train. An edge of
    2**64 - 1 stands for none, so that this one key of all cannot be told from it."""

    stratum: str
    keys: Mapping[Any, tuple[int, int]]

    def part(self, key: str) -> pl.Expr:
        """0 for a row of train, 1 of validation, 2 of test."""
        import polars as pl

        column = pl.col(key)
        return (column >= self._edge(0)).cast(pl.Int8) + (column >= self._edge(1)).cast(pl.Int8)

    def _edge(self, which: int) -> pl.Expr:
        import polars as pl

        found = {stratum: edges[which] for stratum, edges in self.keys.items()}
        if not self.stratum:
            return pl.lit(found[None], pl.UInt64)
        if len(found) <= CHAIN:
            edge = pl.lit(None, pl.UInt64)
            for value, key in found.items():
                edge = pl.when(pl.col(self.stratum) == value).then(pl.lit(key, pl.UInt64)).otherwise(edge)
            return edge
        values = pl.Series(list(found.values()), dtype=pl.UInt64)
        return pl.col(self.stratum).replace_strict(list(found), values, return_dtype=pl.UInt64)


def sizes(rows: int, validation: float, test: float) -> tuple[int, int]:
    """How many of `rows` go to validation and to test: rounded, but at least one each where there are three."""
    least = 1 if rows >= 3 else 0
    held = [max(least if share else 0, round(rows * share)) for share in (validation, test)]
    return held[0], held[1]


def cut(frame: pl.LazyFrame, key: str, stratum: str, validation: float, test: float) -> Cuts:
    """Cuts `frame` (its uint64 column `key`; `stratum` '' or a column of few values) into the declared shares.

    The n-th lowest key is found digit by digit (radix selection, 16 bits a pass): each pass counts, per stratum,
    only rows that share the digits found so far. Rows of one key stay together.
    """
    import polars as pl

    level = pl.lit(None, pl.Int8) if not stratum else pl.col(stratum)
    frame = frame.select(level.alias("stratum"), pl.col(key).alias("key"))
    totals = frame.group_by("stratum").len().collect(engine="streaming")
    edges = []
    for name, rows in totals.rows():
        held, kept = sizes(rows, validation, test)
        edges += [(name, 0, rows - held - kept, 0), (name, 1, rows - kept, 0)]
    full = {(name, which) for name, which, rank, _ in edges if rank >= dict(totals.rows())[name]}
    schema: Any = {"stratum": totals.schema["stratum"], "which": pl.Int8, "rank": pl.Int64, "prefix": pl.UInt64}
    sought = pl.DataFrame([e for e in edges if e[:2] not in full], schema=schema, orient="row")
    for shift in range(64 - DIGIT, -1, -DIGIT):
        sought = _narrowed(frame, sought, shift)
    found = {(s, w): p for s, w, _, p in sought.rows()}
    top = 2**64 - 1
    if not stratum:
        return Cuts(stratum="", keys={None: _apart(frame, found.get((None, 0), top), found.get((None, 1), top))})
    return Cuts(stratum=stratum, keys={n: (found.get((n, 0), top), found.get((n, 1), top)) for n in totals["stratum"]})


def _narrowed(frame: pl.LazyFrame, sought: pl.DataFrame, shift: int) -> pl.DataFrame:
    """`sought` with one more digit of each edge's key, and its rank among the keys that share those digits."""
    import polars as pl

    above = frame.with_columns(prefix=pl.col("key") // 2**shift)
    if shift < 64 - DIGIT:
        wide = sought.select("stratum", "prefix").unique().lazy()
        above = above.with_columns(wide=pl.col("prefix") // 2**DIGIT)
        above = above.join(
            wide, left_on=["stratum", "wide"], right_on=["stratum", "prefix"], how="semi", nulls_equal=True
        )
    counts = above.group_by("stratum", "prefix").len().collect(engine="streaming").sort("stratum", "prefix")
    found = []
    for name, which, rank, prefix in sought.rows():
        mine = counts.filter(pl.col("stratum").eq_missing(name))
        if shift < 64 - DIGIT:
            mine = mine.filter(pl.col("prefix") // 2**DIGIT == prefix)
        ends = mine["len"].cum_sum()
        at = int(ends.search_sorted(rank, side="right"))
        found.append((name, which, rank - (int(ends[at - 1]) if at else 0), int(mine["prefix"][at])))
    return pl.DataFrame(found, schema=sought.schema, orient="row")


def _apart(frame: pl.LazyFrame, validation: int, test: int) -> tuple[int, int]:
    """The edges moved so that no split is empty where there are three keys at all: ties (a large group, a busy
    day) may have put both edges on one key, or one on the lowest."""
    import polars as pl

    key = pl.col("key")
    if validation == test:
        below = frame.filter(key < test).select(key.max()).collect(engine="streaming").item()
        validation = validation if below is None else below
    lowest = frame.select(key.min()).collect(engine="streaming").item()
    if validation == lowest:
        validation = _next(frame, lowest) or validation
        test = test if test > validation else _next(frame, validation) or test
    return validation, test


def _next(frame: pl.LazyFrame, key: int) -> int | None:
    import polars as pl

    above = frame.filter(pl.col("key") > key).select(pl.col("key").min())
    found: int | None = above.collect(engine="streaming").item()
    return found
