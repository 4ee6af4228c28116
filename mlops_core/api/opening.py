"""The project behind a call, open for as long as the call takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlops_core.contracts import ModelVersion
from mlops_core.workspace import Workspace

Waiting = Callable[[str], None] | None  # told who holds the project, once, where that is waited for


@contextlib.contextmanager
def opened(project: Path, overrides: Sequence[str], *, data: bool = False) -> Iterator[Any]:
    """The open project. Only where stages are at stake is the data asked: at 3 a.m. a version is rolled back though its
    source is out of reach."""
    from mlops_core.config import declare, find_root
    from mlops_core.flow import Context

    root = find_root(Path(project))
    workspace = Workspace(root, declare(root, overrides, data=data))
    try:
        yield Context(workspace, workspace.declaration, overrides=tuple(overrides))
    finally:
        workspace.close()


@contextlib.contextmanager
def as_made(project: Path, overrides: Sequence[str]) -> Iterator[Any]:
    """The open project for what changes the endpoint by hand. Where no overrides are given, with those of the command
    that last made it; where these do not fit the declaration any more it holds alone: the way back stays open."""
    from mlops_core.config import declare
    from mlops_core.errors import MlopsError
    from mlops_core.flow import deploying

    with opened(project, overrides) as context:
        kept = () if overrides else deploying.made_with(context)
        if kept:
            with contextlib.suppress(MlopsError):
                context.declaration = declare(context.workspace.root, kept, data=False)
                context.workspace.declaration, context.overrides = context.declaration, kept
        yield context


def places(project: Path, overrides: Sequence[str], plugins: Any) -> Callable[[str], str]:
    """Where a value is written; the composed origins are only worked out when a cause is to be told."""
    from functools import cache

    from mlops_core.config import find_root, origins

    @cache
    def found() -> Mapping[str, Any]:
        return origins(find_root(Path(project)), overrides, plugins)

    def place(key: str) -> str:
        if key.startswith(("code.", "library.", "input.", "source", "tuned.")):
            return ""
        origin = found().get(key)
        return origin.place if origin else ""

    return place


def known(context: Any) -> tuple[ModelVersion, ...]:
    return tuple(here(context, v) for v in context.workspace.ledger.versions(context.declaration.name))


def here(context: Any, version: ModelVersion) -> ModelVersion:
    """The version with its bundle's place today: a project may have been moved since."""
    home = context.workspace.home("bundles", version.model.artifact)
    return replace(version, model=replace(version.model, path=home))


def watched(context: Any, observers: Iterable[Any] = ()) -> None:
    """The declared observers, and those given, are told from now on."""
    plugins = context.workspace.plugins
    plugins.watch([*(plugins.build("observer", c) for c in context.declaration.observers), *observers])
