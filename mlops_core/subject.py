"""Whom an erasure is about: which rows of logs and tables are the subject's, and by which ids they are known."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core import segments
from mlops_core.contracts import Column
from mlops_core.errors import StoreError
from mlops_core.logged import Kept, kept, numbers
from mlops_core.privacy import Pseudonyms

if TYPE_CHECKING:
    import polars as pl

Where = Mapping[str, str]


class Subject:
    """Tells whether a row is the subject's. `predictions` and `requests` grow by the ids that its rows were logged
    under, and `asked` by the ids of requests that are its own beyond doubt."""

    def __init__(self, log: Path, where: Where, names: Pseudonyms) -> None:
        self.log, self.where, self.names = log, where, names
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
        return max((line["time"] for line in lines(path) if self.rows(line)), default=0.0)

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


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Those of a segment that are whole; none where it is gone."""
    import orjson

    with contextlib.suppress(FileNotFoundError):
        for text in segments.lines(path):
            with contextlib.suppress(ValueError):
                yield orjson.loads(text)
