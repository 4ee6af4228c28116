"""YAML files with the place of every key and value, and every fault of a file at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlops_core.config.mending import mend
from mlops_core.contracts import record
from mlops_core.errors import Problem

Path_ = tuple[str, ...]
_PLAIN = "tag:yaml.org,2002:"
_TAGS = {_PLAIN + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge", "value")}


@record
class Spot:
    """A place to open: a file with line and column (counted from 1), or words such as 'command line, override 2'."""

    words: str
    line: int = 0
    column: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.words}:{self.line}:{self.column}" if self.line else self.words

    @property
    def excerpt(self) -> str:
        if not self.text:
            return ""
        label = f"{self.line:>5} | " if self.line else "      | "
        caret = " " * max(self.column - 1, 0) + "^"
        return f"{label}{self.text}\n      | {caret}"

    def problem(self, key: str, message: str, suggestion: str = "") -> Problem:
        return Problem(place=str(self), key=key, message=message, suggestion=suggestion, excerpt=self.excerpt)


@record
class Mark:
    """Where a key and its value stand. `whole`: the value replaces what was there, rather than joining it."""

    key: Spot
    value: Spot
    whole: bool = True


class Document:
    """One YAML file: its node tree, marks by path, and faults.

    `mended` tells that it has faults; `lost` that lines of it could not be read at all; `void` are paths whose
    values could not.
    """

    def __init__(self, path: Path, label: str) -> None:
        self.path, self.label = path, label
        self.faults: list[Problem] = []
        self.mended = self.lost = False
        self.lines: list[str] = []
        self.node: Any = None
        self.marks: dict[Path_, Mark] = {}
        self.void: set[Path_] = set()
        self._read()

    @property
    def top(self) -> Spot:
        return self.spot(0, 0)

    def spot(self, line: int, column: int) -> Spot:
        text = self.lines[line] if line < len(self.lines) else ""
        return Spot(words=self.label, line=line + 1, column=column + 1, text=text.replace("\t", " ").rstrip())

    def keys(self) -> dict[str, Any]:
        """The top-level keys with their nodes."""
        return {str(k.value): v for k, v in self.node.value} if _kind(self.node) == "mapping" else {}

    def scalars(self) -> Iterator[tuple[Path_, Any]]:
        """Every scalar value with its path."""
        yield from _scalars(self.node, ())

    def dump(self) -> str:
        """The file as mended, for composing on past its faults."""
        import yaml

        return yaml.serialize(self.node) if self.node is not None else ""

    def under(self, prefix: Path_) -> Iterator[tuple[Path_, Mark]]:
        """Every mark, as if the file's content stood at `prefix`."""
        for path, mark in self.marks.items():
            yield (*prefix, *path), mark

    def _read(self) -> None:
        try:
            text = self.path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else "is not UTF-8 text"
            self.fault(Spot(words=self.label), reason)
            self.lost = True
            return
        self.lines = text.splitlines()
        found = mend(self.lines)
        self.node, self.lost = found.node, found.lost
        for line, column, message in found.faults:
            self.fault(self.spot(line, column) if line >= 0 else Spot(words=self.label), message)
        if self.node is not None and _kind(self.node) != "mapping":
            self.fault(self.at(self.node), "expected keys with values (KEY: VALUE)")
            self.node, self.lost = None, True
        self._clean(self.node, ())
        self._mark(self.node, ())

    def fault(self, spot: Spot, message: str, key: str = "", suggestion: str = "") -> None:
        self.mended = True
        self.faults.append(spot.problem(key, message, suggestion))

    def _clean(self, node: Any, path: Path_) -> None:
        """Takes away keys that are there twice or are no words, and tags, which would make objects of values."""
        if node is not None and node.tag not in _TAGS:
            self.fault(self.at(node), f"the tag {node.tag} means nothing here, only plain values do", ".".join(path))
            node.tag = {"mapping": _PLAIN + "map", "sequence": _PLAIN + "seq"}.get(node.id, _PLAIN + "str")
        if _kind(node) == "sequence":
            for i, item in enumerate(node.value):
                self._clean(item, (*path, str(i)))
        elif _kind(node) == "mapping":
            node.value = list(self._keys(node, path))

    def _keys(self, node: Any, path: Path_) -> Iterator[tuple[Any, Any]]:
        first: dict[str, Any] = {}
        for key, value in node.value:
            if _kind(key) != "scalar" or key.tag == _PLAIN + "null":
                self.fault(self.at(key), "expected a word as key", ".".join(path))
            elif key.value in first and key.tag != _PLAIN + "merge":
                line = first[key.value].start_mark.line + 1
                message = f"this key is there twice, first on line {line}"
                self.fault(self.at(key), message, ".".join((*path, key.value)))
            else:
                first[key.value] = key
                self._clean(value, (*path, key.value))
                yield key, value

    def _mark(self, node: Any, path: Path_) -> None:
        if _kind(node) == "mapping":
            for key, value in node.value:
                below = (*path, str(key.value))
                block = _kind(value) != "scalar" and not value.flow_style
                spot = self.at(key)
                at = spot if block or _empty(value) else self.at(value)
                self.marks[below] = Mark(key=spot, value=at, whole=_kind(value) != "mapping")
                self._mark(value, below)
        elif _kind(node) == "sequence":
            for i, item in enumerate(node.value):
                self.marks[(*path, str(i))] = Mark(key=self.at(item), value=self.at(item))
                self._mark(item, (*path, str(i)))

    def at(self, node: Any) -> Spot:
        return self.spot(node.start_mark.line, node.start_mark.column)


def _scalars(node: Any, path: Path_) -> Iterator[tuple[Path_, Any]]:
    if _kind(node) == "scalar":
        yield path, node
    elif _kind(node) == "mapping":
        for key, value in node.value:
            yield from _scalars(value, (*path, str(key.value)))
    elif _kind(node) == "sequence":
        for i, item in enumerate(node.value):
            yield from _scalars(item, (*path, str(i)))


def _kind(node: Any) -> str:
    return str(node.id) if node is not None else ""


def _empty(node: Any) -> bool:
    return bool(node.start_mark.index == node.end_mark.index)
