"""The manifest of a bundle: what was sealed, and whether a folder is still that."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mlops_core.errors import BundleError
from mlops_core.objects.tree import folder_sha256

FORMAT = 1
NAME = "manifest.json"
CHUNK = 1 << 20


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Lists every file of `folder` and seals the list together with `content`."""
    files = {
        name: {"sha256": sha256(folder / name), "size": (folder / name).stat().st_size} for name in files_of(folder)
    }
    whole = {"format": FORMAT, "files": files, **content}
    (folder / NAME).write_bytes(canonical(whole | {"seal": _seal(whole)}))


def verify(folder: Path) -> tuple[dict[str, Any], str]:
    """The manifest, and the digest of the whole folder, after reading every byte. Raises BundleError."""
    manifest, own = _read(folder)
    files = manifest["files"]
    _names(folder, files)
    digests = {name: _intact(folder, name, wanted) for name, wanted in files.items()}
    return manifest, folder_sha256({**digests, NAME: own})


def files_of(root: Path) -> list[str]:
    """Relative POSIX paths of all files. Raises BundleError for anything but plain files and folders."""
    return sorted(str(PurePosixPath(Path(p).relative_to(root))) for p in _walk(root))


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def canonical(value: Any) -> bytes:
    """The one spelling of a value: any other bytes were not written by us."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _read(folder: Path) -> tuple[dict[str, Any], str]:
    place = folder / NAME
    if not folder.is_dir():
        raise BundleError(f"there is no bundle at {folder}")
    if place.is_symlink():
        raise BundleError(f"{place} is a link; a bundle holds only plain files")
    try:
        data = place.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{folder} is no bundle: {NAME} is missing") from None
    except OSError as error:
        raise BundleError(f"{place} cannot be read: {error.strerror}") from error
    try:
        manifest = json.loads(data)
        version = manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(f"{place} is truncated or altered: it is no manifest") from None
    if isinstance(version, int) and version > FORMAT:
        raise BundleError(f"{place} has format {version}, this release reads {FORMAT}; upgrade mlops-core-framework")
    rest = {k: v for k, v in manifest.items() if k != "seal"}
    sound = isinstance(manifest.get("files"), dict) and all(map(_is_entry, manifest["files"].values()))
    if version != FORMAT or not sound or canonical(manifest) != data or manifest.get("seal") != _seal(rest):
        raise BundleError(f"{place} is altered: it does not match its own seal")
    return manifest, hashlib.sha256(data).hexdigest()


def _names(folder: Path, files: Mapping[str, Any]) -> None:
    for name in files:
        if "\\" in name or "\0" in name or ".." in name.split("/") or name[:1] in ("", "/"):
            raise BundleError(f"{folder / NAME} names {name!r}, which leads out of the bundle")
    found = set(files_of(folder)) - {NAME}
    for name in sorted(set(files) - found):
        raise BundleError(f"bundle {folder}: file {name!r} is missing")
    for name in sorted(found - set(files)):
        raise BundleError(f"bundle {folder}: file {name!r} is not in its manifest")


def _intact(folder: Path, name: str, wanted: Mapping[str, Any]) -> str:
    altered = f"bundle {folder}: file {name!r} is altered"
    try:
        size = (folder / name).stat().st_size
        if size != wanted["size"]:
            raise BundleError(f"{altered}: it has {size} bytes, sealed were {wanted['size']}")
        found = sha256(folder / name)
    except OSError as error:
        raise BundleError(f"bundle {folder}: file {name!r} cannot be read: {error.strerror}") from error
    if found != wanted["sha256"]:
        raise BundleError(f"{altered}: its sha256 is {found[:12]}, sealed was {wanted['sha256'][:12]}")
    return found


def _walk(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from _walk(Path(entry.path))
            elif stat.S_ISREG(mode):
                yield entry.path
            else:
                what = "a link" if stat.S_ISLNK(mode) else "a special file"
                raise BundleError(f"{entry.path} is {what}; a bundle holds only plain files")


def _is_entry(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("sha256"), str) and isinstance(value.get("size"), int)


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()
