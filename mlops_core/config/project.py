"""Where declarations lie: the project, the shipped presets, and presets that plugin distributions bring."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from mlops_core.errors import UsageError
from mlops_core.shipped import shipped

PRIMARY = "config"


def find_root(start: Path) -> Path:
    """The nearest folder from `start` upwards that has conf/config.yaml. Raises UsageError."""
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        if (folder / "conf" / f"{PRIMARY}.yaml").is_file():
            return folder
    raise UsageError(
        f"no project here: neither {start} nor a folder above it has conf/{PRIMARY}.yaml; "
        "go to a project, name one with --project DIR, or start one with 'mlops init NAME'"
    )


def folders(root: Path, modules: Iterable[str]) -> tuple[Path, ...]:
    """Every folder of presets, the strongest first: the project's, those of plugin packages, the shipped ones."""
    found = [root / "conf"]
    for name in modules:
        path = package_folder(name)
        if path and (path / "conf").is_dir() and path / "conf" not in found:
            found.append(path / "conf")
    return (*found, shipped("conf"))


def package_folder(module: str) -> Path | None:
    """The folder of an imported module's top package."""
    file = getattr(sys.modules.get(module.split(".")[0]), "__file__", None)
    return Path(file).parent if file and Path(file).name == "__init__.py" else None


def label(path: Path, root: Path) -> str:
    """How a person finds `path`: from the project's folder where it lies inside, else in full."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
