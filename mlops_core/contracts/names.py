"""Words that a declaration may use, and plain mappings that every room speaks of."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

Kind = Literal["data", "trainer", "tuner", "deployer", "monitor", "launcher", "observer", "exporter"]
KINDS: tuple[Kind, ...] = typing.get_args(Kind)
Task = Literal["binary", "multiclass", "regression"]
Mode = Literal["max", "min"]
Role = Literal["feature", "target", "id", "time", "group", "protected", "pii", "weight", "ignore"]
ROLES: tuple[Role, ...] = typing.get_args(Role)
ColumnKind = Literal["number", "category", "boolean", "time", "array", "text"]
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

# Columns: what a predictor takes and gives. One array per column, rows on the first axis. A missing
# number is NaN, a missing category or text None in an object array; an array column is n x shape.
Columns = Mapping[str, Any]
Predict = Callable[[Columns], Columns]
# A table is anything that exports the Arrow C stream, or a polars LazyFrame (which streams).
Table = Any
Scores = Mapping[str, float]
Params = Mapping[str, Any]
