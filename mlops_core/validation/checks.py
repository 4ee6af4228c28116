"""A contract as a pandera schema, and pandera's verdict as reasons per row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlops_core.errors import DataError
from mlops_core.validation.contract import ColumnRule, Contract
from mlops_core.validation.dtypes import ARRAYS, FLOATS, TIMES, dtype_name
from mlops_core.validation.intake import FLAG, Intake

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
    rules = [_sql_check(r.sql, f"{r.name}: not {r.sql}") for r in contract.rules if r.action == "reject"]
    return pa.DataFrameSchema(columns, checks=rules, strict=False)


def row_schema(contract: Contract, taken: Intake) -> Any:
    """The schema for batches: `to_pandera` without uniqueness, and the columns that say what did not convert."""
    import pandera.polars as pa

    flags = {
        FLAG + name: pa.Column(bool, pa.Check.eq(False, error=f"{name}: not {contract.rule(name).dtype}", **_CAP))
        for name in taken.coerced
    }
    return to_pandera(contract, taken.schema, whole=False).add_columns(flags)


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


def verdict(schema: Any, batch: pl.DataFrame, targets: Mapping[str, str]) -> pl.Series | None:
    """The reasons (a list of text) of each row that pandera refuses, null for the others; None where all pass.

    `targets` renames the reason of a missing value: column -> reason.
    """
    import polars as pl
    from pandera.config import ValidationDepth, config_context
    from pandera.constants import CHECK_OUTPUT_KEY
    from pandera.errors import SchemaErrors

    try:
        # Set here, since environment variables of pandera can switch validation off, or down to the schema.
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            schema.validate(batch, lazy=True)
        return None
    except SchemaErrors as errors:
        found = errors.schema_errors
    marks: list[pl.Expr] = []
    for error in found:
        if error.check_output is None:
            raise DataError(f"column {error.column_name!r}: {error}")
        reason = _reason(error, targets)
        marks.append(pl.when(~error.check_output[CHECK_OUTPUT_KEY]).then(pl.lit(reason)).alias(str(len(marks))))
    listed = pl.select(*marks).select(why=pl.concat_list(pl.all()).list.drop_nulls())
    return listed.select(pl.when(pl.col("why").list.len() > 0).then("why"))["why"]


def _reason(error: Any, targets: Mapping[str, str]) -> str:
    if error.check == "not_nullable":
        return targets.get(error.column_name, f"{error.column_name}: missing")
    return str(error.check.error)


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
        return Check.str_matches(f"^(?:{rule.regex})$", **options)
    if key == "length" and dtype == "string":
        return Check.str_length(rule.shortest, rule.longest, **options)
    return Check(_finite if key == "finite" else _list_length(rule, dtype), **options)


def _finite(data: Any) -> Any:
    import polars as pl

    return data.lazyframe.select(pl.col(data.key).is_finite())


def _list_length(rule: ColumnRule, dtype: str) -> Any:
    def within(data: Any) -> Any:
        import polars as pl

        column = pl.col(data.key)
        length = column.list.len() if dtype == "list" else column.arr.len()
        return data.lazyframe.select(
            length.is_between(rule.shortest or 0, 2**32 - 1 if rule.longest is None else rule.longest)
        )

    return within


def _sql_check(sql: str, reason: str) -> Any:
    from pandera.polars import Check

    def holds(data: Any) -> Any:
        import polars as pl

        return data.lazyframe.select(pl.sql_expr(sql))

    return Check(holds, error=reason, **_CAP)


def value_of(value: Any, dtype: str) -> Any:
    """A value of a contract in the dtype of its column: ISO text becomes a date or datetime."""
    if value is None or dtype not in TIMES:
        return value
    found = dt.datetime.fromisoformat(str(value))
    return found.date() if dtype == "date" else found


def _outside(low: Any, high: Any) -> str:
    if low is None or high is None:
        return f"above {high}" if low is None else f"below {low}"
    return f"outside {low} to {high}"
