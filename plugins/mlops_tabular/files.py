"""One file, a folder of files, or a pattern: which files a source reads, and their digests."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlops_core import file_digest
from mlops_core.errors import DataError, nearest
from mlops_tabular.remote import fetched, here, home, url_of


def find(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files that `path` means, in order of their names: itself, all in the folder (deep) that end in one of
    `suffixes`, or all that match the pattern; copies, where it is a URL. Raises DataError where there are none."""
    path = here(path)
    if url := url_of(path):
        return fetched(url, suffixes)
    if path.is_dir():
        found = [
            p for p in path.rglob("*") if p.name.endswith(tuple(suffixes)) and p.is_file() and not _hidden(p, path)
        ]
        if not found:
            raise DataError(f"folder {path} holds no file that ends in {' or '.join(suffixes)}")
    elif glob.has_magic(str(path)) and not path.exists():
        found = [p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file()]
        if not found:
            raise DataError(f"no file matches {path}" + ("" if path.parent.exists() else instead(path.parent)))
    elif not path.exists():
        raise DataError(f"{path} does not exist{instead(path)}")
    else:
        found = [path]
    return sorted(found, key=lambda p: p.as_posix())


def fingerprint(path: Path, files: Sequence[Path]) -> Mapping[str, str]:
    """Name (relative to what `path` means) -> sha256 of each file."""
    path = here(path)
    base = home(url) if (url := url_of(path)) else _base(path)
    return {p.relative_to(base).as_posix(): file_digest(p).sha256 for p in files}


def _base(path: Path) -> Path:
    if path.is_dir():
        return path
    while glob.has_magic(str(path)) and not path.exists():
        path = path.parent
    return path if path.is_dir() else path.parent


def _hidden(path: Path, base: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(base).parts)


def instead(path: Path) -> str:
    """What there is in its place: the nearest name in the folder, or the part of the path that is missing."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder, path = folder.parent, folder
    near = nearest(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
    return f"; did you mean {str(folder / near)!r}?" if near else f"; {folder} has no {path.name!r}"
