"""What a defaults list may name: groups, and their options from files and from installed plugins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from mlops_core.config.documents import Document
from mlops_core.config.project import PRIMARY, folders, label
from mlops_core.contracts import KINDS, Kind
from mlops_core.errors import did_you_mean
from mlops_core.plugins import Plugins

GROUPS: tuple[Kind, ...] = ("data", "trainer", "tuner", "deployer", "monitor", "launcher")


class Presets:
    """Every preset within reach, by group; the strongest folder that has a file gives it."""

    def __init__(self, root: Path, plugins: Plugins) -> None:
        self.root, self.plugins = root, plugins
        self.folders = folders(root, sorted({o.cls.__module__ for o in plugins.all()}))
        self._documents: dict[Path, Document] = {}
        self.listed: set[Path] = set()

    @property
    def primary(self) -> Document:
        return self.document(self.root / "conf" / f"{PRIMARY}.yaml")

    def document(self, path: Path) -> Document:
        if path not in self._documents:
            self._documents[path] = Document(path, label(path, self.root))
        return self._documents[path]

    @property
    def documents(self) -> tuple[Document, ...]:
        """Every file read so far, in order."""
        return tuple(self._documents.values())

    def find(self, name: str) -> Path | None:
        """The file of a config such as 'base' or 'trainer/lightning'; None where no file is."""
        paths = (folder / f"{name.strip('/')}.yaml" for folder in self.folders)
        return next((p for p in paths if p.is_file()), None)

    def plugin(self, name: str) -> str:
        """The plugin behind 'trainer/lightning' where that names one, else ''."""
        group, _, option = name.strip("/").rpartition("/")
        return option if any(group == g and option in self.plugins.names(g) for g in GROUPS) else ""

    def exists(self, name: str) -> bool:
        return self.find(name) is not None or bool(self.plugin(name))

    def options(self, group: str) -> set[str]:
        """Everything that a defaults list may choose in `group` ('' for the files at the top)."""
        files = {n.rsplit("/", 1)[-1] for n in self._files if n.rpartition("/")[0] == group.strip("/")}
        return files | {name for g in GROUPS if g == group.strip("/") for name in self.plugins.names(g)}

    def unknown(self, group: str, name: str, known: Iterable[str] | None = None) -> tuple[str, str]:
        """Message and suggestion for an option that is not there; where none is near, a broken plugin may be why."""
        hint = did_you_mean(name, self.options(group) if known is None else known)
        broken = self.plugins.broken if group in KINDS and "did you mean" not in hint else ()
        why = "".join(f"; plugin {b.entry!r} of {b.distribution} could not be used: {b.reason}" for b in broken)
        return f"unknown {group} {name!r}", hint + why

    @cached_property
    def groups(self) -> frozenset[str]:
        nested = {n.rpartition("/")[0] for n in self._files}
        return frozenset((nested - {""}) | set(GROUPS))

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(name for folder in self.folders for name in self._walk(folder))

    def _walk(self, folder: Path) -> Iterator[str]:
        for at, inner, names in os.walk(folder):
            inner[:] = sorted(n for n in inner if not n.startswith((".", "_")))
            self.listed.add(Path(at))
            below = Path(at).relative_to(folder)
            yield from ((below / n[:-5]).as_posix() for n in names if n.endswith(".yaml"))
