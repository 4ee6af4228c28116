"""A new plugin distribution from templates: a package, its entry point, and tests that pass."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import get_args

from mlops_core.contracts import Kind
from mlops_core.errors import StoreError, UsageError

TEMPLATES = Path(__file__).parent / "template"
KINDS: tuple[Kind, ...] = tuple(k for k in get_args(Kind) if (TEMPLATES / f"{k}.py.txt").exists())


def new(name: str, kind: str, out: Path) -> tuple[Path, ...]:
    """Writes the distribution of a plugin `name` into the folder `out`, which must not exist or be empty.

    Returns the files written. Raises UsageError for a name that cannot stand in Python and YAML.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"plugin name {name!r} must be lower-case letters, digits and underscores, as typed in YAML")
    if kind not in KINDS:
        raise UsageError(f"plugins of kind {kind!r} cannot be started from a template; there are: {', '.join(KINDS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; give another folder with --out")
    package = f"mlops_{name}"
    if importlib.util.find_spec(package):
        raise UsageError(f"package {package} is installed already; choose another name")
    words = {
        "name": name,
        "kind": kind,
        "package": package,
        "distribution": package.replace("_", "-"),
        "class": "".join(part.capitalize() for part in name.split("_")) + kind.capitalize(),
    }
    files = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        "LICENSE": "LICENSE.txt",
        f"src/{package}/__init__.py": "__init__.py.txt",
        f"src/{package}/plugin.py": f"{kind}.py.txt",
        f"src/{package}/py.typed": "",
        f"src/{package}/conf/{kind}/{name}.yaml": "preset.yaml.txt",
        f"tests/test_{name}.py": f"test_{kind}.py.txt",
    }
    if kind in ("observer", "exporter"):  # no group of the declaration
        del files[f"src/{package}/conf/{kind}/{name}.yaml"]
    try:
        return tuple(_write(out / path, template, words) for path, template in files.items())
    except OSError as error:
        raise StoreError.of(f"cannot write the plugin into {out}", error) from error


def _write(path: Path, template: str, words: dict[str, str]) -> Path:
    text = (TEMPLATES / template).read_text() if template else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], text))
    return path
