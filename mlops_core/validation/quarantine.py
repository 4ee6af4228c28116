"""Where rejected rows go: a Parquet file with each row as it came, its number and its reasons."""

from __future__ import annotations

from pathlib import Path

from mlops_core.validation.staging import ROW, WHY, Staged


def write_quarantine(staged: Staged, path: Path) -> None:
    """Writes the rejected rows in source order, with `row` (counted from 0) and `reasons`; no file where there
    are none. Where the data has columns of these names, ours are named `_row` and `_reasons`."""
    path.unlink(missing_ok=True)
    if not staged.tally.rejected:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    refused = staged.refused()
    names = {ROW: _free("row", staged.taken.columns), WHY: _free("reasons", staged.taken.columns)}
    refused.rename(names).sink_parquet(path, compression="zstd")


def _free(name: str, taken: tuple[str, ...]) -> str:
    while name in taken:
        name = "_" + name
    return name
