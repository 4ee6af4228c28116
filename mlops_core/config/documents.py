"""YAML files with the place of every key and value, and every fault of a file at once.

A faulty file is mended in memory, line by line, so that what stands beside the fault is checked as well;
each mend is a fault that is told. A mended file never becomes a declaration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlops_core.contracts import record
from mlops_core.errors import Problem

Path_ = tuple[str, ...]
MENDS = 25
_LOOSE = re.compile(r"([:\[,{]\s*)(\$\{[^{}]*\})(?=\s*[,}\]])")


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
        self.node = self._compose(list(self.lines))
        if self.node is not None and _kind(self.node) != "mapping":
            self.fault(self.at(self.node), "expected keys with values (KEY: VALUE)")
            self.node, self.lost = None, True
        if self.node is not None:
            self._unique(self.node, ())
            self._mark(self.node, ())

    def _compose(self, lines: list[str]) -> Any:
        import yaml

        told: set[int] = set()
        for _ in range(MENDS):
            try:
                return yaml.compose("\n".join(lines) + "\n", yaml.SafeLoader)
            except yaml.MarkedYAMLError as error:
                line = self._tell(error, lines, told)
                if line is None:
                    break
            except yaml.YAMLError as error:
                self.fault(Spot(words=self.label), f"is no YAML: {str(error).splitlines()[0]}")
                break
        self.lost = True
        return None

    def _tell(self, error: Any, lines: list[str], told: set[int]) -> int | None:
        """Notes the fault and takes its line out of the way; None where that does not help."""
        context, where = error.context_mark, error.problem_mark or error.context_mark
        opened = context if "flow" in str(error.context) or "quoted" in str(error.context) else None
        mark = opened or where
        line: int = min(mark.line, len(lines) - 1)
        if "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]:
            message = "a tab indents this line; YAML indents with blanks"
            lines[line] = _untabbed(lines, line)
        elif line not in told and _LOOSE.search(lines[line]):
            message = "inside brackets an interpolation needs quotes"
            lines[line] = _LOOSE.sub(r'\1"\2"', lines[line])
        elif line in told or not lines[line].strip():
            return None
        else:
            message, lines[line] = _words(error), ""
        told.add(line)
        self.lost = self.lost or not lines[line]
        self.fault(self.spot(line, mark.column), message)
        return line

    def fault(self, spot: Spot, message: str, key: str = "", suggestion: str = "") -> None:
        self.mended = True
        self.faults.append(spot.problem(key, message, suggestion))

    def _unique(self, node: Any, path: Path_) -> None:
        if _kind(node) == "sequence":
            for i, item in enumerate(node.value):
                self._unique(item, (*path, str(i)))
        if _kind(node) != "mapping":
            return
        first: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in first:
                line = first[name].start_mark.line + 1
                self.fault(self.at(key), f"this key is there twice, first on line {line}", ".".join((*path, name)))
            else:
                first[name] = key
                self._unique(value, (*path, name))
        node.value = [(k, v) for k, v in node.value if first[str(k.value)] is k]

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


def _untabbed(lines: list[str], line: int) -> str:
    """The line indented as the one above asks: two deeper where that opens a block, else alike."""
    above = next((text for text in reversed(lines[:line]) if text.strip()), "")
    indent = len(above) - len(above.lstrip()) + 2 * above.rstrip().endswith(":")
    return " " * indent + lines[line].strip()


def _words(error: Any) -> str:
    """PyYAML's finding in words that say what to do."""
    problem, context = str(error.problem), str(error.context or "")
    if "mapping values are not allowed" in problem:
        return "a key cannot stand here: check the indentation, and quote a value that holds ': '"
    if "flow sequence" in context or "flow mapping" in context:
        return f"this bracket is not closed: {problem}"
    if "quoted scalar" in context:
        return "this quote is not closed"
    if "block mapping" in context or "block collection" in context or "document start" in problem:
        return "the indentation fits no line above"
    if "expected the node content" in problem:
        return "a value is missing here, or needs quotes"
    if "could not find expected ':'" in problem:
        return "expected KEY: VALUE"
    found = re.match(r"found character '(.)' that cannot start any token", problem)
    return f"a value cannot start with {found[1]!r}; quote it" if found else problem
