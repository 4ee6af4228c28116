"""Whether a contract that reads well also means something: for these columns, these dtypes, this target."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mlops_core.errors import Problem, did_you_mean
from mlops_core.validation.contract import ColumnRule, Contract
from mlops_core.validation.dtypes import (
    ARRAYS,
    FLOATS,
    KIND_DTYPES,
    NUMBERS,
    SIGNED,
    TIMES,
    UNSIGNED,
    dtype_name,
    widens,
)

_NOUNS = {"string": "text (quote it)", "date": "date (ISO 8601)", "datetime": "time (ISO 8601)"}


def senseless(contract: Contract, schema: Mapping[str, str] | None, target: str) -> Iterator[Problem]:
    """Everything in `contract` that cannot hold. `schema` is what the data has (name -> dtype), where known."""
    dtypes = {name: dtype_name(dtype) for name, dtype in (schema or {}).items()}
    weights = [c.name for c in contract.columns.values() if "weight" in c.roles]
    for name in weights[1:]:
        yield _problem(f"columns.{name}.role", f"one column has role weight, and {weights[0]!r} has it already")
    for rule in contract.columns.values():
        yield from _of_column(rule, dtypes, known=schema is not None, target=target)
    if contract.fresh_column:
        yield from _of_freshness(contract, dtypes, known=schema is not None)
    known = dtypes | {c.name: c.dtype for c in contract.columns.values() if c.dtype}
    for i, sql in enumerate(contract.rules):
        yield from _of_sql(f"rules.{i}.sql", sql.sql, known, complete=schema is not None)


def _of_column(rule: ColumnRule, dtypes: Mapping[str, str], *, known: bool, target: str) -> Iterator[Problem]:
    at = f"columns.{rule.name}"
    if known and rule.name not in dtypes:
        yield _problem(at, "the data has no such column", did_you_mean(rule.name, dtypes))
        return
    found = dtypes.get(rule.name, "")
    dtype = rule.dtype or found
    if rule.dtype and found and not rule.coerce and not widens(found, rule.dtype):
        hint = "say so, or 'coerce: true' to convert it and reject the rows that do not convert"
        yield _problem(f"{at}.dtype", f"the data has {found}, not {rule.dtype}", hint)
    if "weight" in rule.roles and dtype and dtype not in NUMBERS:
        yield _problem(f"{at}.role", f"a weight is a number, and this is {_a(dtype)} column")
    else:
        yield from (_problem(f"{at}.{key}", text) for key, text in _unfit(rule, dtype))
    yield from _of_roles(rule, target)
    if rule.regex:
        yield from _of_regex(f"{at}.regex", rule.regex)


def _unfit(rule: ColumnRule, dtype: str) -> Iterator[tuple[str, str]]:
    """Checks that cannot be made on a column of `dtype`, as (key, message)."""
    if rule.kind and dtype and dtype not in KIND_DTYPES[rule.kind]:
        yield "kind", f"{_a(dtype)} column cannot be of kind {rule.kind}"
    bounded = rule.low is not None or rule.high is not None
    odd = set()
    for key, used, fits in (
        ("range", bounded, (*NUMBERS, *TIMES)),
        ("regex", bool(rule.regex), ("string",)),
        ("length", rule.shortest is not None or rule.longest is not None, ("string", *ARRAYS)),
        ("outliers", rule.outliers is not None, NUMBERS),
        ("unique", rule.unique, (*NUMBERS, *TIMES, "string", "boolean")),
        ("in", bool(rule.values), (*NUMBERS, *TIMES, "string", "boolean")),
    ):
        if used and dtype and dtype not in fits:
            odd.add(key)
            yield key, f"does not apply to {_a(dtype)} column"
    bounds = "float64" if dtype in NUMBERS else dtype
    for key, values, fit in (("range", (rule.low, rule.high), bounds), ("in", rule.values, dtype)):
        for value in values:
            if value is not None and dtype and key not in odd and not _fits(value, fit):
                yield key, f"{value!r} is no {_NOUNS.get(dtype, dtype)}"
    if rule.missing is not None and not rule.nullable:
        yield "missing", "has no meaning beside 'nullable: false', which allows none"
    if rule.coerce and not rule.dtype:
        yield "coerce", "needs 'dtype', to which it converts"


def _of_roles(rule: ColumnRule, target: str) -> Iterator[Problem]:
    at = f"columns.{rule.name}.role"
    if "target" in rule.roles and rule.name != target:
        yield _problem(at, f"the target of the declaration is {target!r}, not {rule.name!r}")
    if rule.name == target and rule.roles and rule.roles != ("target",):
        yield _problem(at, f"the target has role target only, got {', '.join(rule.roles)}")
    if "feature" in rule.roles and {"id", "ignore", "weight"} & set(rule.roles):
        yield _problem(at, f"a feature cannot also be {', '.join(r for r in rule.roles if r != 'feature')}")
    if rule.positive and rule.name != target:
        yield _problem(f"columns.{rule.name}.positive", f"only the target {target!r} has a positive class")
    if rule.positive and rule.values and rule.positive not in (labels := [_label(v) for v in rule.values]):
        hint = did_you_mean(rule.positive, labels)
        yield _problem(f"columns.{rule.name}.positive", f"{rule.positive!r} is not among the values of 'in'", hint)


def _of_freshness(contract: Contract, dtypes: Mapping[str, str], *, known: bool) -> Iterator[Problem]:
    name = contract.fresh_column
    if known and name not in dtypes:
        yield _problem("freshness.column", f"the data has no column {name!r}", did_you_mean(name, dtypes))
    dtype = contract.rule(name).dtype or dtypes.get(name, "")
    if dtype and dtype not in TIMES:
        yield _problem("freshness.column", f"{name!r} is {_a(dtype)} column, not a date or datetime")


def _of_regex(at: str, pattern: str) -> Iterator[Problem]:
    import polars as pl

    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        said = str(error).split("error:")[-1].splitlines()[0].strip()
        yield _problem(at, f"{pattern!r} is no regular expression of Rust's regex: {said}")


def _of_sql(at: str, sql: str, dtypes: Mapping[str, str], *, complete: bool) -> Iterator[Problem]:
    import polars as pl

    from mlops_core.validation.dtypes import polars_dtype

    try:
        expr = pl.sql_expr(sql)
    except pl.exceptions.PolarsError as error:
        yield _problem(at, f"{sql!r} is no SQL expression: {str(error).splitlines()[0]}")
        return
    used = dict.fromkeys(expr.meta.root_names())
    unknown = [name for name in used if name not in dtypes]
    if complete:
        yield from (_problem(at, f"the data has no column {n!r}", did_you_mean(n, dtypes)) for n in unknown)
    if unknown or any(dtypes[n] in ARRAYS for n in used):
        return
    try:
        empty = pl.DataFrame(schema={n: polars_dtype(dtypes[n]) for n in used})
        given = dtype_name(empty.select(expr).dtypes[0])
    except (pl.exceptions.PolarsError, AttributeError) as error:
        yield _problem(at, f"{sql!r} cannot be evaluated: {str(error).splitlines()[0]}")
        return
    if given != "boolean":
        yield _problem(at, f"{sql!r} gives {given}, not true or false")


def _fits(value: Any, dtype: str) -> bool:
    if dtype in TIMES:
        return _is_time(value)
    if dtype in (*SIGNED, *UNSIGNED):
        return isinstance(value, int) and not isinstance(value, bool)
    if dtype in FLOATS:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "boolean": bool}.get(dtype, object))


def _is_time(value: Any) -> bool:
    if isinstance(value, dt.date):
        return True
    try:
        dt.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _a(dtype: str) -> str:
    return f"{'an' if dtype[0] in 'ai' else 'a'} {dtype}"


def _label(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problem(key: str, message: str, suggestion: str = "") -> Problem:
    return Problem(place="", key=key, message=message, suggestion=suggestion)


def in_words(problems: Iterable[Problem]) -> str:
    return "\n".join(
        f"contract: {p.key}: {p.message}" + (f"; {p.suggestion}" if p.suggestion else "") for p in problems
    )
