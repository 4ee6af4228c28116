"""Objects in a folder of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from mlops_core.contracts import Artifact
from mlops_core.errors import StoreError
from mlops_core.hashing import FileDigest, FileDigests, copy_sha256
from mlops_core.objects.disk import replace_folder, scratch, sync
from mlops_core.objects.tree import (
    bytes_digest,
    file_artifact,
    folder_artifact,
    folder_sha256,
    listing,
    parse_listing,
    tree_digest,
    walk,
)


class LocalObjects:
    """A DVC cache folder: `files/md5/<2>/<30>`, read-only files; `tmp/` holds what is being written."""

    def __init__(self, root: Path, digests: FileDigests) -> None:
        self.root = root
        self.digests = digests

    def path(self, address: str) -> Path:
        """Where the object of that address lies."""
        return self.root / "files" / "md5" / address[:2] / address[2:]

    def put(self, path: Path, *, own: bool = False) -> Artifact:
        if not path.is_dir():
            return file_artifact(self._store({"": path}, own)[""])
        digests = self._store(dict(walk(path)), own)
        self._store_listing(listing({name: d.md5 for name, d in digests.items()}))
        return folder_artifact(digests)

    def adopt(self, part: Path, address: str) -> None:
        """Makes the file `part`, whose bytes were found to be right, the object of that address."""
        self._place(part, self.digests.of(part), ".dir" if address.endswith(".dir") else "")

    def objects(self, artifact: Artifact) -> dict[str, str]:
        """Relative path ('' for a file) -> md5 address of every file of the artifact. Raises StoreError."""
        if not artifact.address.endswith(".dir"):
            return {"": artifact.address}
        path = self.path(artifact.address)
        try:
            return parse_listing(path.read_bytes(), path)
        except OSError as error:
            raise StoreError.of(f"folder {artifact.address} cannot be read from {self.root}", error) from error

    def has(self, artifact: Artifact) -> bool:
        try:
            self._check(artifact, self.digests.of)
        except StoreError:
            return False
        return True

    def verify(self, artifact: Artifact) -> None:
        self._check(artifact, self.digests.fresh)

    def sound(self, address: str) -> bool:
        """Whether the object is there and is what its address says."""
        path = self.path(address)
        try:
            return path.is_file() and self.digests.of(path).md5 == address.removesuffix(".dir")
        except StoreError:
            return False

    def fetch(self, artifact: Artifact, to: Path) -> Path:
        files = self.objects(artifact)
        folder = artifact.address.endswith(".dir")
        with scratch(to.parent, f"cannot write {to}", f".{to.name}.") as tmp:
            out = tmp / "out"
            copied = {name: self._copy(md5, out / name if folder else out) for name, md5 in files.items()}
            out.mkdir(exist_ok=True) if folder else None
            if self._sha256(artifact, copied) != artifact.sha256:
                self.verify(artifact)
                raise StoreError(f"{self.root} changed while {artifact.address} was read from it; try again")
            if folder:
                replace_folder(out, to)
            else:
                if to.is_dir():
                    shutil.rmtree(to)
                out.replace(to)
        for name, digest in copied.items():
            self.digests.remember(to / name if folder else to, digest)
        return to

    def intact(self, artifact: Artifact, at: Path) -> bool:
        if at.is_dir() != artifact.address.endswith(".dir"):
            return False
        try:
            return tree_digest(at, self.digests) == artifact
        except StoreError:
            return False

    def _check(self, artifact: Artifact, digest_of: Callable[[Path], FileDigest]) -> None:
        if artifact.address.endswith(".dir"):
            self._check_one(artifact.address, "the listing", digest_of)
        found = {name: self._check_one(md5, name, digest_of) for name, md5 in self.objects(artifact).items()}
        sha256 = self._sha256(artifact, found)
        if sha256 != artifact.sha256:
            raise StoreError(f"{self.path(artifact.address)} is altered: sha256 {sha256}, expected {artifact.sha256}")

    def _check_one(self, address: str, name: str, digest_of: Callable[[Path], FileDigest]) -> FileDigest:
        path, what = self.path(address), f" ({name})" if name else ""
        if not path.is_file():
            raise StoreError(f"object {path}{what} is missing")
        digest = digest_of(path)
        if digest.md5 != address.removesuffix(".dir"):
            raise StoreError(f"object {path}{what} is altered: its md5 is {digest.md5}")
        return digest

    def _copy(self, md5: str, to: Path) -> FileDigest:
        path = self.path(md5)
        if not path.is_file():
            raise StoreError(f"object {path} is missing")
        to.parent.mkdir(parents=True, exist_ok=True)
        sha256, size = copy_sha256(path, to)
        return FileDigest(md5=md5, sha256=sha256, size=size)

    @staticmethod
    def _sha256(artifact: Artifact, found: Mapping[str, FileDigest]) -> str:
        if not artifact.address.endswith(".dir"):
            return found[""].sha256
        return folder_sha256({name: digest.sha256 for name, digest in found.items()})

    def _store(self, files: Mapping[str, Path], own: bool) -> dict[str, FileDigest]:
        """Every file as an object; those that are there already, unaltered, are neither read nor written."""
        known = {name: self.digests.of(path) if own else self.digests.peek(path) for name, path in files.items()}
        found = {name: digest for name, digest in known.items() if digest and self._same(digest)}
        if len(found) == len(files):
            return found
        with scratch(self.root / "tmp", f"cannot store objects in {self.root}") as tmp:
            staged: dict[Path, FileDigest] = {}
            for name in files.keys() - found.keys():
                part = tmp / str(len(staged))
                staged[part] = found[name] = self._stage(files[name], part, known[name] if own else None)
            self._place_all(staged)
        return found

    def _store_listing(self, raw: bytes) -> None:
        digest = bytes_digest(raw)
        if self._same(digest, ".dir"):
            return
        with scratch(self.root / "tmp", f"cannot store objects in {self.root}") as tmp:
            (tmp / "listing").write_bytes(raw)
            self._place_all({tmp / "listing": digest}, ".dir")

    def _stage(self, path: Path, part: Path, linkable: FileDigest | None) -> FileDigest:
        """Brings the bytes of `path` to `part`, by a link where its digest is known and it may be linked."""
        if linkable and not path.is_symlink():
            try:
                os.link(path, part)
                return linkable
            except OSError:  # another disk, or one without links
                pass
        return self.digests.copy(path, part)

    def _place_all(self, staged: Mapping[Path, FileDigest], suffix: str = "") -> None:
        sync(staged)
        sync({self._place(part, digest, suffix) for part, digest in staged.items()})

    def _same(self, digest: FileDigest, suffix: str = "") -> bool:
        """Whether the store holds just these bytes. Two contents of one md5 are refused, not mixed up."""
        address = digest.md5 + suffix
        if not self.sound(address):
            return False
        stored = self.digests.of(self.path(address))
        if stored.sha256 != digest.sha256:
            raise StoreError(
                f"refused to store a file whose md5 {digest.md5} is that of another content in {self.root} "
                f"(sha256 {digest.sha256} and {stored.sha256}): one of the two was forged"
            )
        return True

    def _place(self, part: Path, digest: FileDigest, suffix: str) -> Path:
        path = self.path(digest.md5 + suffix)
        if not self._same(digest, suffix):
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
            part.chmod(0o444)
            part.replace(path)
            self.digests.remember(path, digest)
        return path.parent
