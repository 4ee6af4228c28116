"""The columns of a frozen data set: how they are stored, what they are for, and what values they have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlops_core.contracts import Column, ColumnKind, Role, Split
from mlops_core.errors import DataError
from mlops_core.validation.contract import ColumnRule, Contract
from mlops_core.validation.dtypes import FLOATS, dtype_name, kind_of
from mlops_core.validation.staging import Staged

if TYPE_CHECKING:
    import polars as pl

FEW_CATEGORIES = 100  # text of more different values is free text, unless the contract calls it a category
MOST_CATEGORIES = 10_000


def laid_out(clean: pl.LazyFrame, staged: Staged, target: str, values: tuple[Any, ...]) -> pl.LazyFrame:
    """`clean` in the dtypes that are frozen: lists of one length are arrays, whole-number classes are integers."""
    import polars as pl

    steps = []
    for name, dtype in staged.taken.schema.items():
        if isinstance(dtype, pl.List):
            steps.append(pl.col(name).cast(pl.Array(dtype.inner, _length(clean, name))))
    if values and dtype_name(staged.taken.schema[target]) in FLOATS and all(isinstance(v, int) for v in values):
        steps.append(pl.col(target).cast(pl.Int64))
    return clean.with_columns(steps) if steps else clean


def _length(clean: pl.LazyFrame, name: str) -> int:
    import polars as pl

    length = pl.col(name).list.len()
    low, high = clean.select(low=length.min(), high=length.max()).collect(engine="streaming").row(0)
    if low != high:
        raise DataError(
            f"the lists in column {name!r} have {low} to {high} values, and a model takes one length; "
            f"give 'length: [{high}, {high}]' in the contract to reject the others"
        )
    return int(low)


def columns_of(train: Path, contract: Contract, target: str, split: Split) -> tuple[Column, ...]:
    """One record per column of the train split, in table order; categories are counted there alone, and those of a
    pii column not told."""
    import polars as pl

    frame = pl.scan_parquet(train)
    return tuple(
        _column(frame, name, dtype, contract.rule(name), target, split)
        for name, dtype in frame.collect_schema().items()
    )


def _column(frame: pl.LazyFrame, name: str, dtype: Any, rule: ColumnRule, target: str, split: Split) -> Column:
    roles = _roles(rule, target, split)
    kind = rule.kind or kind_of(dtype_name(dtype))
    categories: tuple[str, ...] = ()
    if kind == "category" and "pii" not in roles and {"feature", "protected", "group"} & set(roles):
        categories = _categories(frame, name)
        if not rule.kind and len(categories) > FEW_CATEGORIES:
            kind, categories = "text", ()
    return Column(
        name=name,
        kind=cast(ColumnKind, kind),
        dtype=dtype_name(dtype),
        roles=roles,
        nullable=rule.nullable and name != target and kind != "array",
        categories=categories[:MOST_CATEGORIES],
        shape=_shape(dtype),
    )


def _roles(rule: ColumnRule, target: str, split: Split) -> tuple[Role, ...]:
    if rule.name == target:
        return ("target",)
    if rule.roles:
        return rule.roles
    if rule.name == split.column and split.strategy in ("time", "group"):
        return (cast(Role, split.strategy),)
    return ("feature",)


def _shape(dtype: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in getattr(dtype, "shape", ()) or ())


def _categories(frame: pl.LazyFrame, name: str) -> tuple[str, ...]:
    """The values as text, most frequent first, equal ones by alphabet."""
    import polars as pl

    counts = frame.select(value=pl.col(name).cast(pl.String)).drop_nulls().group_by("value").len()
    found = counts.sort(["len", "value"], descending=[True, False]).head(MOST_CATEGORIES).collect(engine="streaming")
    return tuple(found["value"].to_list())
