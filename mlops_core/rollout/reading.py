"""Lines of a folder of segments as they come in: each once, torn ones when they are whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class _Place:
    """How far a segment was read: which file that was, to which byte, and the time of its last line."""

    file: int = 0
    offset: int = 0
    last: float = 0.0


class Tail:
    """Follows `folder`/*.jsonl from the lines of `since` on (Unix seconds); without `timed`, from the files that were
    written to since then."""

    def __init__(self, folder: Path, since: float, *, timed: bool = True) -> None:
        self.folder, self.since, self.timed = Path(folder), since, timed
        self._places: dict[str, _Place] = {}

    def lines(self) -> Iterator[dict[str, Any]]:
        """What came since the last call; a line that is no JSON object with a `time` is passed over."""
        for path in sorted(self.folder.glob("*.jsonl")):
            with contextlib.suppress(FileNotFoundError):  # compacted meanwhile: its end was read long ago
                yield from self._new(path)

    def _new(self, path: Path) -> Iterator[dict[str, Any]]:
        found = path.stat()
        place = self._places.get(path.name)
        if place is None and found.st_mtime < self.since:
            return
        place = self._places.setdefault(path.name, _Place(file=found.st_ino))
        after = -1.0
        if place.file != found.st_ino:  # rewritten, as by an erasure: what was read comes again
            place.file, place.offset, after = found.st_ino, 0, place.last
        if found.st_size == place.offset:
            return
        with path.open("rb") as file:
            file.seek(place.offset)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return
                place.offset += len(raw)
                line = _parsed(raw)
                if line is None or line["time"] <= after:
                    continue
                place.last = max(place.last, line["time"])
                if line["time"] >= self.since or not self.timed:
                    yield line


def _parsed(raw: bytes) -> dict[str, Any] | None:
    import orjson

    with contextlib.suppress(ValueError):
        line = orjson.loads(raw)
        if isinstance(line, dict) and isinstance(line.get("time"), int | float):
            return line
    return None
