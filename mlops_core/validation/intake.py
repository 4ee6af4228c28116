"""How the columns of a source become the columns that are checked and frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import record
from mlops_core.errors import DataError, did_you_mean
from mlops_core.validation.contract import ColumnRule, Contract
from mlops_core.validation.dtypes import ARRAYS, DTYPES, FLOATS, NUMBERS, dtype_name, normal, polars_dtype, widens

if TYPE_CHECKING:
    import polars as pl

RAW, FLAG = "__mlops_raw_", "__mlops_bad_"
_TRUE, _FALSE = ("true", "yes", "1", "t", "y"), ("false", "no", "0", "f", "n")


@record
class Intake:
    """`apply` brings a batch into the checked dtypes. A column that the contract converts (`coerced`) keeps its
    original beside it, under RAW, and a FLAG column says which rows did not convert."""

    columns: tuple[str, ...]
    coerced: tuple[str, ...]
    dropped: tuple[str, ...]
    schema: Mapping[str, Any]
    expressions: tuple[Any, ...]

    def apply(self, batch: pl.DataFrame) -> pl.DataFrame:
        for step in self.expressions:
            batch = batch.with_columns(step)
        return batch.select(*self.columns, *(prefix + c for c in self.coerced for prefix in (RAW, FLAG)))


def intake(contract: Contract, schema: pl.Schema, target: str, needed: tuple[str, ...] = ()) -> Intake:
    """What is taken from a source of this schema. Raises DataError with every column that cannot be."""
    import polars as pl

    kept, dropped = _kept(contract, schema, (target, *needed))
    known = {name: dtype for name, dtype in schema.items() if name in kept}
    problems = [*_missing(contract, schema, (target, *needed)), *_unfit(contract, known), *_lacking(contract, dropped)]
    if contract.extra == "refuse":
        problems += [
            f"column {c!r} is not in the contract, which refuses others" for c in schema if c not in contract.columns
        ]
    if problems:
        raise DataError("\n".join(problems))
    steps = (tuple(normal(known)), tuple(_conversions(contract, known)))
    shape = Intake(
        columns=tuple(known),
        coerced=tuple(_coerced(contract, known)),
        dropped=dropped,
        schema={},
        expressions=tuple(s for s in steps if s),
    )
    after = shape.apply(pl.DataFrame(schema=known)).schema
    return Intake(
        columns=shape.columns,
        coerced=shape.coerced,
        dropped=dropped,
        schema={c: after[c] for c in shape.columns},
        expressions=shape.expressions,
    )


def _kept(contract: Contract, schema: pl.Schema, always: tuple[str, ...]) -> tuple[set[str], tuple[str, ...]]:
    def keep(name: str) -> bool:
        if name in always:
            return True
        return name in contract.columns if contract.extra == "ignore" else True

    ignored = {c.name for c in contract.columns.values() if "ignore" in c.roles}
    used = {*always, contract.fresh_column}
    kept = {name for name in schema if keep(name) and (name not in ignored or name in used)}
    return kept, tuple(name for name in schema if name not in kept)


def _missing(contract: Contract, schema: pl.Schema, always: tuple[str, ...]) -> Iterator[str]:
    wanted = dict.fromkeys([*contract.columns, *filter(None, always), *filter(None, [contract.fresh_column])])
    for name in wanted:
        if name not in schema:
            yield f"column {name!r} is missing from the data; {did_you_mean(name, schema)}"


def _unfit(contract: Contract, known: Mapping[str, Any]) -> Iterator[str]:
    for name, dtype in known.items():
        rule, found = contract.rule(name), dtype_name(dtype)
        if rule.dtype and not rule.coerce and not widens(found, rule.dtype):
            yield f"column {name!r} is {found}, not {rule.dtype} as its contract says; 'coerce: true' converts it"
        elif rule.dtype and found != "null" and (found in ARRAYS) != (rule.dtype in ARRAYS):
            yield f"column {name!r} is {found}, which nothing converts to {rule.dtype}"
        elif not rule.dtype and found not in (*DTYPES, "null"):
            yield f"column {name!r} is {found}, which no model takes; convert it, or give it role 'ignore'"
        elif "weight" in rule.roles and (rule.dtype or found) not in NUMBERS:
            yield f"column {name!r} is {rule.dtype or found}, and a weight is a number"
        elif found in ARRAYS and dtype_name(_cell(dtype)) not in (*NUMBERS, "boolean"):
            yield f"column {name!r} is {dtype}; a list column holds numbers only"


def _lacking(contract: Contract, dropped: tuple[str, ...]) -> Iterator[str]:
    """What the contract asks of columns that are not kept."""
    import polars as pl

    asked = [(f"rules.{r.name}", pl.sql_expr(r.sql).meta.root_names()) for r in contract.rules]
    for what, names in [*asked, ("freshness", [contract.fresh_column])]:
        for name in dict.fromkeys(names):
            if name in dropped:
                yield f"{what} needs column {name!r}, which is not kept; name it under 'columns', with role id"


def _cell(dtype: Any) -> Any:
    """What one cell of a list, or of an array of any number of dimensions, holds."""
    inner = dtype.inner
    while dtype_name(dtype) == "array" and dtype_name(inner) == "array":
        inner = inner.inner
    return inner


def _coerced(contract: Contract, known: Mapping[str, Any]) -> Iterator[str]:
    for name, dtype in known.items():
        rule = contract.rule(name)
        if rule.dtype and rule.coerce and not widens(dtype_name(dtype), rule.dtype):
            yield name


def _conversions(contract: Contract, known: Mapping[str, Any]) -> Iterator[Any]:
    import polars as pl

    coerced = set(_coerced(contract, known))
    for name, dtype in known.items():
        rule, found = contract.rule(name), dtype_name(dtype)
        column, wanted = pl.col(name), rule.dtype or found
        if name in coerced:
            made = _convert(column, found, rule)
            yield column.alias(RAW + name)
            yield (column.is_not_null() & _lost(column, made, found)).fill_null(False).alias(FLAG + name)
            yield made.fill_nan(None) if rule.dtype in FLOATS else made
        elif found == "null":
            yield column.cast(polars_dtype(rule.dtype or "string") or pl.List(pl.Float32))
        elif wanted != found and wanted not in ARRAYS:
            yield column.cast(polars_dtype(wanted))


def _lost(column: pl.Expr, made: pl.Expr, found: str) -> pl.Expr:
    """Whether a value did not survive its conversion; a number must also come back the same."""
    if found in ("string", "boolean"):
        return made.is_null()
    return made.is_null() | (made.cast(polars_dtype(found), strict=False) != column)


def _convert(column: pl.Expr, found: str, rule: ColumnRule) -> pl.Expr:
    import polars as pl

    if found != "string":
        return column.cast(polars_dtype(rule.dtype), strict=False)
    text = column.str.strip_chars()
    if rule.dtype == "boolean":
        said = text.str.to_lowercase()
        return (
            pl.when(said.is_in(_TRUE))
            .then(True)
            .when(said.is_in(_FALSE))
            .then(False)
            .otherwise(None)
            .alias(column.meta.output_name())
        )
    if rule.dtype == "date":
        return text.str.to_date("%Y-%m-%d", strict=False)
    if rule.dtype == "datetime":
        return _iso(text)
    return text.cast(polars_dtype(rule.dtype), strict=False)


def _iso(text: pl.Expr) -> pl.Expr:
    """ISO 8601 with or without time, fraction and offset; an offset is converted to UTC. The forms are spelt out,
    since a guessed form could differ from batch to batch."""
    import polars as pl

    plain = text.str.replace(" ", "T", literal=True).str.strip_suffix("Z")
    forms = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
    found = [plain.str.to_datetime(f, time_unit="us", strict=False) for f in forms]
    offset = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    return pl.coalesce([*found, offset.dt.convert_time_zone("UTC").dt.replace_time_zone(None)]).alias(
        text.meta.output_name()
    )
