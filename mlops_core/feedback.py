"""What came true: labels by prediction id, late, in bulk, corrected. The latest time wins.

A prediction id is `<request id>-<row>`, or the request's id alone where it had one row. What was acknowledged is on
the disk. Labels of past hours are kept as one Parquet file a day, each id once.

    <log>/labels/<UTC hour>-<replica>.jsonl   {"id", "label", "time", "by"}
    <log>/labels/<UTC day>.parquet            the same, settled: id, label or number, time, by
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core import segments
from mlops_core.contracts import Signature, plain, record
from mlops_core.errors import did_you_mean

if TYPE_CHECKING:
    import polars as pl

ID = re.compile(r"[A-Za-z0-9._:-]{1,140}")
AHEAD = 300.0  # seconds that a label's time may lie ahead of our clock
log = logging.getLogger("mlops_core.feedback")
Fault = tuple[int | None, str, str]  # row, key, what is wrong


@record
class Label:
    """One truth: a class by its name, or a number. `time`: when it was known (Unix seconds); `by`: who said so."""

    id: str
    label: str | float
    time: float
    by: str = ""


def checked(
    rows: Iterable[Any], signature: Signature, *, by: str = "", first: int = 0, now: float | None = None
) -> tuple[list[Label], list[Fault]]:
    """Rows `{"id", "label", "time"?}` as labels, and what is wrong with the others, the rows counted from `first`."""
    now = time.time() if now is None else now
    good: list[Label] = []
    faults: list[Fault] = []
    for number, row in enumerate(rows, first):
        if not isinstance(row, Mapping):
            faults.append((number, "", 'expected an object with "id" and "label"'))
            continue
        unknown = [str(k) for k in row if k not in ("id", "label", "time")]
        label, at = _label(row.get("label"), signature), _time(row.get("time"), now)
        wrong = [(k, f"is not expected; {did_you_mean(k, ('id', 'label', 'time'))}") for k in unknown]
        if not isinstance(row.get("id"), str) or not ID.fullmatch(row["id"]):
            wrong.append(("id", "expected the prediction's id: letters, digits or any of . _ : -"))
        if isinstance(label, _Wrong):
            wrong.append(("label", label.words))
        if isinstance(at, _Wrong):
            wrong.append(("time", at.words))
        faults += [(number, k, words) for k, words in wrong]
        if not wrong and not isinstance(label, _Wrong) and not isinstance(at, _Wrong):
            good.append(Label(id=row["id"], label=label, time=at, by=by))
    return good, faults


class LabelLog:
    """Keeps labels for one process. Thread-safe."""

    def __init__(self, log: Path) -> None:
        self.kept = 0
        self._appender = segments.Appender(Path(log) / "labels")
        self._writing = threading.Lock()

    def add(self, labels: Sequence[Label]) -> None:
        """On the disk when this returns. Raises OSError; then some may be kept, and giving all again does no harm."""
        if labels:
            with self._writing:
                self._appender.append(
                    b"".join(json.dumps(plain(label)).encode() + b"\n" for label in labels), sync=True
                )
                self.kept += len(labels)

    def close(self) -> None:
        with self._writing, contextlib.suppress(OSError):
            self._appender.close()


def read_labels(log: Path, since: float = 0.0) -> dict[str, tuple[str | float, float]]:
    """Prediction id -> (label, time), the latest of each; labels whose time is `since` (Unix seconds) or later."""
    found: dict[str, tuple[str | float, float]] = {}
    folder = Path(log) / "labels"
    for path in sorted(folder.glob("*.parquet")):
        for id, label, number, at in _settled(path).select("id", "label", "number", "time").iter_rows():
            if at >= since and (id not in found or at >= found[id][1]):
                found[id] = (number if label is None else label, at)
    for path in sorted(folder.glob("*.jsonl")):
        for said in _said(path):
            if said.time >= since and (said.id not in found or said.time >= found[said.id][1]):
                found[said.id] = (said.label, said.time)
    return found


def frame(log: Path) -> pl.DataFrame:
    """Every label, each id once with its latest: id, label (text), number, time, by."""
    folder = Path(log) / "labels"
    days = [_settled(p) for p in sorted(folder.glob("*.parquet"))]
    return _latest([*days, *(_frame(_said(p)) for p in sorted(folder.glob("*.jsonl")))])


def compact(log: Path, now: float | None = None) -> int:
    """Turns labels of past hours into one Parquet file a day; how many files were turned. A label that a crash
    leaves in both is the same label."""
    folder, now = Path(log) / "labels", time.time() if now is None else now
    days: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        if segments.settled(path, now) and not segments.spared(path):
            days.setdefault(path.name[:8], []).append(path)
    for day, paths in days.items():
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for path in paths:
                held.enter_context(segments.locked(path))
            kept = folder / f"{day}.parquet"
            before = [_settled(kept)] if kept.exists() else []
            write_parquet(_latest([*before, *(_frame(_said(p)) for p in paths)]), kept)
            for path in paths:
                path.unlink(missing_ok=True)
    return sum(map(len, days.values()))


def write_parquet(rows: pl.DataFrame, path: Path) -> None:
    """Whole or not at all, readable by its owner only."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            rows.write_parquet(file)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)
        segments.sync_folder(path.parent)
    finally:
        work.unlink(missing_ok=True)


@record
class _Wrong:
    words: str


def _label(given: Any, signature: Signature) -> str | float | _Wrong:
    if given is None:
        return _Wrong(words="is missing")
    if signature.task == "regression":
        return _number(given, signature.target)
    text = given if isinstance(given, str) else json.dumps(given) if isinstance(given, bool | int | float) else ""
    if isinstance(given, float) and given.is_integer() and text not in signature.classes:
        text = str(int(given))
    if text in signature.classes:
        return text
    if not text:
        return _Wrong(words=f"expected a class of {signature.target!r} as text, a number or a boolean")
    return _Wrong(words=f"is no class of {signature.target!r}; {did_you_mean(text, signature.classes)}")


def _number(given: Any, target: str) -> float | _Wrong:
    wrong = _Wrong(words=f"expected a finite number, as {target!r} is")
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return wrong
    try:
        value = float(given)
    except (ValueError, OverflowError):
        return wrong
    return value if math.isfinite(value) else wrong


def _time(given: Any, now: float) -> float | _Wrong:
    wrong = _Wrong(words="expected a time in ISO 8601, as 2026-01-31T12:00:00Z")
    if given is None:
        return round(now, 6)
    if not isinstance(given, str):
        return wrong
    try:
        moment = datetime.datetime.fromisoformat(given)
    except ValueError:
        return wrong
    at = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    # A label of the future would win over every correction until then.
    return _Wrong(words="lies in the future") if at > now + AHEAD else at


def _said(path: Path) -> Iterator[Label]:
    import orjson

    with contextlib.suppress(FileNotFoundError):
        for number, line in enumerate(segments.lines(path), 1):
            try:
                found = orjson.loads(line)
                yield Label(id=found["id"], label=found["label"], time=found["time"], by=found.get("by", ""))
            except (ValueError, KeyError, TypeError):
                log.warning("%s:%d: no label; passed over", path, number)


def _frame(labels: Iterable[Label]) -> pl.DataFrame:
    import polars as pl

    rows = [
        (v.id, None, v.label, v.time, v.by) if isinstance(v.label, float | int) else (v.id, v.label, None, v.time, v.by)
        for v in labels
    ]
    schema = {"id": pl.String, "label": pl.String, "number": pl.Float64, "time": pl.Float64, "by": pl.String}
    return pl.DataFrame(rows, schema, orient="row")


def _settled(path: Path) -> pl.DataFrame:
    import polars as pl

    return pl.read_parquet(path, memory_map=False)


def _latest(frames: list[pl.DataFrame]) -> pl.DataFrame:
    import polars as pl

    rows = pl.concat(frames) if frames else _frame(())
    return rows.sort("time", maintain_order=True).unique("id", keep="last", maintain_order=True)
