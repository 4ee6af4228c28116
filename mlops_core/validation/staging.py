"""The one pass over a source: each batch is brought into shape, judged by pandera, counted and set aside on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_core.contracts import Table
from mlops_core.validation.contract import Contract
from mlops_core.validation.intake import FLAG, RAW, Intake
from mlops_core.validation.keys import Keys
from mlops_core.validation.tables import batches
from mlops_core.validation.tally import Tally
from mlops_core.validation.verdicts import judge

if TYPE_CHECKING:
    import polars as pl

ROW, WHY, KEY = "__mlops_row", "__mlops_why", "__mlops_key"


@dataclass
class Staged:
    """Every row of the source in shape, as Parquet parts: its number ROW, its key KEY, and WHY it is rejected
    (a list of reasons, null for a clean row)."""

    folder: Path
    taken: Intake
    tally: Tally
    starts: list[int]

    def scan(self) -> pl.LazyFrame:
        import polars as pl

        return pl.scan_parquet([self.part(i) for i in range(len(self.starts))])

    def clean(self) -> pl.LazyFrame:
        """The rows that nothing speaks against, with their keys."""
        import polars as pl

        return self.scan().filter(pl.col(WHY).is_null()).select(*self.taken.columns, ROW, KEY)

    def refused(self) -> pl.LazyFrame:
        """The rejected rows as the source has them, with their row numbers and reasons."""
        import polars as pl

        raw = [pl.col(RAW + c).alias(c) if c in self.taken.coerced else pl.col(c) for c in self.taken.columns]
        return self.scan().filter(pl.col(WHY).is_not_null()).select(*raw, ROW, WHY)

    def reject(self, reason: str, rows: Any) -> None:
        """Gives rows (ascending numbers) one more reason; only the parts that hold them are rewritten."""
        import polars as pl

        ends = [*self.starts[1:], self.tally.rows]
        for i, (start, end) in enumerate(zip(self.starts, ends, strict=True)):
            hit = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
            if len(hit):
                part = pl.read_parquet(self.part(i), memory_map=False)
                marked = np.zeros(part.height, bool)
                marked[(hit - start).astype(np.int64)] = True
                self.tally.rejected += int((pl.Series(marked) & part[WHY].is_null()).sum())
                more = pl.when(pl.Series(marked)).then(pl.concat_list(pl.col(WHY).fill_null([]), pl.lit(reason)))
                part = part.with_columns(more.otherwise(WHY).alias(WHY))
                part.write_parquet(self.part(i), compression="lz4", statistics=False)
        self.tally.reasons[reason] += len(rows)

    def part(self, number: int) -> Path:
        return self.folder / f"{number:06}.parquet"


def passed(
    table: Table, contract: Contract, taken: Intake, wanted: Mapping[str, str], unlabelled: str = "",
    keys: Keys | None = None, folder: Path | None = None,
) -> Staged:  # fmt: skip
    """Runs the pass. `wanted` are columns that may not be missing, with the reason of a row where they are;
    `unlabelled` is the one of these reasons that is no fault of the data. Without a folder nothing is kept."""
    import polars as pl

    judged, tally = judge(contract, taken, wanted), Tally(contract)
    staged = Staged(folder or Path(), taken, tally, [])
    for raw in batches(table):
        batch = taken.apply(raw)
        why = judged.reasons(batch)
        first = tally.rows
        tally.add(batch.select(taken.columns), why, unlabelled)
        if folder is None:
            continue
        key = keys(batch, first) if keys else np.zeros(batch.height, np.uint64)
        part = batch.drop([FLAG + c for c in taken.coerced]).with_columns(
            pl.int_range(first, first + batch.height, dtype=pl.UInt64).alias(ROW),
            pl.Series(KEY, key, dtype=pl.UInt64),
            (pl.lit(None, pl.List(pl.String)) if why is None else why).alias(WHY),
        )
        part.write_parquet(staged.part(len(staged.starts)), compression="lz4", statistics=False)
        staged.starts.append(first)
    return staged
