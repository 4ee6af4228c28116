"""Validation without freezing: how a table stands to its contract."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import Table, record
from mlops_core.validation.freezing import load_contract
from mlops_core.validation.intake import intake
from mlops_core.validation.staging import ROW, Staged, passed
from mlops_core.validation.tables import opened, schema_of
from mlops_core.validation.whole import Checked, Circumstances, check_rows, check_whole

if TYPE_CHECKING:
    import polars as pl


@record
class Looked:
    """How a table stands to its contract: rows, rejected rows, how many for which reason, and every check."""

    rows: int
    rejected: int
    reasons: Mapping[str, int]
    checks: tuple[Checked, ...]

    @property
    def valid(self) -> bool:
        return not any(c.failed and c.action != "warn" for c in self.checks)


def validate(
    table: Table, contract: Mapping[str, Any], *, previous: int | None = None, now: dt.datetime | None = None
) -> Looked:
    """Checks all rows of `table` and writes nothing; a stream that can be read only once is kept in a temporary
    folder meanwhile."""
    import polars as pl

    parsed, table = load_contract(contract), opened(table)
    taken = intake(parsed, schema_of(table), "")
    around = Circumstances(now=now or dt.datetime.now(dt.UTC), previous=previous)
    with tempfile.TemporaryDirectory(prefix="mlops-") as folder:
        once = not isinstance(table, pl.LazyFrame | pl.DataFrame)
        staged = passed(table, parsed, taken, {}, folder=Path(folder) if once else None)
        scan = staged.scan() if once else _shaped(table, staged)
        # A row may be refused for several reasons: only kept rows know, so count them only where they are kept.
        reject = staged.reject if once else _only_counted(staged)
        checks = (*check_rows(staged.tally, parsed, taken), *check_whole(scan, staged.tally, parsed, reject, around))
    tally = staged.tally
    return Looked(rows=tally.rows, rejected=tally.rejected, reasons=dict(tally.reasons), checks=checks)


def _shaped(table: pl.LazyFrame | pl.DataFrame, staged: Staged) -> pl.LazyFrame:
    lazy: Any = table.lazy()
    for step in staged.taken.expressions:
        lazy = lazy.with_columns(step)
    shaped: pl.LazyFrame = lazy.select(staged.taken.columns).with_row_index(ROW)
    return shaped


def _only_counted(staged: Staged) -> Any:
    def reject(reason: str, rows: Any) -> None:
        staged.tally.reasons[reason] += len(rows)

    return reject
