"""The contract: what a table promises. Records only; `reading` makes them from YAML's plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mlops_core.contracts import ColumnKind, Role, field, record

Action = Literal["reject", "fail", "warn"]


@record
class Outliers:
    """Values far from the middle of the whole column: `robust_z` counts scaled median absolute deviations from
    the median, `iqr` counts interquartile ranges beyond the quartiles."""

    method: Literal["robust_z", "iqr"] = "robust_z"
    limit: float = 6.0
    action: Literal["warn", "reject"] = "warn"


@record
class ColumnRule:
    """What one column promises. `low`/`high` and `values` are plain data in the column's own dtype."""

    name: str
    dtype: str = ""
    kind: ColumnKind | Literal[""] = ""
    roles: tuple[Role, ...] = ()
    nullable: bool = True
    coerce: bool = False
    finite: bool = True
    unique: bool = False
    low: Any = None
    high: Any = None
    values: tuple[Any, ...] = ()
    regex: str = ""
    shortest: int | None = None
    longest: int | None = None
    missing: float | None = None
    outliers: Outliers | None = None
    positive: str = ""


@record
class Rule:
    """A condition over the columns of a row, as a SQL expression. A row where it is unknown (null) passes."""

    name: str
    sql: str
    action: Action = "reject"


@record
class Contract:
    """A parsed contract. `fresh_column` is no older than `fresh_seconds`; `change` bounds the change of the row
    count against the data set before, as a share."""

    columns: Mapping[str, ColumnRule] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    at_least: int = 1
    change: float | None = None
    fresh_column: str = ""
    fresh_seconds: float = 0.0
    extra: Literal["allow", "ignore", "refuse"] = "allow"
    on_invalid: Literal["quarantine", "fail"] = "quarantine"
    max_rejected: float = 0.05

    def rule(self, name: str) -> ColumnRule:
        """The rule of a column; an empty one where the contract says nothing about it."""
        return self.columns.get(name) or ColumnRule(name=name)
