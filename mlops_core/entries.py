"""Entry points, read from the metadata folders on the import path.

importlib.metadata gives the same, at the price of importing zipfile and email and of opening every
distribution's METADATA: more than all else that finding plugins costs.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlops_core.contracts import record


@record
class Entry:
    """One entry point: `value` is 'module' or 'module:attribute'."""

    name: str
    value: str
    distribution: str
    version: str

    def load(self) -> Any:
        module, _, attributes = self.value.partition(":")
        found: Any = importlib.import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
        return found


def installed(group: str, path: Sequence[str] | None = None) -> Iterator[Entry]:
    """Every entry point of `group`; of a distribution that is there twice, the first on the path."""
    seen = set()
    for place in sys.path if path is None else path:
        for folder in _metadata(place or "."):
            name = re.sub(r"[-_.]+", "-", folder.stem.split("-")[0]).lower()
            if name not in seen:
                seen.add(name)
                yield from _read(folder, group)


def _metadata(place: str) -> list[Path]:
    try:
        names = sorted(n for n in os.listdir(place) if n.endswith((".dist-info", ".egg-info")))
    except OSError:  # not there, or a zip file
        return []
    return [Path(place, name) for name in names]


def _read(folder: Path, group: str) -> Iterator[Entry]:
    text = _text(folder / "entry_points.txt")
    if f"[{group}]" not in text:
        return
    head = _text(folder / "METADATA") or _text(folder / "PKG-INFO")
    facts = dict(re.findall(r"^(Name|Version): *(.+?) *$", head.split("\n\n")[0], re.M))
    for name, value in _section(text, group):
        yield Entry(
            name=name, value=value, distribution=facts.get("Name", folder.stem), version=facts.get("Version", "?")
        )


def _section(text: str, group: str) -> Iterator[tuple[str, str]]:
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{group}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, value = line.split("=", 1)
            yield name.strip(), value.split("[")[0].strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
