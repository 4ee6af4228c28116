"""Data source `parquet`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_core.contracts import Table
from mlops_core.errors import DataError
from mlops_tabular import files

SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class Parquet:
    """Parquet files, streamed.

    All files must have the same columns and dtypes; a file that differs is named.

    path: a file, a folder (all .parquet and .pq files in it, deep), or a pattern such as data/2024-*.parquet;
        also as a URL, s3://bucket/data/
    columns: the columns to take; all where empty
    hive: whether folder names such as year=2024 are columns
    """

    path: Path
    columns: tuple[str, ...] = ()
    hive: bool = False

    def read(self) -> Table:
        import polars as pl

        found = self._files()
        names = self._same(found)
        frame = pl.scan_parquet(found, hive_partitioning=self.hive)
        if len({tuple(_schema(p)) for p in found}) > 1:  # the same columns in another order
            frame = pl.concat(
                [pl.scan_parquet(p, hive_partitioning=self.hive).select(*names, pl.exclude(names)) for p in found]
            )
        return frame.select(self.columns) if self.columns else frame

    def schema(self) -> Mapping[str, str]:
        import polars as pl

        found = self._files()
        self._same(found[:1])
        if self.hive:
            return {n: str(t) for n, t in pl.scan_parquet(found, hive_partitioning=True).collect_schema().items()}
        known = _schema(found[0])
        return {n: str(t) for n, t in known.items() if not self.columns or n in self.columns}

    def fingerprint(self) -> Mapping[str, str]:
        return files.fingerprint(self.path, self._files())

    def _files(self) -> list[Path]:
        return files.find(self.path, SUFFIXES)

    def _same(self, found: list[Path]) -> list[str]:
        """The columns that all files have. Raises DataError naming the first that differs, and how."""
        first = _schema(found[0])
        for path in found[1:]:
            other = _schema(path)
            for name in [*first, *other]:
                if name not in other or name not in first:
                    lacking, having = (path, found[0]) if name not in other else (found[0], path)
                    raise DataError(f"{lacking} has no column {name!r}, which {having} has")
                if first[name] != other[name]:
                    raise DataError(f"column {name!r} is {first[name]} in {found[0]} and {other[name]} in {path}")
        unknown = [c for c in self.columns if c not in first and not self.hive]
        if unknown:
            from mlops_core.errors import did_you_mean

            raise DataError(f"{found[0]} has no column {unknown[0]!r}; {did_you_mean(unknown[0], first)}")
        return list(first)


def _schema(path: Path) -> dict[str, Any]:
    import polars as pl

    try:
        return dict(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        size = path.stat().st_size
        what = "is empty" if not size else f"is no Parquet file: {str(error).splitlines()[0]}"
        raise DataError(f"{path} {what}") from error
