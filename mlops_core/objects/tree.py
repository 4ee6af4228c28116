"""What a folder is, as a DVC listing and as one sha256."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mlops_core.contracts import Artifact
from mlops_core.errors import StoreError
from mlops_core.hashing import FileDigest, FileDigests


def tree_digest(path: Path, digests: FileDigests) -> Artifact:
    """What the file or folder at `path` would be as an artifact, without storing it."""
    if not path.is_dir():
        return file_artifact(digests.of(path))
    return folder_artifact({name: digests.of(file) for name, file in walk(path)})


def bytes_digest(raw: bytes) -> FileDigest:
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    return FileDigest(md5=md5, sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))


def file_artifact(digest: FileDigest) -> Artifact:
    return Artifact(address=digest.md5, sha256=digest.sha256, size=digest.size, files=1)


def folder_artifact(files: Mapping[str, FileDigest]) -> Artifact:
    """The artifact of a folder with these files: relative path -> digest."""
    return Artifact(
        address=bytes_digest(listing({n: d.md5 for n, d in files.items()})).md5 + ".dir",
        sha256=folder_sha256({n: d.sha256 for n, d in files.items()}),
        size=sum(d.size for d in files.values()),
        files=len(files),
    )


def listing(files: Mapping[str, str]) -> bytes:
    """The object of a folder, byte for byte as DVC writes it: relative path -> md5, sorted by path."""
    return json.dumps([{"md5": files[name], "relpath": name} for name in sorted(files)], sort_keys=True).encode()


def parse_listing(raw: bytes, where: object) -> dict[str, str]:
    """Relative path -> md5. Raises StoreError where this is no listing, or a path leads out of the folder."""
    try:
        files = {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(raw)}
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{where} is altered: it is no folder listing") from error
    for name, md5 in files.items():
        if not _inside(name) or not is_md5(md5):
            raise StoreError(f"{where} is altered: it lists {name!r} as {md5!r}")
    return files


def folder_sha256(files: Mapping[str, str]) -> str:
    """sha256 of the lines that `sha256sum` prints for these files, sorted by path: it can be checked by hand."""
    lines = sorted((os.fsencode(name), sha256) for name, sha256 in files.items())
    return hashlib.sha256(b"".join(_line(name, sha256) for name, sha256 in lines)).hexdigest()


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """(relative path, path) of every file in the folder, in no order; a link to a file counts as the file."""
    pending = [(str(folder), "")]
    while pending:
        base, prefix = pending.pop()
        try:
            entries = list(os.scandir(base))
        except OSError as error:
            raise StoreError.of(f"cannot read {base}", error) from error
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, f"{prefix}{entry.name}/"))
            elif entry.is_file():
                yield prefix + entry.name, Path(entry.path)
            else:
                raise StoreError(f"{entry.path} cannot be stored: it is {_what(entry)}, expected a file or a folder")


def addresses(files: Iterable[str], artifact: Artifact) -> list[str]:
    """Every object of the artifact, the listing last: what is listed is there before the list is."""
    return [*sorted(set(files)), *([artifact.address] if artifact.address.endswith(".dir") else [])]


def is_md5(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


def _inside(name: str) -> bool:
    return bool(name) and "\0" not in name and not {"", "..", "."} & set(name.split("/"))


def _line(name: bytes, sha256: str) -> bytes:
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != name else b"") + sha256.encode() + b"  " + escaped + b"\n"


def _what(entry: os.DirEntry[str]) -> str:
    if not entry.is_symlink():
        return "a device, pipe or socket"
    return f"a link to the folder {Path(entry.path).readlink()}" if entry.is_dir() else "a link to nothing"
