"""A project folder and its declaration: made, checked, composed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_core.errors import Problem, StoreError, UsageError, did_you_mean
from mlops_core.workspace import STATE

if TYPE_CHECKING:
    from mlops_core.config import Origin
    from mlops_core.plugins import Plugins


def init(folder: Path, recipe: str = "credit") -> Path:
    """Makes a project folder from a shipped recipe. Refuses a folder that holds anything."""
    source = recipes()
    if recipe not in source:
        raise UsageError(f"unknown recipe {recipe!r}; {did_you_mean(recipe, source)}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; name a new folder")
    ignored = shutil.ignore_patterns(STATE, "__pycache__")
    try:
        shutil.copytree(source[recipe], folder, dirs_exist_ok=True, ignore=ignored)
    except OSError as error:  # shutil.Error, of many files, is one too
        raise StoreError.of(f"cannot make a project in {folder}", error) from error
    return folder


def recipes() -> dict[str, Path]:
    """The shipped recipes by name."""
    from mlops_core.shipped import shipped

    return {p.name: p for p in sorted(shipped("recipes").iterdir()) if (p / "conf" / "config.yaml").exists()}


def check(project: Path, overrides: Sequence[str] = ()) -> tuple[Problem, ...]:
    """Everything wrong with the declaration, each with its place and the nearest right thing; else empty."""
    from mlops_core.config import check as problems
    from mlops_core.config import find_root

    return problems(find_root(Path(project)), overrides)


def config(project: Path, overrides: Sequence[str] = ()) -> str:
    """The composed declaration as YAML, every default filled in; a secret stands as its reference."""
    from mlops_core.config import composed, find_root

    return composed(find_root(Path(project)), overrides)


def origins(project: Path, overrides: Sequence[str] = ()) -> Mapping[str, Origin]:
    """Dotted key -> its value and where that came from: file and line, preset, override, default."""
    from mlops_core.config import find_root
    from mlops_core.config import origins as found

    return found(find_root(Path(project)), overrides)


def plugins() -> Plugins:
    """What is installed: `all()`, `names(kind)`, `offer(kind, name)` with its manual, `options`, `broken`."""
    from mlops_core.plugins import Plugins

    return Plugins()
