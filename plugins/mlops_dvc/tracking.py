"""Observer `dvc`."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_core import hookimpl
from mlops_core.contracts import Artifact, Dataset, Model, Run
from mlops_core.errors import StoreError
from mlops_dvc.command import dvc, git_top
from mlops_dvc.repository import Pointer, Repository, add_line, pointer_file, prepare, write


@dataclass(frozen=True)
class Dvc:
    """Makes every frozen data set and sealed bundle an output of DVC.

    After each run `artifacts/NAME-dataset` and `artifacts/NAME-bundle` hold the current ones, with a `.dvc` file
    beside each, so that `dvc status`, `dvc push` and `dvc pull` work, in a git repository and outside one. Where
    the project is no DVC repository yet, it is made one whose cache is the project's object store: nothing is
    stored twice. In a repository with a cache of its own, outputs are added to that. Commit the `.dvc` files to
    git, and each commit names its data and its model.

    folder: where the outputs and their .dvc files lie, inside the project
    remote: the name of a remote that DVC knows, or the URL or path of one, which becomes the default remote 'mlops'
    push: whether each new output is pushed to the remote at once
    """

    folder: Path = Path("artifacts")
    remote: str = ""
    push: bool = False

    @hookimpl
    def mlops_finished(self, run: Run, stage: str, record: Any, skipped: bool) -> None:
        """Tracks what the stages that make data sets and bundles left, also where they were skipped."""
        kind = "dataset" if isinstance(record, Dataset) else "bundle" if isinstance(record, Model) else ""
        if kind and run.project:
            project = Path(os.path.normpath(run.project))
            out = Path(os.path.normpath(project / self.folder / f"{run.name}-{kind}"))
            self._track(project, out, record.path, record.artifact)

    def _track(self, project: Path, out: Path, source: Path, artifact: Artifact) -> None:
        if not out.is_relative_to(project):
            raise StoreError(f"observers.dvc.folder: {self.folder} is not inside the project {project}")
        repository = prepare(project)
        remote = self._remote(repository, project)
        if not _same(source, out):
            _lay_out(source, out)
        if _pointed(out) != artifact.address:
            _point(repository, out, artifact)
        if self.push:
            _push(repository, project, out, artifact.address, remote)

    def _remote(self, repository: Repository, project: Path) -> str:
        """The name of the remote to push to; '' for DVC's default. Sets up the one that is given as a URL."""
        if "/" not in self.remote:
            return self.remote
        url = self.remote if "://" in self.remote else str((project / self.remote).resolve())
        known = repository.setting("'remote \"mlops\"'", "url"), repository.setting("core", "remote")
        if known != (url, "mlops"):
            dvc("remote", "add", "-f", "-d", "mlops", url, cwd=repository.root)
        return "mlops"


def _pointed(out: Path) -> str:
    file = pointer_file(out)
    found = Pointer.parse(file.read_text()) if file.exists() else None
    return found.md5 if found else ""


def _point(repository: Repository, out: Path, artifact: Artifact) -> None:
    """Writes the `.dvc` file; the objects are in DVC's cache already, unless it has a cache of its own."""
    if not repository.object(artifact.address).is_file():
        dvc("add", str(out), cwd=repository.root)
        return
    if git_top(out.parent) is not None:
        add_line(out.parent / ".gitignore", f"/{out.name}")
    Pointer(artifact.address, artifact.size, artifact.files).write(out)


def _push(repository: Repository, project: Path, out: Path, address: str, remote: str) -> None:
    """Pushes what was not pushed yet; a push that failed is tried again by the next run."""
    done = project / ".mlops" / "dvc.json"
    pushed: dict[str, str] = json.loads(done.read_text()) if done.exists() else {}
    mark = f"{address} {remote}"
    if pushed.get(out.name) == mark:
        return
    dvc("push", *(["-r", remote] if remote else []), str(pointer_file(out)), cwd=repository.root)
    done.parent.mkdir(exist_ok=True)
    write(done, json.dumps(pushed | {out.name: mark}, indent=1) + "\n")


def _same(source: Path, out: Path) -> bool:
    """Whether `out` is a copy of `source` that nobody touched: same names, sizes and times."""
    return out.is_dir() and _states(source) == _states(out)


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            stat = path.stat()
            found[str(path.relative_to(folder))] = (stat.st_size, stat.st_mtime_ns)
    return found


def _lay_out(source: Path, out: Path) -> None:
    """Copies the folder, then puts the copy in place of what stood there. A project has one run at a time, so
    what a killed one left half done has the same names, and is swept."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part, old = (out.with_name(f".{out.name}.{end}") for end in ("part", "old"))
    try:
        _sweep(part, old)
        shutil.copytree(source, part)
        if out.exists():
            out.rename(old)
        part.rename(out)
    except OSError as error:
        raise StoreError.of(f"cannot write {out}", error) from error
    finally:
        _sweep(part, old)


def _sweep(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
