"""A DVC repository on disk, as far as it can be read and written without DVC: its settings and `.dvc` files."""

from __future__ import annotations

import configparser
import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from mlops_core.errors import StoreError
from mlops_dvc.command import dvc, git_top


@dataclass(frozen=True)
class Repository:
    """The repository whose `.dvc` folder lies in `root`."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> Repository | None:
        """The nearest one, in `folder` or above it."""
        found = (f for f in (folder, *folder.parents) if (f / ".dvc" / "config").is_file())
        return next(map(cls, found), None)

    @property
    def cache(self) -> Path:
        """Where its objects lie."""
        where = self.setting("cache", "dir")
        return Path(os.path.normpath(self.root / ".dvc" / where)) if where else self.root / ".dvc" / "cache"

    def object(self, md5: str) -> Path:
        return self.cache / "files" / "md5" / md5[:2] / md5[2:]

    def setting(self, section: str, name: str) -> str:
        """A value of `.dvc/config`, or of `.dvc/config.local`, which comes first; '' where it is not set."""
        found = ""
        for file in ("config", "config.local"):
            parser = configparser.RawConfigParser()
            try:
                parser.read(self.root / ".dvc" / file)
            except configparser.Error as error:
                raise StoreError(f"{self.root / '.dvc' / file} cannot be read: {error}") from error
            found = parser.get(section, name, fallback=found)
        return found


@dataclass(frozen=True)
class Pointer:
    """What a `.dvc` file says of its one output."""

    md5: str
    size: int
    files: int = 0

    @property
    def folder(self) -> bool:
        return self.md5.endswith(".dir")

    @classmethod
    def parse(cls, text: str) -> Pointer | None:
        """None where the text is no `.dvc` file of one output under its md5."""
        import yaml

        try:
            (out,) = yaml.safe_load(text)["outs"]
            return cls(str(out["md5"]), int(out.get("size", 0)), int(out.get("nfiles", 0)))
        except (yaml.YAMLError, KeyError, TypeError, ValueError):
            return None

    def write(self, out: Path) -> None:
        """The `.dvc` file beside `out`, byte for byte as `dvc add` writes it."""
        name = out.name if re.fullmatch(r"[A-Za-z][\w.-]*", out.name) else json.dumps(out.name)
        count = f"  nfiles: {self.files}\n" if self.folder else ""
        text = f"outs:\n- md5: {self.md5}\n  size: {self.size}\n{count}  hash: md5\n  path: {name}\n"
        write(pointer_file(out), text)


def pointer_file(out: Path) -> Path:
    return out.with_name(f"{out.name}.dvc")


def prepare(project: Path) -> Repository:
    """The repository of a project; a new one shares the project's object store as its cache."""
    found = Repository.around(project)
    if found is not None:
        return found
    top = git_top(project)
    where = ["--no-scm"] if top is None else [] if top == project.resolve() else ["--subdir"]
    dvc("init", *where, cwd=project)
    scm = "" if top is not None else "    no_scm = True\n"
    quiet = "    analytics = false\n    check_update = false\n"
    write(project / ".dvc" / "config", f"[core]\n{scm}{quiet}[cache]\n    dir = ../.mlops/objects\n")
    add_line(project / ".dvcignore", "/.mlops")
    return Repository(project)


def add_line(file: Path, line: str) -> None:
    """Adds a line to a text file that lacks it."""
    text = file.read_text() if file.exists() else ""
    if line not in text.splitlines():
        write(file, text + ("" if text.endswith("\n") or not text else "\n") + line + "\n")


def write(file: Path, text: str) -> None:
    """Whole or not at all."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    part.write_text(text)
    part.replace(file)
