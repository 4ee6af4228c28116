"""Checks that only a whole table can be asked for: uniqueness, outliers, missing share, row count, freshness."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlops_core.contracts import record
from mlops_core.validation.checks import reasons_of
from mlops_core.validation.contract import ColumnRule, Contract, Outliers
from mlops_core.validation.dtypes import dtype_name
from mlops_core.validation.intake import Intake
from mlops_core.validation.tally import Sample, Tally

if TYPE_CHECKING:
    import polars as pl

ROW = "__mlops_row"
PART = 2_000_000  # rows grouped at once, which bounds the memory of a uniqueness check
Reject = Callable[[str, Any], None]


@record
class Checked:
    """How one check of the contract came out. `failed` counts rows (for row counts and freshness: 0 or 1)."""

    check: str
    state: Literal["ran", "skipped"] = "ran"
    failed: int = 0
    action: Literal["reject", "warn", "fail"] = "reject"
    note: str = ""


@record
class Circumstances:
    """What a check needs beside the data: the time, and the row count of the data set before."""

    now: dt.datetime
    previous: int | None = None


def check_whole(
    scan: pl.LazyFrame, tally: Tally, contract: Contract, reject: Reject, around: Circumstances
) -> Iterator[Checked]:
    """Makes the whole-table checks. `scan` holds every checked column and the row number; `reject` is called
    with a reason and the (ascending) numbers of the rows that it concerns."""
    for rule in contract.columns.values():
        if rule.unique:
            yield _unique(scan, tally, contract, rule, reject)
        if rule.outliers is not None:
            yield _outlying(scan, tally, rule, rule.outliers, reject)
        if rule.missing is not None:
            yield _missing(tally, rule.name, rule.missing)
    yield _enough(tally, contract)
    if contract.change is not None:
        yield _changed(tally, contract.change, around.previous)
    if contract.fresh_column:
        yield _fresh(tally, contract, around.now)
    for sql in contract.rules:
        if sql.action != "reject":
            yield Checked(check=f"rules.{sql.name}", failed=tally.broken[sql.name], action=sql.action, note=sql.sql)


def check_rows(tally: Tally, contract: Contract, taken: Intake) -> Iterator[Checked]:
    """The checks that pandera made row by row, counted."""
    for name, dtype in taken.schema.items():
        rule = contract.rule(name)
        if rule.dtype:
            yield Checked(
                check=f"columns.{name}.dtype", failed=tally.reasons[f"{name}: not {rule.dtype}"], note=rule.dtype
            )
        if not rule.nullable:
            yield Checked(check=f"columns.{name}.nullable", failed=tally.reasons[f"{name}: missing"])
        for key, reason in reasons_of(rule, dtype_name(dtype)):
            yield Checked(check=f"columns.{name}.{key}", failed=tally.reasons[reason], note=reason)
    for sql in contract.rules:
        if sql.action == "reject":
            yield Checked(check=f"rules.{sql.name}", failed=tally.reasons[f"{sql.name}: not {sql.sql}"], note=sql.sql)
    for name in taken.dropped:
        if name in contract.columns:
            yield Checked(check=f"columns.{name}", state="skipped", note="the column is ignored")


def _unique(scan: pl.LazyFrame, tally: Tally, contract: Contract, rule: ColumnRule, reject: Reject) -> Checked:
    check = f"columns.{rule.name}.unique"
    if rule.name not in tally.unordered:
        return Checked(check=check, note="grows from row to row")
    rows, many = duplicates(scan, rule.name, tally.rows, most=math.floor(contract.max_rejected * tally.rows))
    if many:
        note = f"{many:,} row{'s' * (many != 1)} seen before, more than max_rejected allows; they are not listed"
        return Checked(check=check, failed=many, action="fail", note=note)
    if len(rows):
        reject(f"{rule.name}: seen before", rows)
    return Checked(check=check, failed=len(rows))


def duplicates(scan: pl.LazyFrame, name: str, rows: int, most: int) -> tuple[Any, int]:
    """The numbers of the rows whose value an earlier row has; or, where they are more than `most`, only their count.

    Looks at one part of the values (by hash) after the other, so that memory stays flat. Missing values are no
    duplicates of each other.
    """
    import polars as pl

    column, parts = pl.col(name), max(1, math.ceil(rows / PART))
    found: list[Any] = []
    count = 0
    for part in range(parts):
        mine = scan.filter(column.is_not_null() & (column.hash() % parts == part)).select(column.alias("value"), ROW)
        seen = mine.group_by("value").agg(first=pl.col(ROW).min(), times=pl.len()).filter(pl.col("times") > 1)
        again = seen.collect(engine="streaming")
        count += int(again["times"].sum()) - again.height
        if again.height and count <= most:
            held = mine.join(again.lazy().select("value", "first"), on="value").filter(pl.col(ROW) != pl.col("first"))
            found.append(held.select(ROW).collect(engine="streaming")[ROW].to_numpy())
    if count > most:
        return np.empty(0, np.uint64), count
    return np.sort(np.concatenate(found)) if found else np.empty(0, np.uint64), 0


def _outlying(scan: pl.LazyFrame, tally: Tally, rule: ColumnRule, outliers: Outliers, reject: Reject) -> Checked:
    import polars as pl

    check = f"columns.{rule.name}.outliers"
    bounds = limits(tally.samples.get(rule.name, Sample()), outliers)
    if bounds is None:
        why = "half of the values are equal, so that nothing can be called far"
        return Checked(check=check, state="skipped", action=outliers.action, note=why)
    low, high = bounds
    far = scan.filter((pl.col(rule.name) < low) | (pl.col(rule.name) > high)).select(ROW)
    if outliers.action == "warn":
        count = far.select(pl.len()).collect(engine="streaming").item()
        return Checked(check=check, failed=count, action="warn", note=f"outside {low:.6g}..{high:.6g}")
    rows = far.collect(engine="streaming")[ROW].sort().to_numpy()
    if len(rows):
        reject(f"{rule.name}: outlier, outside {low:.6g}..{high:.6g}", rows)
    return Checked(check=check, failed=len(rows), note=f"outside {low:.6g}..{high:.6g}")


def limits(sample: Sample, outliers: Outliers) -> tuple[float, float] | None:
    """The bounds beyond which a value is an outlier; None where the middle of the values has no width."""
    values = sample.values[np.isfinite(sample.values)]
    if not len(values):
        return None
    if outliers.method == "robust_z":
        middle = np.median(values)
        spread = 1.4826 * np.median(np.abs(values - middle))
        low, high = middle - outliers.limit * spread, middle + outliers.limit * spread
    else:
        first, third = np.quantile(values, [0.25, 0.75])
        spread = third - first
        low, high = first - outliers.limit * spread, third + outliers.limit * spread
    return (float(low), float(high)) if spread > 0 else None


def _missing(tally: Tally, name: str, at_most: float) -> Checked:
    share = tally.nulls[name] / max(tally.rows, 1)
    note = f"{share:.1%} missing, at most {at_most:.1%} allowed"
    return Checked(
        check=f"columns.{name}.missing", failed=tally.nulls[name] * (share > at_most), action="fail", note=note
    )


def _enough(tally: Tally, contract: Contract) -> Checked:
    note = f"{tally.rows:,} rows, at least {contract.at_least:,} expected"
    return Checked(check="rows.at_least", failed=int(tally.rows < contract.at_least), action="fail", note=note)


def _changed(tally: Tally, change: float, previous: int | None) -> Checked:
    if not previous:
        return Checked(check="rows.change", state="skipped", action="fail", note="there is no data set before this one")
    moved = abs(tally.rows - previous) / previous
    note = f"{previous:,} rows before, {tally.rows:,} now: {moved:.1%} change, at most {change:.1%} allowed"
    return Checked(check="rows.change", failed=int(moved > change), action="fail", note=note)


def _fresh(tally: Tally, contract: Contract, now: dt.datetime) -> Checked:
    newest, name = tally.newest, contract.fresh_column
    if newest is None:
        return Checked(check="freshness", failed=1, action="fail", note=f"column {name!r} holds no time at all")
    moment = newest if isinstance(newest, dt.datetime) else dt.datetime.combine(newest, dt.time.max)
    age = (now.astimezone(dt.UTC).replace(tzinfo=None) - moment).total_seconds()
    allowed = f"at most {contract.fresh_seconds / 86400:.1f} allowed"
    shown = "" if "pii" in contract.rule(name).roles else f" is {newest},"
    note = f"the newest {name!r}{shown} {age / 86400:.1f} days ago; {allowed}"
    return Checked(check="freshness", failed=int(age > contract.fresh_seconds), action="fail", note=note)
