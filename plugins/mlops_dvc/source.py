"""Data source `dvc`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlops_core import file_digest
from mlops_core.contracts import Table
from mlops_core.errors import DataError, StoreError
from mlops_dvc.command import dvc
from mlops_dvc.lookup import Tracked, look_up

if TYPE_CHECKING:
    import polars as pl

_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".csv.gz")


@dataclass(frozen=True)
class DvcData:
    """A Parquet or CSV file, or a folder of them, that DVC tracks: the version that its .dvc file names.

    The data are read from DVC's cache where they are there, else fetched from its remote and kept. What lies in
    the workspace is not looked at: an edit counts once it was given to `dvc add`.

    path: the tracked file or folder, from the folder of the repository
    rev: a git revision (commit, branch, tag) to read it at; the present state where empty
    repo: the folder of the DVC repository, or the URL of a git repository that is one (https://..., ssh://...)
    separator: what divides the columns of a CSV file
    """

    path: str
    rev: str = ""
    repo: Path | str = Path()
    separator: str = ","

    def read(self) -> Table:
        """The table, streamed."""
        return self._scan()

    def schema(self) -> Mapping[str, str]:
        return {name: str(dtype) for name, dtype in self._scan().collect_schema().items()}

    def fingerprint(self) -> Mapping[str, str]:
        """Relative path -> md5, as DVC tracks it; reads no data."""
        return self._tracked().files

    def _tracked(self) -> Tracked:
        return look_up(self.repo, self.path, self.rev)

    def _scan(self) -> pl.LazyFrame:
        import polars as pl

        tracked = self._tracked()
        kind, names = self._readable(tracked)
        files = self._files(tracked, names)
        try:
            if kind == "Parquet":
                frame = pl.scan_parquet(files)
            else:
                frame = pl.scan_csv(files, separator=self.separator, try_parse_dates=True)
            frame.collect_schema()
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{self._words} cannot be read as {kind}: {str(error).splitlines()[0]}") from error
        return frame

    def _readable(self, tracked: Tracked) -> tuple[Literal["Parquet", "CSV"], list[str]]:
        """What the files are, and the names of those to read."""
        names = sorted(tracked.files)
        parquet = [name for name in names if (name or self.path).endswith(_PARQUET)]
        csv = [name for name in names if (name or self.path).endswith(_CSV)]
        if bool(parquet) == bool(csv):
            what = "both Parquet and CSV files" if parquet else "neither Parquet nor CSV files"
            raise DataError(f"{self._words} holds {what}; expected files of one kind, .parquet or .csv")
        return ("Parquet", parquet) if parquet else ("CSV", csv)

    def _files(self, tracked: Tracked, names: list[str]) -> list[Path]:
        """Where the bytes of the files lie: in DVC's cache, or fetched. Each is checked against its md5."""
        wanted = [tracked.files[name] for name in names]
        cached = [path for md5 in wanted if (path := tracked.object(md5)) and _sound(path, md5)]
        if len(cached) == len(wanted):
            return cached
        fetched = self._fetch(tracked)
        files = [fetched / name if name else fetched for name in names]
        for file, md5 in zip(files, wanted, strict=True):
            if not _sound(file, md5):
                raise DataError(f"{self._words}: {file} is not what DVC tracks (md5 {md5}); remove it and try again")
        return files

    def _fetch(self, tracked: Tracked) -> Path:
        home = os.environ.get("MLOPS_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        base = Path(home) / "mlops-dvc"
        name = Path(self.path).name
        out = base / tracked.digest
        if not out.exists():
            try:
                base.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=base) as part:
                    new = Path(part) / "data"
                    new.mkdir()
                    rev = ["--rev", tracked.rev] if tracked.rev else []
                    dvc("get", *rev, "-o", str(new / name), str(tracked.repo), tracked.path, cwd=base)
                    _move(new, out)
            except StoreError as error:
                raise DataError(f"{self._words} cannot be fetched: {error}") from error
            except OSError as error:
                raise DataError(str(StoreError.of(f"{self._words} cannot be kept in {base}", error))) from error
        return out / name

    @property
    def _words(self) -> str:
        at = f" at revision {self.rev!r}" if self.rev else ""
        return f"{self.path} of the DVC repository {self.repo}{at}"


def _sound(file: Path, md5: str) -> bool:
    return file.is_file() and file_digest(file).md5 == md5


def _move(new: Path, out: Path) -> None:
    try:
        new.rename(out)
    except OSError:  # another process was first
        if not out.exists():
            raise
