"""A subject is forgotten: rows that match are erased from what was logged, labelled, collected and set aside, and the
requests that they came in from the access log.

`where` is column -> value as text; all of it must hold for a row. In the log, the column `id` also means the
prediction's id or its request's; a pii column is found by its keyed hash, where hashes are kept. Each file is whole at
any moment, as it was or without the subject; an erasure that was cut short is finished by running it again. Blocks
that a file system has freed are not overwritten.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core import segments
from mlops_core.contracts import Column, record
from mlops_core.errors import StoreError, UsageError, did_you_mean
from mlops_core.logged import Kept, kept, numbers
from mlops_core.privacy import Pseudonyms
from mlops_core.windows import Parts

if TYPE_CHECKING:
    import polars as pl

Where = Mapping[str, str]
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
    files = _pass(places, _Subject(places.log, where, names), erase=False)
    return Found(files=files, held=_held(places, where, names), blind=_blind(places.log, where))


def erase(places: Places, where: Where, names: Pseudonyms) -> Found:
    """Erases every row of the subject that was answered, labelled or set aside before this call. Looks again
    afterwards, and raises StoreError where anything is left; UsageError for a column that is nowhere."""
    _known(places, where)
    time.sleep(WAIT)
    subject = _Subject(places.log, where, names)
    with segments.alone(places.log):
        for folder in (places.log, places.log / "labels", *places.loose):
            segments.sweep(folder)
        _pass(places, subject, erase=False)  # by what names it is known, before anything goes
        gone = _pass(places, subject, erase=True)
        for file, rows in _pass(places, subject, erase=True).items():  # failures that were logged before the answer
            gone[file] = gone.get(file, 0) + rows
        left = {file: n for file, n in _pass(places, subject, erase=False).items() if _before(places, file, subject)}
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


def _before(places: Places, file: str, subject: _Subject) -> bool:
    """Whether what is left in a file was there when we began; a request that came since is no failure."""
    path = places.log / file
    if places.accesses and file.startswith(places.accesses.name):
        seen = _lines(places.log.parent / file)
        return any(line["time"] <= subject.began for line in seen if line.get("id") in subject.asked)
    return not (path.suffix == ".jsonl" and path.parent == places.log and subject.newest(path) > subject.began)


class _Subject:
    """Tells whether a row is the subject's. `predictions` and `requests` grow by the ids that its rows were logged
    under, and `asked` by the ids of requests that are its own beyond doubt."""

    def __init__(self, log: Path, where: Where, names: Pseudonyms) -> None:
        self.log, self.where, self.names = log, where, names
        self.began = time.time() - WAIT
        self.predictions: set[str] = {where["id"]} if set(where) == {"id"} else set()
        self.requests: set[str] = {where["id"], where["id"].rpartition("-")[0]} if set(where) == {"id"} else set()
        self.asked: set[str] = {where["id"]} if set(where) == {"id"} else set()
        self._kept: dict[int, Kept | None] = {}

    def logged(self, predictions: Sequence[str]) -> None:
        """These ids of predictions are the subject's."""
        self.predictions |= set(predictions) | {i.rpartition("-")[0] for i in predictions if i.endswith("-0")}
        self.asked |= {i.rpartition("-")[0] for i in predictions}

    def rows(self, line: Mapping[str, Any]) -> list[int]:
        """The places of the subject's rows in a line of the log."""
        if "features" not in line:  # a failure: its request's id is all there is
            return list(range(line["rows"])) if line["id"] in self.requests else []
        about = self._about(line["version"])
        return [i for i, row in enumerate(numbers(line)) if self._mine(line, i, f"{line['id']}-{row}", about)]

    def newest(self, path: Path) -> float:
        return max((line["time"] for line in _lines(path) if self.rows(line)), default=0.0)

    def of(self, frame: pl.DataFrame) -> pl.Series:
        """Which rows of a table are the subject's."""
        import polars as pl

        said = pl.Series([True] * frame.height, dtype=pl.Boolean)
        for name, value in self.where.items():
            hashed = f"{name}_hash" if f"{name}_hash" in frame.columns else name
            found = pl.Series([False] * frame.height, dtype=pl.Boolean)
            for column in dict.fromkeys((name, hashed)):
                if column in frame.columns:
                    found |= equal(frame[column], value)
                    found |= self._hashed(name, frame[column], value)
            if name == "id" and "version" in frame.columns and "prediction" in frame.columns:
                ids = frame["id_"] if "id_" in frame.columns else frame["id"] if "id" in frame.columns else None
                if ids is not None and ids.dtype == pl.String:
                    found |= (ids == value) | (ids.str.replace(r"-[0-9]+$", "") == value)
            said &= found
        return said.fill_null(False)

    def _hashed(self, name: str, column: pl.Series, value: str) -> pl.Series:
        import polars as pl

        if column.dtype != pl.String:
            return pl.Series([False] * len(column), dtype=pl.Boolean)
        return column.is_in([self.names.of(name, v) for v in spellings(value)]).fill_null(False)

    def _mine(self, line: Mapping[str, Any], i: int, prediction: str, about: Kept | None) -> bool:
        for name, value in self.where.items():
            column = next((c for c in about.signature.inputs if c.name == name), None) if about else None
            cells = line["features"].get(name)
            hashes = line.get("hashed", {}).get(name)
            mine = cells is not None and cells[i] in spellings(value, column)
            mine = mine or (hashes is not None and hashes[i] in {self.names.of(name, v) for v in spellings(value)})
            if not (mine or (name == "id" and value in (prediction, line["id"]))):
                return False
        return True

    def _about(self, version: int) -> Kept | None:
        if version not in self._kept:
            try:
                self._kept[version] = kept(self.log, version)
            except StoreError:
                self._kept[version] = None
        return self._kept[version]


def spellings(value: str, column: Column | None = None) -> list[Any]:
    """What a value on the command line may be as plain data: text, a number, a boolean, a time."""
    found: list[Any] = [value]
    if column is None or column.kind in ("number", "boolean"):
        if value.lower() in ("true", "false"):
            found.append(float(value.lower() == "true"))
        with contextlib.suppress(ValueError, OverflowError):
            found.append(float(value))
    if column is None or column.kind == "time":
        with contextlib.suppress(ValueError):
            moment = datetime.datetime.fromisoformat(value)
            moment = moment.astimezone(datetime.UTC).replace(tzinfo=None) if moment.tzinfo else moment
            found.append(moment.isoformat(timespec="microseconds"))
    return found


def equal(column: pl.Series, value: str) -> pl.Series:
    """Which cells of a table's column hold a value that is given as text."""
    import polars as pl

    none = pl.Series([False] * len(column), dtype=pl.Boolean)
    said = spellings(value)
    wanted = [v for v in said if isinstance(v, float)]
    if column.dtype == pl.String:
        return (column == value).fill_null(False)
    if column.dtype.is_temporal():
        times = column.cast(pl.Datetime("us"), strict=False).dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
        return times.is_in([v for v in said if isinstance(v, str)]).fill_null(False)
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean) or not wanted:
        return none
    return column.cast(pl.Float64).is_in(wanted).fill_null(False)


def _pass(places: Places, subject: _Subject, *, erase: bool) -> dict[str, int]:
    """File -> rows of the subject, in every file that may be rewritten. What is found by the ids of its rows comes
    after them, but goes before: an erasure that is killed in between can still be finished."""
    parts = (_rows(places, subject, erase), _named(places, subject, erase))
    return {file: n for part in (reversed(parts) if erase else parts) for file, n in part if n}


def _rows(places: Places, subject: _Subject, erase: bool) -> Iterator[tuple[str, int]]:
    for path in sorted(places.log.glob("*.jsonl")):
        yield path.name, _segment(path, subject, erase)
    for path in sorted(places.log.glob("*.parquet")):
        yield path.name, _table(path, subject.of, erase, subject)
    for folder in places.loose:
        for path in sorted(folder.glob("*.parquet")):
            yield str(path.relative_to(folder.parent)), _table(path, subject.of, erase)


def _named(places: Places, subject: _Subject, erase: bool) -> Iterator[tuple[str, int]]:
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
    subject, found = _Subject(places.log, where, names), {}
    for folder in places.sealed:
        for path in sorted(folder.rglob("*.parquet")):
            if rows := _table(path, subject.of, False):
                found[str(path.relative_to(folder.parent))] = rows
    return found


def _segment(path: Path, subject: _Subject, erase: bool) -> int:
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

    if erase:
        segments.rewrite(path, change)
    else:
        with contextlib.suppress(FileNotFoundError):
            for text in segments.lines(path):
                change(text)
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

    if erase:
        segments.rewrite(path, change)
    else:
        with contextlib.suppress(FileNotFoundError):
            for text in segments.lines(path):
                change(text)
    return count


def _table(path: Path, mine: Callable[[pl.DataFrame], pl.Series], erase: bool, subject: _Subject | None = None) -> int:
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


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    import orjson

    with contextlib.suppress(FileNotFoundError):
        for text in segments.lines(path):
            with contextlib.suppress(ValueError):
                yield orjson.loads(text)
