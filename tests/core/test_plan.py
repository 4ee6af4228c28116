"""How many rows more or fewer a plan tells, where that can be counted within a moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from mlops_core import plan


def test_rows_of_every_kind_of_table_are_counted() -> None:
    table = pl.DataFrame({"x": range(5)})
    for given in (table, table.lazy(), table.to_arrow().to_reader()):
        assert plan._counted(lambda given=given: given) == 5  # type: ignore[misc]


def test_the_time_that_opening_takes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "COUNTING", 0.2)
    batch = pa.record_batch({"x": pa.array([1, 2, 3])})
    seen: list[int] = []

    def endless() -> Iterator[Any]:
        while True:
            seen.append(1)
            yield batch

    def opened() -> Any:
        time.sleep(2 * plan.COUNTING)
        return pa.RecordBatchReader.from_batches(batch.schema, endless())

    assert plan._counted(opened) is None and len(seen) == 1
