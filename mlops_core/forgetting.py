"""A subject is forgotten: rows that match are erased from what was logged, labelled, collected and set aside, and the
requests that they came in from the access log.

`where` is column -> value as text; all of it must hold for a row. In the log, the column `id` also means the
prediction's id or its request's; a pii column is found by its keyed hash, where hashes are kept. Each file is whole at
any moment, as it was or without the subject; an erasure that was cut short is finished by running it again. Blocks
that a file system has freed are not overwritten.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core import segments
from mlops_core.contracts import record
from mlops_core.errors import StoreError, UsageError, did_you_mean
from mlops_core.logged import Kept, kept, numbers
from mlops_core.privacy import Pseudonyms
from mlops_core.subject import Subject, Where, lines
from mlops_core.windows import Parts

if TYPE_CHECKING:
    import polars as pl

WAIT = 0.6  # seconds until what was answered before is in the log, or told to be late
ROWS = 65_536


@record
class Places:
    """Where rows of a subject may be: the prediction log, folders of Parquet that may be rewritten, and folders of
    Parquet that may not, because others vouch for their bytes. `accesses` is the endpoint's access log."""

    log: Path
    accesses: Path | None = None
    loose: tuple[Path, ...] = ()
    sealed: tuple[Path, ...] = ()


@record
class Found:
    """Rows, labels and noted requests of the subject: file -> how many. `held` are rows that stay, in files that are
    sealed; `blind` the columns by which nobody can be found in the prediction log, since it does not have them."""

    files: Mapping[str, int]
    held: Mapping[str, int]
    blind: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return sum(self.files.values())


def look(places: Places, where: Where, names: Pseudonyms) -> Found:
    """Where the subject is; changes nothing."""
    _known(places, where)
    files = _pass(places, Subject(places.log, where, names), erase=False)
    return Found(files=files, held=_held(places, where, names), blind=_blind(places.log, where))


def erase(places: Places, where: Where, names: Pseudonyms) -> Found:
    """Erases every row of the subject that was answered, labelled or set aside before this call. Looks again
    afterwards, and raises StoreError where anything is left; UsageError for a column that is nowhere."""
    _known(places, where)
    began = time.time()
    time.sleep(WAIT)
    subject = Subject(places.log, where, names)
    with segments.alone(places.log):
        for folder in (places.log, places.log / "labels", *places.loose):
            segments.sweep(folder)
        _pass(places, subject, erase=False)  # by what names it is known, before anything goes
        gone = _pass(places, subject, erase=True)
        for file, rows in _pass(places, subject, erase=True).items():  # failures that were logged before the answer
            gone[file] = gone.get(file, 0) + rows
        seen = _pass(places, subject, erase=False)
        left = {file: n for file, n in seen.items() if _before(places, file, subject, began)}
    if left:
        raise StoreError(f"rows of the subject are still there after they were erased, in {', '.join(sorted(left))}")
    return Found(files=gone, held=_held(places, where, names), blind=_blind(places.log, where))


def _known(places: Places, where: Where) -> None:
    """A misspelt column finds nothing, and must not be taken for a subject of which nothing is kept."""
    import polars as pl

    columns = {"id"} | {c.name for about in _signatures(places.log) for c in about.signature.inputs}
    for folder in (*places.loose, *places.sealed):
        for path in folder.rglob("*.parquet"):
            columns |= set(pl.read_parquet_schema(path))
    for name in where:
        if name not in columns:
            raise UsageError(f"forget: nothing that is kept has a column {name!r}; {did_you_mean(name, columns)}")


def _blind(log: Path, where: Where) -> tuple[str, ...]:
    """The columns that some version's rows were logged without."""

    def missing(name: str, about: Kept) -> bool:
        return name not in ("id", *about.hashed, *(c.name for c in about.logged))

    return tuple(name for name in where if any(missing(name, about) for about in _signatures(log)))


def _signatures(log: Path) -> list[Kept]:
    return [kept(log, int(p.stem.rpartition("-")[2])) for p in sorted(log.glob("signature-*.json"))]


def _before(places: Places, file: str, subject: Subject, began: float) -> bool:
    """Whether what is left in a file was there at that time; a request that came since is no failure."""
    path = places.log / file
    if places.accesses and file.startswith(places.accesses.name):
        seen = lines(places.log.parent / file)
        return any(line["time"] <= began for line in seen if line.get("id") in subject.asked)
    return not (path.suffix == ".jsonl" and path.parent == places.log and subject.newest(path) > began)


def _pass(places: Places, subject: Subject, *, erase: bool) -> dict[str, int]:
    """File -> rows of the subject, in every file that may be rewritten. What is found by the ids of its rows comes
    after them, but goes before: an erasure that is killed in between can still be finished."""
    parts = (_rows(places, subject, erase), _named(places, subject, erase))
    return {file: n for part in (reversed(parts) if erase else parts) for file, n in part if n}


def _rows(places: Places, subject: Subject, erase: bool) -> Iterator[tuple[str, int]]:
    for path in sorted(places.log.glob("*.jsonl")):
        yield path.name, _segment(path, subject, erase)
    for path in sorted(places.log.glob("*.parquet")):
        yield path.name, _table(path, subject.of, erase, subject)
    for folder in places.loose:
        for path in sorted(folder.glob("*.parquet")):
            yield str(path.relative_to(folder.parent)), _table(path, subject.of, erase)


def _named(places: Places, subject: Subject, erase: bool) -> Iterator[tuple[str, int]]:
    for path in sorted((places.log / "labels").glob("*.jsonl")):
        yield f"labels/{path.name}", _lines_of(path, subject.predictions, erase)
    for path in sorted((places.log / "labels").glob("*.parquet")):
        yield f"labels/{path.name}", _table(path, lambda f: f["id"].is_in(list(subject.predictions)), erase)
    yield from _accesses(places, subject.asked, erase)


def _accesses(places: Places, asked: set[str], erase: bool) -> Iterator[tuple[str, int]]:
    from mlops_core.serving.access_log import still

    path = places.accesses
    if path is None or not any(path.parent.glob(f"{path.name}*")):
        return
    with still(path):
        if erase:
            for left in path.parent.glob(f".{path.name}.*"):  # by an erasure that was killed
                left.unlink()
        for file in sorted(path.parent.glob(f"{path.name}*")):
            yield file.name, _lines_of(file, asked, erase)


def _held(places: Places, where: Where, names: Pseudonyms) -> dict[str, int]:
    subject, found = Subject(places.log, where, names), {}
    for folder in places.sealed:
        for path in sorted(folder.rglob("*.parquet")):
            if rows := _table(path, subject.of, False):
                found[str(path.relative_to(folder.parent))] = rows
    return found


def _segment(path: Path, subject: Subject, erase: bool) -> int:
    import orjson

    count = 0

    def change(text: bytes) -> bytes:
        nonlocal count
        try:
            line = orjson.loads(text)
            places = subject.rows(line)
        except (ValueError, KeyError, TypeError, IndexError):
            return text
        if not places:
            return text
        count += len(places)
        said = numbers(line) if "features" in line else [0]
        subject.predictions |= {f"{line['id']}-{said[i]}" for i in places if i < len(said)}
        subject.requests.add(line["id"])
        if "features" in line:
            subject.asked.add(line["id"])
        if len(places) == line["rows"]:
            subject.predictions.add(line["id"])
            return b""
        return orjson.dumps(_without(line, set(places)), option=orjson.OPT_APPEND_NEWLINE)

    _through(path, change, erase)
    return count


def _without(line: Mapping[str, Any], places: set[int]) -> dict[str, Any]:
    """A line without some of its rows; the others keep their numbers."""
    left = [i for i in range(line["rows"]) if i not in places]
    said = numbers(line)
    columns = {
        part: {name: [values[i] for i in left] for name, values in line[part].items()}
        for part in ("features", "answer", "hashed")
        if part in line
    }
    return {**line, **columns, "rows": len(left), "numbers": [said[i] for i in left]}


def _lines_of(path: Path, ids: set[str], erase: bool) -> int:
    import orjson

    count = 0

    def change(text: bytes) -> bytes:
        nonlocal count
        try:
            mine = orjson.loads(text)["id"] in ids
        except (ValueError, KeyError, TypeError):
            return text
        count += mine
        return b"" if mine else text

    _through(path, change, erase)
    return count


def _through(path: Path, change: Callable[[bytes], bytes], erase: bool) -> None:
    """Shows `change` each line of a segment; with `erase` the lines become what it gives."""
    if erase:
        segments.rewrite(path, change)
        return
    with contextlib.suppress(FileNotFoundError):
        for text in segments.lines(path):
            change(text)


def _table(path: Path, mine: Callable[[pl.DataFrame], pl.Series], erase: bool, subject: Subject | None = None) -> int:
    """Rows of the subject in a Parquet file, piece by piece; with `erase` the file is written again without them."""
    count = 0
    with contextlib.suppress(FileNotFoundError):
        for piece in _pieces(path):
            hit = mine(piece)
            count += int(hit.sum())
            if subject is not None and "id" in piece.columns and hit.any():
                subject.logged((piece["id_"] if "id_" in piece.columns else piece["id"]).filter(hit).to_list())
        if erase and count:
            with Parts(path) as parts:
                for piece in _pieces(path):
                    left = piece.filter(~mine(piece))
                    if left.height:
                        parts.write(left)
    return count


def _pieces(path: Path) -> Iterator[pl.DataFrame]:
    import polars as pl

    table, start = pl.scan_parquet(path), 0
    while (piece := table.slice(start, ROWS).collect()).height:
        yield piece
        start += ROWS
