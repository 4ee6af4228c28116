"""Which files of a project travel to another machine, and what travels beside them, as zips.

What `.gitignore` and `.mlopsignore` say stays at home, as git reads them: `.mlopsignore` has the last word, so that
`!name` takes along what git leaves out. State, git's own folder and environments never travel,
`.env` only where that is said.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_core.contracts import record
from mlops_core.errors import StoreError, UsageError

IGNORES = (".gitignore", ".mlopsignore")
NEVER = frozenset({".mlops", ".git", ".hg", ".svn", "__pycache__", ".dvc/cache", ".dvc/tmp"})
KEPT = frozenset({".env"})  # secrets, as a rule; '!.env' takes it along
SHOWN = 5
MB = 1024 * 1024
Rule = tuple[Path, Any]  # a folder, and what its ignore files say


@record
class File:
    """One file that travels: its path in the zip, where it lies, and its bytes."""

    name: str
    path: Path
    size: int


def travelling(root: Path) -> tuple[File, ...]:
    """The files of the project at `root` that travel, by name. Raises StoreError where one cannot be read."""
    root = root.resolve()
    try:
        found = list(_walk(root, root, tuple(_above(root)), frozenset({root})))
    except OSError as error:
        raise StoreError.of(f"cannot pack {error.filename or root}", error) from error
    return tuple(sorted(found, key=lambda f: f.name))


def refuse_large(files: Iterable[File], max_mb: int) -> None:
    """Raises UsageError, naming the largest files, where they are more than `max_mb` MiB in all."""
    found = sorted(files, key=lambda f: -f.size)
    size = sum(f.size for f in found)
    if size <= max_mb * MB:
        return
    lines = [f"  {_told(f.size):>10}  {f.name}" for f in found[:SHOWN]]
    raise UsageError(
        "\n".join(
            [
                f"the project is {_told(size)} in {len(found)} files, more than the {max_mb} MiB that may travel:",
                *lines,
                "give data by URL or DVC, name in .mlopsignore what is not needed there, or raise launcher.max_mb",
            ]
        )
    )


def pack(files: Iterable[File], out: Path, extra: Mapping[str, str] | None = None) -> Path:
    """One zip of `files` and of the texts in `extra`: the same bytes for the same content, so that it is sent once."""
    try:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.writestr(_entry(file.name, os.stat(file.path).st_mode), file.path.read_bytes())
            for name, text in sorted((extra or {}).items()):
                archive.writestr(_entry(name, stat.S_IFREG | 0o644), text)
    except OSError as error:
        raise StoreError.of(f"cannot pack {error.filename or out}", error) from error
    return out


def module_files(package: str) -> tuple[File, ...]:
    """The files of an importable package or module, named as they are imported.

    Raises UsageError for one without files of its own, such as a namespace package.
    """
    import importlib.util

    spec = importlib.util.find_spec(package)
    origin = Path(spec.origin) if spec and spec.origin and spec.has_location else None
    if origin is None:
        raise UsageError(f"the plugin's package {package!r} has no file of its own and cannot travel; install it there")
    if origin.name != "__init__.py":
        return (File(name=origin.name, path=origin, size=origin.stat().st_size),)
    base = origin.parent
    return tuple(_walk(base.parent, base, None, frozenset({base.resolve()})))


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | (0o755 if mode & stat.S_IXUSR else 0o644)) << 16
    return entry


def _walk(root: Path, folder: Path, rules: tuple[Rule, ...] | None, seen: frozenset[Path]) -> Iterator[File]:
    """What travels of a folder, named from `root`; `rules` are those of the folders above, None where none count."""
    rules = None if rules is None else (*rules, *_rules(folder))
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = Path(entry.path)
        if entry.is_dir():
            real = path.resolve()  # a link may lead back to where we are
            if real not in seen and not (path / "pyvenv.cfg").is_file() and not _stays(path, "/", rules):
                yield from _walk(root, path, rules, seen | {real})
        elif entry.is_file() and not _stays(path, "", rules):
            yield File(name=path.relative_to(root).as_posix(), path=path, size=entry.stat().st_size)


def _stays(path: Path, slash: str, rules: tuple[Rule, ...] | None) -> bool:
    if path.name in NEVER or f"{path.parent.name}/{path.name}" in NEVER:
        return True
    for base, spec in reversed(rules or ()):  # the nearest folder that says anything has the word
        told = spec.check_file(path.relative_to(base).as_posix() + slash).include
        if told is not None:
            return bool(told)
    return rules is not None and path.name in KEPT


def _above(root: Path) -> Iterator[Rule]:
    """The rules of the folders above a project that is a part of a git repository, the outermost first."""
    top = next((p for p in (root, *root.parents) if (p / ".git").exists()), root)
    between = root.relative_to(top).parts
    for count in range(len(between)):
        yield from _rules(top.joinpath(*between[:count]))


def _rules(folder: Path) -> Iterator[Rule]:
    files = [folder / name for name in IGNORES if (folder / name).is_file()]
    lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
    if lines:
        from pathspec import GitIgnoreSpec

        yield folder, GitIgnoreSpec.from_lines(lines)


def _told(size: int) -> str:
    return f"{size / MB:.1f} MiB" if size >= MB / 10 else f"{size} bytes"
