"""What a stage is given: the declaration, the workspace, and what earlier stages left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mlops_core.contracts import Choice, Declaration, Kind, Run, Secret, plain
from mlops_core.ledger import Outcome
from mlops_core.plugins import Offer
from mlops_core.workspace import Workspace

# Rooms that only carry or name things: an edit there changes no result, so they are no part of a stage's key.
CARRIERS = frozenset(
    f"code.mlops_core.{room}"
    for room in (
        "contracts",
        "records",
        "errors",
        "stages",
        "hookspecs",
        "plugins",
        "options",
        "plainly",
        "entries",
        "hashing",
    )
) | {"code.mlops_core"}


class Pending(Exception):
    """A stage asks for what an earlier one left, and that has no result yet; its one argument names it."""


class Results(dict[str, Any]):
    """Stage -> the record it left."""

    def __missing__(self, stage: str) -> Any:
        raise Pending(stage)


@dataclass
class Context:
    """One pass along the line. `results` maps a stage's name to the record it left."""

    workspace: Workspace
    declaration: Declaration
    run: Run | None = None
    results: Results = field(default_factory=Results)
    complaints: list[str] = field(default_factory=list)
    overrides: tuple[str, ...] = ()

    def tell(self, hook: str, **facts: Any) -> None:
        """Tells every observer, in the name of this run."""
        for complaint in self.workspace.plugins.tell(hook, run=self.run, **facts):
            if complaint not in self.complaints:  # an observer that fails may do so at each of a thousand epochs
                self.complaints.append(complaint)

    def build(self, kind: Kind, choice: Choice) -> Any:
        return self.workspace.plugins.build(kind, choice)

    def offer(self, kind: Kind, choice: Choice) -> Offer:
        return self.workspace.plugins.offer(kind, choice.plugin)

    def options(self, section: str, choice: Choice) -> dict[str, Any]:
        """A plugin and its options as parts of a key; paths in the project count relative to it."""
        given = _relative(choice.options, str(self.workspace.root))
        return {f"{section}.plugin": choice.plugin} | (flatten(section, given) if given else {})

    def code(self, modules: Iterable[str], own: Iterable[str]) -> dict[str, str]:
        found = self.workspace.code.parts(modules, {"mlops_core", *own})
        return {k: v for k, v in found.items() if k not in CARRIERS}


class Stage(Protocol):
    """One stage of the line."""

    name: str
    home: str  # the folder under .mlops where its artifact is laid out; '' where it leaves only a record
    spare: bool  # whether the stages after it can do without its artifact, where that is lost

    def declared(self, context: Context) -> bool:
        """Whether the declaration asks for this stage."""
        ...

    def own(self, context: Context) -> dict[str, Any]:
        """The parts of its key that are known before anything runs: options, code, libraries."""
        ...

    def inputs(self, context: Context) -> dict[str, Any]:
        """The parts that earlier stages left; Pending where one of them has no result yet."""
        ...

    def perform(self, context: Context, work: Path, key: str) -> tuple[Mapping[str, Any], Path | None]:
        """Does the work: the record (plain data), and the finished folder where it leaves one."""
        ...

    def result(self, context: Context, outcome: Outcome, path: Path | None) -> Any:
        """The record for later stages, of an outcome that was just made or found."""
        ...


def flatten(prefix: str, value: Any) -> dict[str, Any]:
    """Nested plain data under dotted keys: flatten('a', {'b': {'c': 1}}) is {'a.b.c': 1}."""
    if isinstance(value, Mapping) and value:
        return {k: v for name, inner in value.items() for k, v in flatten(f"{prefix}.{name}", inner).items()}
    return {prefix: plain(value)}


def key_of(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain(parts), sort_keys=True).encode()).hexdigest()


def _relative(value: Any, root: str) -> Any:
    if isinstance(value, Mapping):
        return {k: _relative(v, root) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_relative(v, root) for v in value]
    if isinstance(value, Secret) or not isinstance(value, str | Path):
        return value
    text = str(value)
    return text[len(root) + 1 :] if text.startswith(root + "/") else text


Report = Callable[[int, Mapping[str, float]], None]
