"""Where rejected rows go: a Parquet file with each row as it came, its number and its reasons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.privacy import Pseudonyms
from mlops_core.validation.staging import ROW, WHY, Staged

if TYPE_CHECKING:
    import polars as pl


def write_quarantine(staged: Staged, path: Path, pseudonyms: Pseudonyms | None = None) -> None:
    """Writes the rejected rows in source order, with `row` (counted from 0) and `reasons`; no file where there
    are none. Where the data has columns of these names, ours are named `_row` and `_reasons`. Columns with role pii
    are left out, or with `pseudonyms` kept as keyed hashes: the row's number leads to the source."""
    path.unlink(missing_ok=True)
    if not staged.tally.rejected:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    refused = _without_pii(staged, pseudonyms)
    names = {ROW: _free("row", staged.taken.columns), WHY: _free("reasons", staged.taken.columns)}
    refused.rename(names).sink_parquet(path, compression="zstd")
    path.chmod(0o600)


def _without_pii(staged: Staged, pseudonyms: Pseudonyms | None) -> pl.LazyFrame:
    import polars as pl

    pii = [name for name in staged.taken.columns if "pii" in staged.tally.contract.rule(name).roles]
    refused = staged.refused()
    if pseudonyms is None:
        return refused.drop(pii)
    names = pseudonyms

    def hashed(name: str) -> pl.Expr:
        def batch(values: pl.Series) -> pl.Series:
            return pl.Series(values.name, names.all(name, plain_values(values)), pl.String)

        return pl.col(name).map_batches(batch, return_dtype=pl.String)

    return refused.with_columns(hashed(name) for name in pii)


def plain_values(values: pl.Series) -> list[Any]:
    """A column of a table as requests and logs spell it: numbers as floats, times as ISO text."""
    import polars as pl

    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_list()
    return (values.cast(pl.Float64) if values.dtype.is_numeric() or values.dtype == pl.Boolean else values).to_list()


def _free(name: str, taken: tuple[str, ...]) -> str:
    while name in taken:
        name = "_" + name
    return name
