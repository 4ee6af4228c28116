"""What DVC tracks at a path and revision: from the `.dvc` file where there is one, else by asking DVC."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_core.errors import DataError, StoreError
from mlops_dvc.command import dvc, git
from mlops_dvc.repository import Pointer, Repository


@dataclass(frozen=True)
class Tracked:
    """The files at a tracked path: relative path ('' for a file itself) -> md5. `repo` is a folder or a URL."""

    repo: Path | str
    path: str
    rev: str
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One name for just these files."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()[:32]

    def object(self, md5: str) -> Path | None:
        """Where the repository's own cache would keep it."""
        return Repository(self.repo).object(md5) if isinstance(self.repo, Path) else None


def look_up(repo: Path | str, path: str, rev: str) -> Tracked:
    """Raises DataError where there is no such repository, revision, or tracked path."""
    if "://" in str(repo):
        return Tracked(str(repo), path, rev, _ask(str(repo), path, rev))
    base = Path(repo).resolve()
    found = Repository.around(base)
    if found is None:
        raise DataError(f"{repo} is no DVC repository: neither it nor a folder above it has .dvc/config")
    target = Path(os.path.normpath(base / path))
    if not target.is_relative_to(found.root):
        raise DataError(f"{path} is not inside the DVC repository {found.root}")
    inside = target.relative_to(found.root)
    files = _read(found, inside, rev) or _ask(str(found.root), str(inside), rev)
    return Tracked(found.root, str(inside), rev, files)


def _read(repository: Repository, path: Path, rev: str) -> Mapping[str, str] | None:
    """What the `.dvc` file beside `path` says, without DVC; None where that does not do."""
    beside = Path(f"{path}.dvc")
    if rev:
        text = git("show", f"{rev}:./{beside}", cwd=repository.root)
    else:
        text = (repository.root / beside).read_text() if (repository.root / beside).is_file() else None
    pointer = Pointer.parse(text) if text else None
    if pointer is None or not pointer.folder:
        return {"": pointer.md5} if pointer else None
    listing = repository.object(pointer.md5)
    if not listing.is_file():
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_bytes())}


def _ask(repo: str, path: str, rev: str) -> Mapping[str, str]:
    at = ["--rev", rev] if rev else []
    try:
        told = dvc("list", repo, path, "-R", "--show-hash", "--json", *at, cwd=Path.cwd())
    except StoreError as error:
        raise DataError(f"{path} of the DVC repository {repo}: {error}") from error
    entries = json.loads(told)
    alone = len(entries) == 1 and entries[0]["path"] in (path, Path(path).name)
    files = {"" if alone else e["path"]: e["md5"] for e in entries if e.get("md5") and not e["isdir"]}
    if not files:
        raise DataError(f"{path} of {repo} is not tracked by DVC; run 'dvc add {path}' there first")
    return files
