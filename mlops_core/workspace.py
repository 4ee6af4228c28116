"""Where a project's things lie, and how a stage's folder becomes an artifact and comes back."""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from mlops_core.code import Code
from mlops_core.contracts import Artifact, Declaration
from mlops_core.errors import StoreError
from mlops_core.hashing import FileDigests
from mlops_core.ledger import Ledger
from mlops_core.objects import Objects
from mlops_core.objects.disk import replace_folder
from mlops_core.plugins import Plugins
from mlops_core.privacy import KEY, Pseudonyms

STATE = ".mlops"


class Workspace:
    """A project's folders, ledger, object store and plugins: opened when first used, closed by `close`."""

    def __init__(self, root: Path, declaration: Declaration, plugins: Plugins | None = None) -> None:
        self.root, self.declaration = root.resolve(), declaration
        self.state = self.root / STATE
        self._plugins = plugins

    @cached_property
    def plugins(self) -> Plugins:
        return self._plugins or Plugins()

    @cached_property
    def digests(self) -> FileDigests:
        return FileDigests(self.state / "cache" / "digests")

    @cached_property
    def objects(self) -> Objects:
        return Objects(self._store("objects", "objects"), self.digests)

    @cached_property
    def ledger(self) -> Ledger:
        self._writable()
        return Ledger(self._store("ledger", "ledger.db"))

    def _store(self, name: str, home: str) -> str:
        """Where a store lies: a URL as declared, a path (also as sqlite:///path) from the project's folder."""
        url = self.declaration.store.get(name) or str(self.state / home)
        path = unquote(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else url
        return url if "://" in path or not path else str(self.root / path)

    @property
    def serve(self) -> Path:
        """What a deployer keeps of this project's endpoint."""
        return self.state / "serve" / self.declaration.name

    @cached_property
    def pseudonyms(self) -> Pseudonyms:
        return Pseudonyms(self.serve / KEY)

    @cached_property
    def code(self) -> Code:
        return Code(self.state / "cache" / "code.json", self.root)

    def work(self, stage: str, key: str) -> Path:
        """The folder of a stage at work; it comes again, with what is in it, after a kill."""
        path = self._work(stage, key)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def leave(self, stage: str, key: str) -> None:
        """Removes the folder of a stage that is done."""
        shutil.rmtree(self._work(stage, key), ignore_errors=True)

    def _work(self, stage: str, key: str) -> Path:
        return self.state / "work" / f"{stage}-{key[:12]}-{self.declaration.name}"  # each name has a lock of its own

    def home(self, kind: str, artifact: Artifact) -> Path:
        """Where an artifact is laid out to be read: `.mlops/<kind>/<sha12>`."""
        return self.state / kind / artifact.sha256[:12]

    def settle(self, kind: str, folder: Path) -> tuple[Artifact, Path]:
        """Stores a finished folder and lays it out at its home. The folder is gone afterwards."""
        artifact = self.objects.put(folder)
        home = self.home(kind, artifact)
        if not self.objects.intact(artifact, home):
            home.parent.mkdir(parents=True, exist_ok=True)
            replace_folder(folder, home)
        return artifact, home

    def recover(self, kind: str, artifact: Artifact) -> tuple[Path, str] | None:
        """The laid-out artifact, and how it came there: '' (intact), or 'restored'; None where it is lost.

        A copy that was deleted or altered is laid out again from the object store, a damaged object from an
        intact copy; where neither is whole, the stage has to run again.
        """
        home = self.home(kind, artifact)
        if self.objects.intact(artifact, home):
            if self.objects.has(artifact):
                return home, ""
            self.objects.put(home)
            return home, "restored"
        try:
            return self.objects.fetch(artifact, home), "restored"
        except StoreError:
            if self.objects.has(artifact):  # a full disk is no reason to do the work again
                raise
            return None

    def lies(self, kind: str, artifact: Artifact) -> bool:
        """Whether the artifact is laid out and intact, or can be restored; changes nothing."""
        return self.objects.intact(artifact, self.home(kind, artifact)) or self.objects.has(artifact)

    def close(self) -> None:
        for name in ("ledger", "digests"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()

    def _writable(self) -> None:
        try:
            self.state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.state}: {error.strerror}; mlops keeps its state there: make the folder writable"
            ) from error
