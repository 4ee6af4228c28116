"""What is to be predicted: the task and its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_core.contracts import Task
from mlops_core.errors import DataError, did_you_mean
from mlops_core.validation.dtypes import FLOATS, NUMBERS, dtype_name

if TYPE_CHECKING:
    import polars as pl

FEW = 20
MANY = 1000


def task_of(clean: pl.LazyFrame, target: str, declared: str) -> tuple[Task, tuple[Any, ...]]:
    """The task, and for a classification its target values in order (numbers by size, text by alphabet).

    Left to itself: a number of more than 20 different values, or with fractions and more than 2, is a
    regression; two values are binary; all else is multiclass.
    """

    dtype = dtype_name(clean.collect_schema()[target])
    values = _distinct(clean, target)
    if len(values) < 2:
        only = f" ({values[0]!r})" if values else ""
        raise DataError(
            f"the target {target!r} has the same value in every row{only}; there is nothing to learn from it"
        )
    fractions = dtype in FLOATS and any(v != int(v) for v in values if abs(v) < 2**53)
    if declared == "regression" or (
        declared == "auto" and dtype in NUMBERS and (len(values) > FEW or (fractions and len(values) > 2))
    ):
        if dtype not in (*NUMBERS, "boolean"):
            raise DataError(f"a regression needs a number as its target, and {target!r} is {dtype}")
        return "regression", ()
    if len(values) > MANY:
        raise DataError(
            f"the target {target!r} has over {MANY} different values, too many for classes; "
            "declare data.task: regression, or another target"
        )
    if declared == "binary" and len(values) > 2:
        raise DataError(
            f"a binary task needs two classes, and {target!r} has {len(values)}: {', '.join(map(str, values[:8]))}"
        )
    values = [int(v) for v in values] if dtype in FLOATS and not fractions else values
    return ("binary" if len(values) == 2 and declared != "multiclass" else "multiclass"), tuple(values)


def _distinct(clean: pl.LazyFrame, target: str) -> list[Any]:
    """The different values in order, not many more than MANY of them."""
    found = clean.select(target).unique().head(MANY + 1).collect(engine="streaming")[target]
    return found.sort().to_list()


def labels_of(values: tuple[Any, ...], positive: str, target: str) -> tuple[str, ...]:
    """The classes as text, as polars writes them; for a binary task the declared `positive` comes second."""
    import polars as pl

    labels = tuple(pl.Series(values).cast(pl.String).to_list())
    if not positive:
        return labels
    if positive not in labels:
        raise DataError(
            f"the positive class {positive!r} of {target!r} does not occur; {did_you_mean(positive, labels)}"
        )
    return (*(v for v in labels if v != positive), positive) if len(labels) == 2 else labels
