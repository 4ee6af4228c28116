"""A contract as a pandera schema, and as conditions over rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlops_core.validation.contract import ColumnRule, Contract
from mlops_core.validation.dtypes import ARRAYS, FLOATS, TIMES, dtype_name

if TYPE_CHECKING:
    import polars as pl

# One failing value is enough for pandera's own message; the rows are told by its boolean output.
_CAP = {"n_failure_cases": 1}


def to_pandera(contract: Contract, schema: Mapping[str, Any], *, whole: bool = True) -> Any:
    """The pandera schema (polars) of a contract, for a table with these polars dtypes.

    Each check's `error` is the reason that a rejected row is given. `whole` adds uniqueness, which only a whole
    table can be asked for; without it the schema is right for any batch of rows.
    """
    import pandera.polars as pa

    columns = {}
    for name, dtype in schema.items():
        rule = contract.rule(name)
        columns[name] = pa.Column(
            None if dtype_name(dtype) in ARRAYS else dtype,
            checks=[
                _check(key, reason, rule, dtype_name(dtype)) for key, reason in reasons_of(rule, dtype_name(dtype))
            ],
            nullable=rule.nullable,
            unique=whole and rule.unique,
            report_duplicates="exclude_first",
        )
    rules = [sql_check(r.sql, f"{r.name}: not {r.sql}") for r in contract.rules if r.action == "reject"]
    return pa.DataFrameSchema(columns, checks=rules, strict=False)


def reasons_of(rule: ColumnRule, dtype: str) -> Iterator[tuple[str, str]]:
    """The checks of one column's values, as (key in the contract, reason of a row that fails it)."""
    name = rule.name
    if dtype in FLOATS and rule.finite:
        yield "finite", f"{name}: infinite"
    if rule.low is not None or rule.high is not None:
        yield "range", f"{name}: {_outside(rule.low, rule.high)}"
    if rule.values:
        shown = ", ".join(map(str, rule.values[:8])) + (", ..." if len(rule.values) > 8 else "")
        yield "in", f"{name}: not one of {shown}"
    if rule.regex:
        yield "regex", f"{name}: does not match {rule.regex}"
    if rule.shortest is not None or rule.longest is not None:
        yield "length", f"{name}: length {_outside(rule.shortest, rule.longest)}"


def condition(rule: ColumnRule, dtype: str) -> pl.Expr | None:
    """All checks of one column's values as one expression, true where a row passes; None where there is none."""
    import polars as pl

    column = pl.col(rule.name)
    parts = [_condition(key, rule, dtype) for key, _ in reasons_of(rule, dtype)]
    fits = pl.all_horizontal(parts).fill_null(True) if parts else None
    if rule.nullable:
        return fits
    return column.is_not_null() if fits is None else column.is_not_null() & fits


def _condition(key: str, rule: ColumnRule, dtype: str) -> pl.Expr:
    import polars as pl

    column = pl.col(rule.name)
    if key == "finite":
        return column.is_finite()
    if key == "range":
        return _between(column, value_of(rule.low, dtype), value_of(rule.high, dtype))
    if key == "in":
        return column.is_in([value_of(v, dtype) for v in rule.values])
    if key == "regex":
        return column.str.contains(_whole(rule.regex))
    return _between(_length(column, dtype), rule.shortest, rule.longest)


def _between(value: pl.Expr, low: Any, high: Any) -> pl.Expr:
    if low is None:
        return value.le(high)
    if high is None:
        return value.ge(low)
    return value.is_between(low, high)


def _length(column: pl.Expr, dtype: str) -> pl.Expr:
    if dtype == "string":
        return column.str.len_chars()
    return column.list.len() if dtype == "list" else column.arr.len()


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _check(key: str, reason: str, rule: ColumnRule, dtype: str) -> Any:
    from pandera.polars import Check

    options = {"error": reason, **_CAP}
    if key == "range":
        low, high = value_of(rule.low, dtype), value_of(rule.high, dtype)
        if low is None or high is None:
            return Check.le(high, **options) if low is None else Check.ge(low, **options)
        return Check.in_range(low, high, **options)
    if key == "in":
        return Check.isin([value_of(v, dtype) for v in rule.values], **options)
    if key == "regex":
        return Check.str_matches(_whole(rule.regex), **options)
    if key == "length" and dtype == "string":
        return Check.str_length(rule.shortest, rule.longest, **options)
    return Check(_holds(_condition(key, rule, dtype)), **options)


def sql_check(sql: str, reason: str) -> Any:
    import polars as pl
    from pandera.polars import Check

    return Check(_holds(pl.sql_expr(sql)), error=reason, **_CAP)


def _holds(expr: pl.Expr) -> Any:
    return lambda data: data.lazyframe.select(expr)


def value_of(value: Any, dtype: str) -> Any:
    """A value of a contract in the dtype of its column: ISO text becomes a date or datetime (UTC without a zone)."""
    if value is None or dtype not in TIMES:
        return value
    found = dt.datetime.fromisoformat(str(value))
    if found.tzinfo is not None:
        found = found.astimezone(dt.UTC).replace(tzinfo=None)
    return found.date() if dtype == "date" else found


def _outside(low: Any, high: Any) -> str:
    if low is None or high is None:
        return f"above {high}" if low is None else f"below {low}"
    return f"outside {low} to {high}"
