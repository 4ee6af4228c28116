"""What is kept of the rows that an endpoint answered: labels come, old rows go, a subject is forgotten."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_core import segments
from mlops_core.contracts import Rollout, plain, record
from mlops_core.errors import DataError, StoreError, UsageError
from mlops_core.flow.context import Context
from mlops_core.forgetting import Found, Places, erase, look
from mlops_core.ledger import whoami
from mlops_core.logged import Kept, kept
from mlops_core.privacy import seconds

AT_ONCE = 10_000  # labels kept by one write
SHOWN = 10
FOLLOWED = 3600.0  # seconds before a rollout whose answers it looks at too


@record
class Told:
    """Labels that were kept, and how many of them name no prediction that is in the log by now."""

    labels: int
    unknown: int


def follow(context: Context, rollout: Rollout | None) -> None:
    """What an active rollout reads stays lines, not turned into Parquet: its driver may have to read it again."""
    since = rollout.since - FOLLOWED if rollout and rollout.active else None
    log = context.workspace.serve / "log"
    with contextlib.suppress(OSError):
        for folder in (log, log / "labels"):
            if since is not None or folder.exists():
                segments.spare(folder, since)


def tidy(context: Context, now: float | None = None) -> dict[str, int]:
    """Compacts the prediction log, and removes what is older than `privacy.retention`: file -> bytes. What went is
    said in the audit, also what the endpoint has removed since."""
    from mlops_core.windows import compact

    d, now = context.declaration, time.time() if now is None else now
    log, age = context.workspace.serve / "log", seconds(d.privacy.get("retention", ""))
    if log.exists():
        follow(context, context.workspace.ledger.rollout(d.name))
        compact(log, now)
    gone = segments.noted(log) if log.exists() else {}
    if age and log.exists():
        gone |= segments.expire(log, now - age)
    for folder in (context.workspace.state / "windows", context.workspace.state / "quarantine") if age else ():
        for path in sorted(folder.glob("*.parquet")):
            if path.stat().st_mtime < now - age:
                gone[f"{folder.name}/{path.name}"] = path.stat().st_size
                path.unlink()
    if gone:
        context.workspace.ledger.append_audit(
            actor=whoami(),
            action="log.expired",
            subject=d.name,
            reason=f"older than {d.privacy.get('retention') or 'was declared'}",
            facts={"files": len(gone), "bytes": sum(gone.values()), "first": min(gone), "last": max(gone)},
        )
    return gone


def label(context: Context, path: Path, id: str, column: str) -> Told:
    """Keeps the labels of a CSV, JSON lines or Parquet file, all of them or, where one is wrong, none."""
    from mlops_core.feedback import LabelLog, checked

    log = context.workspace.serve / "log"
    about = _newest(log)
    names = (id, column, "time")
    faults: list[Any] = []
    count = 0
    now = time.time()
    for first, rows in _batches(path, names):
        found = checked(rows, about.signature, first=first, now=now)[1]
        faults += found[: SHOWN - len(faults)]
        count += len({row for row, *_ in found})
    if faults:
        lines = [f"  row {row}, {id if key == 'id' else column if key == 'label' else key}: {words}"
                 for row, key, words in faults]  # fmt: skip
        more = f"; the first {len(faults)}" if count > len(faults) else ""
        raise DataError(f"{path}: {count:,} labels are wrong, and none was kept{more}:\n" + "\n".join(lines))
    told, opened = set(), LabelLog(log)
    try:
        for first, rows in _batches(path, names):
            labels = checked(rows, about.signature, by=whoami(), first=first, now=now)[0]
            opened.add(labels)
            told |= {said.id for said in labels}
    except OSError as error:
        raise StoreError.of(f"cannot write to {log / 'labels'}; give the labels again", error) from error
    finally:
        opened.close()
    return Told(labels=len(told), unknown=len(told - _predictions(log)))


def forget(context: Context, where: Mapping[str, str], reason: str) -> Found:
    """Erases a subject; the audit gets what went from where under a pseudonym, never the subject itself."""
    workspace, name = context.workspace, context.declaration.name
    for value in where.values():
        if value and value in reason:
            raise UsageError("forget: the reason names the subject, and the audit keeps it for ever; say it otherwise")
    places = Places(
        log=workspace.serve / "log",
        accesses=workspace.serve / "access.log",
        loose=(workspace.state / "quarantine", workspace.state / "windows"),
        sealed=(workspace.state / "data", workspace.state / "work"),
    )
    names = workspace.pseudonyms
    subject = names.of("+".join(sorted(where)), [where[k] for k in sorted(where)])
    found = erase(places, where, names)
    workspace.ledger.append_audit(
        actor=whoami(),
        action="subject.forgotten",
        subject=name,
        reason=reason,
        facts={"subject": subject, "columns": sorted(where), "erased": plain(found.files), "held": plain(found.held)},
    )
    if left := look(places, where, names).files:
        raise StoreError(f"rows of the subject have come since, in {', '.join(left)}; forget it again")
    return found


def _newest(log: Path) -> Kept:
    """What the rows of the newest version are: all versions of a model have one target."""
    numbers = [int(p.stem.rpartition("-")[2]) for p in log.glob("signature-*.json")]
    if not numbers:
        raise UsageError("nothing was ever served here, so there is nothing to label; 'mlops run' starts the endpoint")
    return kept(log, max(numbers))


def _predictions(log: Path) -> set[str]:
    """The ids of every logged prediction, by row, and by request where it had one row."""
    import polars as pl

    from mlops_core.logged import answers, numbers

    found: set[str] = set()
    for path in log.glob("*.jsonl"):
        for line in answers(path):
            found |= {f"{line['id']}-{i}" for i in numbers(line)} | ({line["id"]} if line["rows"] == 1 else set())
    for path in log.glob("*.parquet"):
        names = pl.read_parquet_schema(path)
        ids = pl.read_parquet(path, columns=["id_" if "id_" in names else "id"]).to_series().to_list()
        found |= set(ids) | {i.removesuffix("-0") for i in ids}
    return found


def _batches(path: Path, names: tuple[str, str, str]) -> Iterator[tuple[int, list[Any]]]:
    """Rows {"id", "label", "time"?} with the number of the first, in batches. Raises UsageError, DataError."""
    batch: list[Any] = []
    first = 0
    for row in _read(path, names):
        batch.append(row)
        if len(batch) == AT_ONCE:
            yield first, batch
            first, batch = first + len(batch), []
    if batch:
        yield first, batch


def _read(path: Path, names: tuple[str, str, str]) -> Iterator[Any]:
    kind = path.suffix.lower()
    try:
        if kind == ".csv":
            yield from _csv(path, names)
        elif kind in (".jsonl", ".ndjson"):
            yield from _jsonl(path, names)
        elif kind == ".parquet":
            yield from _parquet(path, names)
        else:
            raise UsageError(f"feedback: {path} is no .csv, .jsonl or .parquet file")
    except OSError as error:
        raise UsageError(f"feedback: cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from error


def _csv(path: Path, names: tuple[str, str, str]) -> Iterator[Any]:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            _have(path, names, reader.fieldnames or ())
            yield from (_row({k: v for k, v in row.items() if v}, names) for row in reader)
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}") from error


def _jsonl(path: Path, names: tuple[str, str, str]) -> Iterator[Any]:
    import orjson

    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                found = orjson.loads(line)
            except ValueError:
                raise DataError(f"{path}:{number}: this is no JSON") from None
            yield _row(found, names) if isinstance(found, dict) else found


def _parquet(path: Path, names: tuple[str, str, str]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _have(path, names, file.schema_arrow.names)
            columns = [n for n in names if n in file.schema_arrow.names]
            for batch in file.iter_batches(AT_ONCE, columns=columns):
                yield from (_row({k: _text(v) for k, v in row.items()}, names) for row in batch.to_pylist())
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from error


def _have(path: Path, names: tuple[str, str, str], found: Any) -> None:
    from mlops_core.errors import did_you_mean

    for option, name in (("--id", names[0]), ("--label", names[1])):
        if name not in found:
            raise UsageError(
                f"feedback: {path} has no column {name!r}, name it with {option}; {did_you_mean(name, found)}"
            )


def _row(row: Mapping[str, Any], names: tuple[str, str, str]) -> dict[str, Any]:
    return {key: row[name] for key, name in zip(("id", "label", "time"), names, strict=True) if name in row}


def _text(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
