"""Bytes under their digest, laid out as a DVC cache: `<root>/files/md5/<2>/<30>`, a folder as a listing `.dir`.

Real `dvc status/push/pull/gc` work on it; integrity rests on the sha256 kept in each `Artifact`. Objects are
read-only files, whole or absent: written beside, synced, renamed.
"""

from __future__ import annotations

from pathlib import Path

from mlops_core.contracts import Artifact
from mlops_core.hashing import FileDigests
from mlops_core.objects.local import LocalObjects
from mlops_core.objects.remote import RemoteObjects, is_local, local_path
from mlops_core.objects.tree import tree_digest as tree_digest

__all__ = ["Objects", "tree_digest"]


class Objects:
    """The object store at `url`: a folder, or any fsspec URL with a local folder `cache` in front.

    Without `cache`, a remote store keeps its local copies in `objects` inside the digests' folder.
    Any number of processes may use one store at once.
    """

    def __init__(self, url: str | Path, digests: FileDigests, cache: Path | None = None) -> None:
        self.url = str(url)
        self.digests = digests
        self._remote: RemoteObjects | None = None
        root = local_path(url) if is_local(url) else cache or (digests.cache or Path(".mlops/cache")) / "objects"
        self.local = LocalObjects(root, digests)
        if not is_local(url):
            self._remote = RemoteObjects(self.url, self.local)

    def put(self, path: Path, *, own: bool = False) -> Artifact:
        """Stores a file or folder. What is stored already costs nothing; what was altered in the store is healed.

        own: the caller gives `path` up and will not write to it again; it may then be linked instead of copied.
        Raises StoreError where it cannot be read or written, or holds what is neither file nor folder.
        """
        artifact = self.local.put(path, own=own)
        if self._remote is not None:
            self._remote.push(artifact)
        return artifact

    def has(self, artifact: Artifact) -> bool:
        """Whether every byte is there and unaltered, as far as stat can tell; cheap.

        Raises StoreError where the store cannot be reached, so that nothing is taken for lost.
        """
        return self._remote.has(artifact) if self._remote is not None else self.local.has(artifact)

    def verify(self, artifact: Artifact) -> None:
        """Reads every byte again. Raises StoreError naming what is missing or altered."""
        if self._remote is not None:
            self._remote.verify(artifact)
        else:
            self.local.verify(artifact)

    def fetch(self, artifact: Artifact, to: Path) -> Path:
        """Lays the artifact out at `to`, verified while it is copied; whole or not at all.

        Does nothing where `to` is there and intact; replaces it where it is not. Returns `to`.
        """
        if self.intact(artifact, to):
            return to
        if self._remote is not None:
            self._remote.pull(artifact)
        return self.local.fetch(artifact, to)

    def intact(self, artifact: Artifact, at: Path) -> bool:
        """Whether the file or folder at `at` still equals the artifact, as far as stat can tell."""
        return self.local.intact(artifact, at)
