"""The prediction log cut into windows: typed Parquet of features, answers, labels, versions and times.

Segments are read while they are being written: a torn last line is left for the next time. Segments of past
hours are kept as Parquet from then on, which is smaller and read faster. Memory holds the rows of one hour.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core import feedback, segments
from mlops_core.contracts import Columns, Window
from mlops_core.errors import StoreError, UsageError
from mlops_core.logged import Kept, answers, kept, target, typed

if TYPE_CHECKING:
    import polars as pl

BATCH = 50_000  # rows held as Python objects at once


def collect(
    serving_log: Path, out: Path, *, endpoint: str, version: int | None = None, since: str | None = None
) -> Window | None:
    """The logged rows of one version as one Parquet file, oldest first; None where there are none.

    `version`: by default the one that answered last. `since`: ISO time; rows from then on. `out`: the file, or
    a folder to put it in. Beside the features stand `prediction`, `probability`, and `id`, `time` (UTC) and
    `version`, each with an underscore behind it where a feature has that name; where labels have come, `label`,
    null for rows that have none yet; and `<column>_hash` for pii columns that are kept as keyed hashes.
    """
    folder, first = Path(serving_log), _seconds(since) if since else 0.0
    compact(folder)
    with segments.alone(folder):
        version = _last(folder) if version is None else version
        about = None if version is None else _about(folder, version)
        if version is None or about is None:
            return None
        path = Path(out) if Path(out).suffix == ".parquet" else Path(out) / f"{endpoint}-v{version}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        at = about.named("time")
        start: Any = None
        end: Any = None
        with Parts(path) as sink:
            for rows in _labelled(_ordered(folder, version, first, at), folder, about):
                start, end = start or rows[at][0], rows[at][-1]
                sink.write(rows)
    if start is None:
        return None
    return Window(
        endpoint=endpoint,
        version=version,
        start=start.isoformat() + "Z",
        end=end.isoformat() + "Z",
        rows=sink.rows,
        path=path,
    )


def answered(frame: pl.DataFrame, answer: Columns, classes: Sequence[str] = ()) -> pl.DataFrame:
    """A table's rows with a predictor's answers beside them, typed as in a window: `prediction`, and for a
    classifier `probability`, an array of one float per class."""
    import numpy as np
    import polars as pl

    given = [pl.Series("prediction", np.asarray(answer["prediction"]).tolist())]
    if "probability" in answer:
        shares = np.asarray(answer["probability"], np.float64)
        given.append(pl.Series("probability", shares, pl.Array(pl.Float64, len(classes) or shares.shape[1])))
    return frame.with_columns(given)


def compact(serving_log: Path, now: float | None = None) -> int:
    """Turns segments of past hours, and labels, into Parquet, each whole before its segment goes; how many segments
    were turned.

    Where the folder cannot be written, the segments stay and are read as they are.
    """
    folder, now, count = Path(serving_log), time.time() if now is None else now, 0
    with segments.alone(folder):
        segments.sweep(folder)
        segments.sweep(folder / "labels")
        feedback.compact(folder, now)
        for segment in sorted(folder.glob("*.jsonl")):
            if segments.settled(segment, now) and not segments.spared(segment):
                with contextlib.suppress(OSError, StoreError), segments.locked(segment):
                    _turn(segment)
                    segment.unlink(missing_ok=True)
                    count += 1
    return count


def _about(folder: Path, version: int) -> Kept | None:
    """What a version's rows are; None where it has none."""
    there = (folder / f"signature-{version}.json").exists()
    if there or any(True for _, path in _sources(folder, version) for _ in _rows(path, version)):
        return kept(folder, version)
    return None


def _turn(segment: Path) -> None:
    with contextlib.ExitStack() as stack:
        sinks: dict[int, Parts] = {}
        for version, rows in _segment(segment, None):
            if version not in sinks:
                sinks[version] = stack.enter_context(Parts(segment.with_name(f"{segment.stem}-v{version}.parquet")))
            sinks[version].write(rows)


class Parts(contextlib.AbstractContextManager["Parts"]):
    """A Parquet file that is written piece by piece, and there when it is whole; where no row is given, one that was
    there goes."""

    def __init__(self, path: Path) -> None:
        self.path, self.work = path, path.with_name(f".{path.name}.{os.getpid()}")
        self.rows = 0
        self._writer: Any = None
        self._like: Any = None

    def write(self, rows: pl.DataFrame) -> None:
        import polars as pl
        import pyarrow.parquet as pq

        if self._writer is None:
            table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
            os.close(os.open(self.work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            self._like = rows.clear()
            self._writer = pq.ParquetWriter(self.work, table.schema, compression="zstd")
        else:
            table = _shaped(rows, self._like).to_arrow(compat_level=pl.CompatLevel.oldest())
        self._writer.write_table(table)
        self.rows += rows.height

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
            if kind is None and self._writer is not None:
                with self.work.open("rb") as file:
                    os.fsync(file.fileno())
                self.work.replace(self.path)
            elif kind is None:
                self.path.unlink(missing_ok=True)
        finally:
            self.work.unlink(missing_ok=True)


def _shaped(rows: pl.DataFrame, like: pl.DataFrame) -> pl.DataFrame:
    """The columns of `like`, null where these rows lack one: hashes are kept only since they were declared."""
    import polars as pl

    return rows.select(
        pl.col(n) if n in rows.columns else pl.lit(None, dtype=dtype).alias(n) for n, dtype in like.schema.items()
    )


def _ordered(folder: Path, version: int, first: float, at: str) -> Iterator[pl.DataFrame]:
    """The rows from `first` on in the order of time, hour by hour. The last rows of an hour wait for the first
    files of the next: replicas do not turn the hour at the same moment."""
    import polars as pl

    found = [(began, path) for began, path in _sources(folder, version) if began + segments.HOUR >= first]
    hours = sorted({began for began, _ in found})
    waiting: list[pl.DataFrame] = []
    start = datetime.datetime.fromtimestamp(first, datetime.UTC).replace(tzinfo=None)
    for number, hour in enumerate(hours):
        for path in [path for began, path in found if began == hour]:
            waiting += [f.filter(pl.col(at) >= start) for f in _rows(path, version)]
        if not waiting:
            continue
        rows = pl.concat(waiting, how="diagonal").sort(at, maintain_order=True)
        waiting = []
        if number + 1 < len(hours):
            until = datetime.datetime.fromtimestamp(hours[number + 1] - segments.SETTLED, datetime.UTC)
            waiting = [rows.filter(pl.col(at) >= until.replace(tzinfo=None))]
            rows = rows.filter(pl.col(at) < until.replace(tzinfo=None))
        if rows.height:
            yield rows


def _sources(folder: Path, version: int) -> list[tuple[float, Path]]:
    """The files that may hold rows of a version. Where both a segment and its Parquet are there, the Parquet may
    not be whole: the segment is read."""
    written = sorted(folder.glob("*.jsonl"))
    open_ones = {p.stem for p in written}
    parts = sorted(folder.glob(f"*-v{version}.parquet"))
    parts = [p for p in parts if p.stem.removesuffix(f"-v{version}") not in open_ones]
    return [(segments.began(p), p) for p in (*written, *parts)]


def _rows(path: Path, version: int) -> Iterator[pl.DataFrame]:
    import polars as pl

    with contextlib.suppress(FileNotFoundError):
        if path.suffix == ".parquet":
            yield pl.read_parquet(path, memory_map=False)
        else:
            yield from (frame for _, frame in _segment(path, version))


def _labelled(frames: Iterator[pl.DataFrame], folder: Path, about: Kept) -> Iterator[pl.DataFrame]:
    """The rows with their labels, where there are any. A request's id alone names its only row."""
    import polars as pl

    labels = feedback.frame(folder) if (folder / "labels").exists() else None
    if labels is None or not labels.height:
        yield from frames
        return
    told = labels.select("id", "number" if about.signature.task == "regression" else "label").drop_nulls()
    told.columns = ["__id", "__label"]
    id, name = about.named("id"), about.named("label")
    for rows in frames:
        request = pl.col(id).str.replace(r"-[0-9]+$", "")
        alone = pl.when((pl.len().over(request) == 1) & pl.col(id).str.ends_with("-0")).then(request)
        asked = rows.select(exact=pl.col(id), alone=alone)
        for key in ("exact", "alone"):
            asked = asked.join(told, left_on=key, right_on="__id", how="left", maintain_order="left")
            asked = asked.rename({"__label": f"by_{key}"})
        values = asked.select(pl.coalesce("by_exact", "by_alone")).to_series()
        yield rows.with_columns(target(_back(values, about), about).alias(name))


def _back(values: pl.Series, about: Kept) -> list[Any]:
    """Class names as the target's own values."""
    given = values.to_list()
    if about.signature.task == "regression":
        return given
    if about.target_dtype == "boolean":
        return [None if v is None else v == "true" for v in given]
    return [None if v is None else int(v) for v in given] if about.target_dtype.startswith(("int", "uint")) else given


def _last(folder: Path) -> int | None:
    """The version that answered a caller last."""
    newest: tuple[float, int] | None = None
    for segment in sorted(folder.glob("*.jsonl"), reverse=True):
        with contextlib.suppress(FileNotFoundError):
            for line in answers(segment):
                if line.get("role") != "shadow":
                    newest = max(newest or (0.0, 0), (line["time"], line["version"]))
        if newest:
            return newest[1]
    parts = sorted((segments.began(p), int(p.stem.rpartition("-v")[2])) for p in folder.glob("*-v*.parquet"))
    return parts[-1][1] if parts else None


def _segment(segment: Path, version: int | None) -> Iterator[tuple[int, pl.DataFrame]]:
    """The rows of a segment, in batches by version; of all versions where `version` is None."""
    waiting: dict[int, list[dict[str, Any]]] = {}
    rows = 0
    for line in answers(segment):
        if version is None or line["version"] == version:
            waiting.setdefault(line["version"], []).append(line)
            rows += line["rows"]
        if rows >= BATCH:
            yield from _typed(segment.parent, waiting)
            waiting, rows = {}, 0
    yield from _typed(segment.parent, waiting)


def _typed(folder: Path, waiting: Mapping[int, list[dict[str, Any]]]) -> Iterator[tuple[int, pl.DataFrame]]:
    for version, lines in waiting.items():
        yield version, typed(lines, kept(folder, version))


def _seconds(since: str) -> float:
    try:
        moment = datetime.datetime.fromisoformat(since)
    except ValueError:
        raise UsageError(f"since {since!r} is no time; expected ISO 8601, as 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
