"""A declaration at work: its values, where each came from, and what is wrong so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from mlops_core.config.compose import Layer
from mlops_core.config.documents import Mark, Path_, Spot
from mlops_core.config.overrides import Override
from mlops_core.contracts import record
from mlops_core.errors import Problem

Kind = Literal["file", "preset", "override", "default", "interpolation"]


@record
class Source:
    kind: Kind
    mark: Mark


class Draft:
    """`values` are composed values, tokens for the environment inside; `sources` say where each path came from.

    `void` holds paths whose value cannot be known; nothing is said about them twice. `lost` tells that lines
    could not be read, so that what is missing may be there.
    """

    def __init__(self, values: dict[str, Any], top: Spot) -> None:
        self.values, self.top = values, top
        self.sources: dict[Path_, Source] = {}
        self.problems: list[Problem] = []
        self.void: set[Path_] = set()
        self.lost = False

    def lay(self, layers: Iterable[Layer], primary: Any, overrides: Iterable[Override]) -> None:
        """Notes where each value came from, in the order of composition."""
        for layer in layers:
            kind: Kind = "file" if layer.document is primary else "preset"
            self.void |= {(*layer.prefix, *p) for p in layer.document.void} if layer.document else set()
            for path, mark in layer.document.under(layer.prefix) if layer.document else ():
                if path[0] != "defaults" and path[0] != "hydra":
                    self.note(path, Source(kind=kind, mark=mark))
        for override in overrides:
            if override.kind == "value":
                mark = Mark(key=override.spot, value=override.spot, whole=not isinstance(override.value, Mapping))
                for path in (override.path, *(override.path + p for p, _ in leaves(override.value) if p)):
                    self.note(path, Source(kind="override", mark=mark))

    def note(self, path: Path_, source: Source) -> None:
        if source.mark.whole:
            for below in [p for p in self.sources if p[: len(path)] == path]:
                del self.sources[below]
        self.sources[path] = source

    def default(self, path: Path_, words: str) -> None:
        """Notes that the value at `path` is a default; `words` say whose."""
        spot = Spot(words=words)
        self.sources[path] = Source(kind="default", mark=Mark(key=spot, value=spot))

    def computed(self, path: Path_) -> None:
        source = self.source(path)
        self.sources[path] = dataclasses.replace(source, kind="interpolation") if source else self.sources[path]

    def source(self, path: Path_) -> Source | None:
        """Where the value at `path` came from; of the nearest key above where it has no place of its own."""
        while path and path not in self.sources:
            path = path[:-1]
        return self.sources.get(path)

    def spot(self, path: Path_, *, key: bool = False) -> Spot:
        """What to open for `path`: the value, or with `key` the key; defaults are told at what asked for them."""
        if path not in self.sources:  # a key that only keys below it give
            path = next((p for p in reversed(self.sources) if p[: len(path)] == path), path)
        while path:
            source = self.sources.get(path)
            if source and source.kind != "default":
                return source.mark.key if key else source.mark.value
            path, key = path[:-1], True
        return self.top

    def say(self, path: Path_, message: str, suggestion: str = "", *, key: bool = False, bare: bool = False) -> None:
        """Adds a problem at `path`, unless its value is void; `bare` without showing the line."""
        if any(path[: len(v)] == v for v in self.void):
            return
        if message.startswith("missing mandatory value") and self.lost:
            return
        problem = self.spot(path, key=key).problem(".".join(path), message, suggestion)
        self.problems.append(dataclasses.replace(problem, excerpt="") if bare else problem)


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every value that is no mapping with keys, with its path; lists are gone into."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(v, Mapping | list) for v in value):
        for i, inner in enumerate(value):
            yield from leaves(inner, (*path, str(i)))
    else:
        yield path, value


def at(value: Any, path: Path_) -> Any:
    """The value at `path`. Raises KeyError, IndexError, TypeError or ValueError where nothing is."""
    for part in path:
        value = value[real(value, part)]
    return value


def real(holder: Any, part: str) -> Any:
    """The key or index that `part` of a path stands for: YAML's keys may be numbers."""
    if not isinstance(holder, Mapping):
        return int(part)
    return part if part in holder else next((k for k in holder if str(k) == part), part)


def put(value: Any, path: Path_, new: Any) -> None:
    holder = at(value, path[:-1])
    holder[real(holder, path[-1])] = new


def find(value: Any, key: str) -> Path_ | None:
    """The path that a dotted `key` names, where keys may hold dots themselves; None where nothing is."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return (key,)
    for name in value:
        if key.startswith(f"{name}."):
            below = find(value[name], key[len(name) + 1 :])
            if below:
                return (name, *below)
    return None
