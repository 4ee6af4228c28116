"""Files behind any fsspec URL (s3://, https://, sftp://) as local copies, fetched again when they change there."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops_core.errors import DataError

CHANGING = {"etag", "md5", "md5hash", "content_md5", "lastmodified", "last_modified", "mtime", "modified", "created"}
INSTALL = {"s3": "mlops-core-framework[s3]", "gs": "gcsfs", "abfs": "adlfs", "sftp": "paramiko"}


def url_of(path: Path) -> str:
    """The URL that was declared as a path, which took one of its slashes; '' for a path."""
    found = re.match(r"([a-z][a-z\d+.-]+):/+(.*)", str(path))
    return f"{found[1]}://{found[2]}" if found else ""


def here(path: Path) -> Path:
    """A file:// URL as the path it is; anything else as it was."""
    url = url_of(path)
    return Path("/" + url.partition("://")[2]) if url.startswith(("file://", "local://")) else path


def home(url: str) -> Path:
    """Where the copies of a URL lie: in the user's cache, whichever project asks, for the user alone."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mlops" / "data" / hashlib.sha256(url.encode()).hexdigest()[:16]


def fetched(url: str, suffixes: Sequence[str]) -> list[Path]:
    """Copies of the file, the folder's files that end in one of `suffixes`, or the pattern's; no more than are there.

    Raises DataError where there are none, or they cannot be reached.
    """
    folder, shown = home(url), re.sub(r"(://[^/:@]*):[^/@]*@", r"\1:***@", url)
    try:
        fs, root = _opened(url)
        names = _listed(fs, root, tuple(suffixes))
        if not names:
            raise DataError(f"{shown} does not exist, or holds no file that ends in {' or '.join(suffixes)}")
        marks = _marks(folder)
        for name, far in names.items():
            mark = _mark(fs.info(far))
            if not mark or marks.get(name) != mark or not (folder / name).is_file():
                _private(folder.parent)
                _copy(fs, far, folder / name)
                marks[name] = mark
                _write(folder / ".marks", json.dumps(marks).encode())
    except DataError:
        raise
    except ImportError as error:
        scheme = url.partition("://")[0]
        package = INSTALL.get(scheme, "the fsspec implementation of " + scheme)
        raise DataError(f"{shown} cannot be read without: python -m pip install '{package}'") from error
    except Exception as error:  # each store has errors of its own: no rights, no network, no such bucket
        words = (str(error).strip() or type(error).__name__).splitlines()[0].replace(url, shown)
        raise DataError(f"cannot read {shown}: {words}") from error
    return [folder / name for name in sorted(names)]


def _opened(url: str) -> tuple[Any, str]:
    import fsspec

    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return fs, str(root)


def _listed(fs: Any, root: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Name below our folder -> the far path."""
    if glob.has_magic(root) and not root.startswith("http"):
        base = re.split(r"[^/]*[*?\[]", root, maxsplit=1)[0]
        return {_inside(far, base): far for far in map(str, fs.glob(root)) if fs.isfile(far)}
    if fs.isfile(root):
        return {root.rstrip("/").rpartition("/")[2].partition("?")[0] or "table": root}
    found = [str(far) for far in fs.find(root) if str(far).endswith(suffixes)]
    names = {_inside(far, root): far for far in found}
    return {n: far for n, far in names.items() if not any(p.startswith((".", "_")) for p in n.split("/"))}


def _inside(far: str, base: str) -> str:
    return far.lstrip("/").removeprefix(base.strip("/")).lstrip("/")


def _mark(info: Any) -> str:
    """What changes with the content, as the store tells it; '' where it tells nothing of that kind."""
    told = {k.lower(): str(v) for k, v in info.items() if k.lower() in CHANGING}
    return json.dumps({**told, "size": info.get("size")}, sort_keys=True) if told else ""


def _private(folder: Path) -> None:
    """Names of files may be personal too, so nobody else may look into the folder, one of older days included."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def _copy(fs: Any, far: str, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    handle, passing = tempfile.mkstemp(dir=to.parent, prefix=".")
    os.close(handle)
    try:
        fs.get_file(far, passing)
        os.replace(passing, to)
    except BaseException:
        Path(passing).unlink(missing_ok=True)
        raise


def _marks(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / ".marks").read_bytes()))
    except (OSError, ValueError):
        return {}


def _write(path: Path, content: bytes) -> None:
    handle, passing = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(passing, path)
