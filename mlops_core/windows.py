"""The prediction log cut into windows: typed Parquet of features, answers, versions and times.

Segments are read while they are being written: a torn last line is left for the next time. Segments of past
hours are kept as Parquet from then on, which is smaller and read faster.
"""

from __future__ import annotations

import calendar
import contextlib
import datetime
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import Column, Columns, Signature, Window, record, restore
from mlops_core.errors import StoreError, UsageError

if TYPE_CHECKING:
    import polars as pl

SETTLED = 600.0  # seconds after its hour when a segment is surely closed
BATCH = 50_000  # rows held as Python objects at once
log = logging.getLogger("mlops_core.windows")


def collect(
    serving_log: Path, out: Path, *, endpoint: str, version: int | None = None, since: str | None = None
) -> Window | None:
    """The logged rows of one version as one Parquet file, oldest first; None where there are none.

    `version`: by default the one that answered last. `since`: ISO time; rows from then on. `out`: the file, or
    a folder to put it in. Beside the features stand `prediction`, `probability`, and `id`, `time` (UTC) and
    `version`, each with an underscore behind it where a feature has that name.
    """
    import polars as pl

    folder, first = Path(serving_log), _seconds(since) if since else 0.0
    compact(folder)
    version = _last(folder) if version is None else version
    frames = list(_frames(folder, version, first)) if version is not None else []
    if not frames or version is None:
        return None
    at = _named("time", _kept(folder, version).signature)
    rows = pl.concat(frames).sort(at, maintain_order=True)
    rows = rows.filter(pl.col(at) >= datetime.datetime.fromtimestamp(first, datetime.UTC).replace(tzinfo=None))
    if not len(rows):
        return None
    path = Path(out) if Path(out).suffix == ".parquet" else Path(out) / f"{endpoint}-v{version}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(rows, path)
    start, end = (t.isoformat() + "Z" for t in (rows[at][0], rows[at][-1]))
    return Window(endpoint=endpoint, version=version, start=start, end=end, rows=len(rows), path=path)


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
    """Turns segments of past hours into Parquet, each whole before its segment goes; how many were turned.

    Where the folder cannot be written, the segments stay and are read as they are.
    """
    folder, now, count = Path(serving_log), time.time() if now is None else now, 0
    for segment in sorted(folder.glob("*.jsonl")):
        if _hour(segment) + 3600 + SETTLED > now:
            continue
        with contextlib.suppress(OSError, StoreError):
            frames: dict[int, list[pl.DataFrame]] = {}
            for version, frame in _segment(segment, None):
                frames.setdefault(version, []).append(frame)
            for version, found in frames.items():
                _write(_joined(found), segment.with_name(f"{segment.stem}-v{version}.parquet"))
            segment.unlink(missing_ok=True)
            count += 1
    return count


@record
class _Kept:
    """What the columns of one version's rows are."""

    signature: Signature
    target_dtype: str


def _frames(folder: Path, version: int, first: float) -> Iterator[pl.DataFrame]:
    """Where both a segment and its Parquet are there, the Parquet may not be whole: the segment is read."""
    import polars as pl

    read = set()
    for segment in sorted(folder.glob("*.jsonl")):
        if _hour(segment) + 3600 < first:
            continue
        with contextlib.suppress(FileNotFoundError):
            yield from (frame for _, frame in _segment(segment, version))
            read.add(segment.stem)
    for part in sorted(folder.glob(f"*-v{version}.parquet")):
        if part.stem.removesuffix(f"-v{version}") not in read and _hour(part) + 3600 >= first:
            yield pl.read_parquet(part)


def _last(folder: Path) -> int | None:
    """The version that answered last."""
    newest: tuple[float, int] | None = None
    for segment in sorted(folder.glob("*.jsonl"), reverse=True):
        for line in _lines(segment):
            newest = max(newest or (0.0, 0), (line["time"], line["version"]))
        if newest:
            return newest[1]
    parts = sorted((_hour(p), int(p.stem.rpartition("-v")[2])) for p in folder.glob("*-v*.parquet"))
    return parts[-1][1] if parts else None


def _segment(segment: Path, version: int | None) -> Iterator[tuple[int, pl.DataFrame]]:
    """The rows of a segment, in batches by version; of all versions where `version` is None."""
    waiting: dict[int, list[dict[str, Any]]] = {}
    rows = 0
    for line in _lines(segment):
        if version is None or line["version"] == version:
            waiting.setdefault(line["version"], []).append(line)
            rows += line["rows"]
        if rows >= BATCH:
            yield from _typed(segment.parent, waiting)
            waiting, rows = {}, 0
    yield from _typed(segment.parent, waiting)


def _typed(folder: Path, waiting: Mapping[int, list[dict[str, Any]]]) -> Iterator[tuple[int, pl.DataFrame]]:
    for version, lines in waiting.items():
        yield version, _frame(lines, _kept(folder, version))


def _lines(segment: Path) -> Iterator[dict[str, Any]]:
    import orjson

    with segment.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                found = orjson.loads(line)
                found["id"], found["time"], found["version"], found["rows"], found["features"], found["answer"]
            except (ValueError, KeyError, TypeError):
                log.warning("%s:%d: no logged prediction; passed over", segment, number)
                continue
            yield found


def _frame(lines: list[dict[str, Any]], kept: _Kept) -> pl.DataFrame:
    import polars as pl

    signature = kept.signature
    series = [_series(c, [v for line in lines for v in line["features"][c.name]]) for c in _logged(signature)]
    ids = [f"{line['id']}-{i}" for line in lines for i in range(line["rows"])]
    moments = [round(line["time"] * 1e6) for line in lines for _ in range(line["rows"])]
    versions = [line["version"] for line in lines for _ in range(line["rows"])]
    series.append(_predictions([v for line in lines for v in line["answer"]["prediction"]], kept))
    if signature.classes:
        shares = [v for line in lines for v in line["answer"]["probability"]]
        series.append(pl.Series("probability", shares, pl.Array(pl.Float64, len(signature.classes))))
    series.append(pl.Series(_named("id", signature), ids, pl.String))
    series.append(pl.Series(_named("time", signature), moments, pl.Int64).cast(pl.Datetime("us")))
    series.append(pl.Series(_named("version", signature), versions, pl.Int64))
    return pl.DataFrame(series)


def _series(column: Column, values: list[Any]) -> pl.Series:
    import numpy as np
    import polars as pl

    if column.kind == "array":
        cells = np.array(values, np.float32).reshape(len(values), *column.shape)
        return pl.Series(column.name, cells, pl.Array(pl.Float32, column.shape))
    if column.kind == "time":
        moments = pl.Series(column.name, values, pl.String).str.to_datetime(time_unit="us")
        return moments.cast(pl.Date) if column.dtype == "date" else moments
    if column.kind == "boolean":
        return pl.Series(column.name, values, pl.Float64).cast(pl.Boolean)
    if column.kind == "number":
        whole = column.dtype.startswith(("int", "uint"))
        return pl.Series(column.name, values, pl.Float64).cast(pl.Int64 if whole else pl.Float64)
    return pl.Series(column.name, values, pl.String)


def _predictions(values: list[Any], kept: _Kept) -> pl.Series:
    import polars as pl

    if kept.signature.task == "regression":
        return pl.Series("prediction", values, pl.Float64)
    whole = kept.target_dtype.startswith(("int", "uint"))
    kind = pl.Int64 if whole else pl.Boolean if kept.target_dtype == "boolean" else pl.String
    return pl.Series("prediction", values, kind)


def _logged(signature: Signature) -> tuple[Column, ...]:
    return tuple(c for c in signature.inputs if "pii" not in c.roles)


def _named(name: str, signature: Signature) -> str:
    return name + "_" * any(c.name == name for c in signature.inputs)


def _kept(folder: Path, version: int) -> _Kept:
    path = folder / f"signature-{version}.json"
    try:
        found: Mapping[str, Any] = json.loads(path.read_bytes())
        return restore(_Kept, found)
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} says what the logged rows of version {version} are, and cannot be read: {error}"
        ) from error


def _joined(frames: list[pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    return pl.concat(frames)


def _write(rows: pl.DataFrame, path: Path) -> None:
    work = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        rows.write_parquet(work)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)


def _hour(segment: Path) -> float:
    """When the hour of a segment began, from its name; now for a name that is not ours, so that it is left alone."""
    try:
        return float(calendar.timegm(time.strptime(segment.name.split("-")[0], "%Y%m%dT%H")))
    except ValueError:
        return time.time()


def _seconds(since: str) -> float:
    try:
        moment = datetime.datetime.fromisoformat(since)
    except ValueError:
        raise UsageError(f"since {since!r} is no time; expected ISO 8601, as 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
