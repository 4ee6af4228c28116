"""Objects behind any fsspec URL (s3://, gs://, sftp://, memory://), with a local cache in front."""

from __future__ import annotations

import functools
import secrets
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlops_core.contracts import Artifact
from mlops_core.errors import StoreError, UsageError
from mlops_core.hashing import FileDigest, digest_stream
from mlops_core.objects.disk import scratch
from mlops_core.objects.local import LocalObjects
from mlops_core.objects.tree import addresses, is_md5

# Stores where an upload is seen whole or not at all. Elsewhere a file is written beside and renamed.
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"})


def is_local(url: str | Path) -> bool:
    return "://" not in str(url) or str(url).startswith(("file://", "local://"))


def local_path(url: str | Path) -> Path:
    text = str(url)
    if "://" not in text:
        return Path(text)
    parts = urllib.parse.urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise UsageError(f"store.objects: {text!r} names no folder; expected a path or file:///absolute/path")
    return Path(urllib.parse.unquote(parts.path))


class Unreachable(StoreError):
    """The store itself did not answer, or refused: nothing is known of what it holds."""


class RemoteObjects:
    """The far side of a store. A remote object whose bytes were found wrong is known by its state (ETag,
    time, size), so that `has` sees it and `push` replaces it."""

    def __init__(self, url: str, local: LocalObjects) -> None:
        self.url = url.rstrip("/")
        password = urllib.parse.urlsplit(self.url).password
        self.shown = self.url.replace(f":{password}@", ":***@") if password else self.url
        self.local = local

    def push(self, artifact: Artifact) -> None:
        for address in addresses(self.local.objects(artifact).values(), artifact):
            if not self._good(address):
                self._upload(address)

    def pull(self, artifact: Artifact) -> None:
        """Brings into the local cache what is missing there."""
        if artifact.address.endswith(".dir"):
            self._download(artifact.address)
        for address in sorted(set(self.local.objects(artifact).values())):
            self._download(address)

    def has(self, artifact: Artifact) -> bool:
        try:
            if artifact.address.endswith(".dir"):
                if not self._good(artifact.address):
                    return False
                self._download(artifact.address)
            files = self.local.objects(artifact)
            states = {address: self._state(address) for address in set(files.values())}
        except Unreachable:  # not to be known is not to be gone: whoever asks would do the work again
            raise
        except StoreError:
            return False
        whole = all(self._good(a, s) for a, s in states.items())
        return whole and sum(int((states[a] or {}).get("size") or 0) for a in files.values()) == artifact.size

    def verify(self, artifact: Artifact) -> None:
        if artifact.address.endswith(".dir"):
            self._read(artifact.address, None)
            self._download(artifact.address)
        for address in sorted(set(self.local.objects(artifact).values())):
            self._read(address, None)

    @functools.cached_property
    def _fs(self) -> Any:
        import fsspec

        try:
            fs, _ = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise StoreError(f"cannot use the object store {self.shown}: {error}") from error
        return fs

    def _path(self, address: str) -> str:
        root: str = self._fs._strip_protocol(self.url)
        return f"{root}/files/md5/{address[:2]}/{address[2:]}"

    def _state(self, address: str) -> dict[str, Any] | None:
        with self._told(f"cannot look up {address}"):
            self._fs.invalidate_cache()
            try:
                return dict(self._fs.info(self._path(address)))
            except FileNotFoundError:
                return None

    def _good(self, address: str, state: dict[str, Any] | None = None) -> bool:
        state = state or self._state(address)
        if state is None:
            return False
        md5 = address.removesuffix(".dir")
        known = self.local.digests.known(self._key(address), _stamp(state))
        if known is not None:
            return known.md5 == md5
        etag = str(state.get("ETag", "")).strip('"')
        if is_md5(etag) and not state.get("SSEKMSKeyId") and etag != md5:
            return False
        local = self.local.path(address)
        return not local.is_file() or local.stat().st_size == state.get("size")

    def _key(self, address: str) -> str:
        return f"{self.shown}/{address}"

    def _note(self, address: str, digest: FileDigest) -> None:
        state = self._state(address)
        if state is not None:
            self.local.digests.note(self._key(address), _stamp(state), digest)

    def _upload(self, address: str) -> None:
        source, path = self.local.path(address), self._path(address)
        target = path if self._atomic else f"{path}.{secrets.token_hex(4)}.tmp"
        with self._told(f"cannot store {address}"):
            try:
                if not self._atomic:
                    self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                self._fs.put_file(str(source), target)
                if not self._atomic:
                    self._fs.mv(target, path)
            except FileNotFoundError as error:
                raise StoreError(f"cannot store {address} in {self.shown}: {error}") from error
            except BaseException:
                with suppress(Exception):
                    self._fs.rm_file(target) if not self._atomic else None
                raise
        self._note(address, self.local.digests.of(source))

    @property
    def _atomic(self) -> bool:
        protocol = self._fs.protocol
        return bool(_ATOMIC & set(protocol if isinstance(protocol, tuple) else (protocol,)))

    def _download(self, address: str) -> None:
        if self.local.sound(address):
            return
        with scratch(self.local.root / "tmp", f"cannot write to {self.local.root}") as tmp:
            self._read(address, tmp / "object")
            self.local.adopt(tmp / "object", address)

    def _read(self, address: str, to: Path | None) -> FileDigest:
        """Reads a remote object, into `to` where given. Raises StoreError where it is missing or altered."""
        path = self._path(address)
        try:
            with self._told(f"cannot read {address}"), self._fs.open(path, "rb") as source:
                if to is None:
                    digest = digest_stream(source)
                else:
                    with to.open("wb") as sink:
                        digest = digest_stream(source, sink)
        except FileNotFoundError as error:
            raise StoreError(f"object {address} is missing from {self.shown}") from error
        self._note(address, digest)
        if digest.md5 != address.removesuffix(".dir"):
            raise StoreError(f"object {address} in {self.shown} is altered: its md5 is {digest.md5}")
        return digest

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (StoreError, FileNotFoundError):
            raise
        except Exception as error:  # every file system has errors of its own
            raise Unreachable(f"{doing} in {self.shown}: {type(error).__name__}: {error}") from error


def _stamp(state: dict[str, Any]) -> str:
    names = ("size", "ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created", "updated")
    return "|".join(f"{name}={state[name]}" for name in names if name in state)
