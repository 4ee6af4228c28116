"""Writing so that a reader, a kill or a power cut finds the old or the new, never a part."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlops_core.errors import StoreError


@contextmanager
def scratch(base: Path, doing: str, prefix: str = "") -> Iterator[Path]:
    """A new folder in `base` to write in, removed at the end; those of killed processes are removed too.

    What the system refuses inside is raised as a StoreError that begins with `doing`.
    """
    host, folder = os.uname().nodename, None
    try:
        base.mkdir(parents=True, exist_ok=True)
        _sweep(base, prefix, host)
        folder = base / f"{prefix}{host}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
        folder.mkdir()
        yield folder
    except OSError as error:
        raise StoreError.of(doing, error) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def replace_folder(new: Path, at: Path) -> None:
    """Puts folder `new` at `at`; what stood there goes. Another process that does the same at once may win."""
    for _ in range(5):
        try:
            new.rename(at)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            old = new.parent / f"old-{secrets.token_hex(4)}"
            with suppress(FileNotFoundError):
                at.rename(old)
    new.rename(at)


def sync(paths: Collection[Path]) -> None:
    """Forces files or folders to the disk: each by itself, or their whole file system where they are many."""
    for path in paths if len(paths) <= 32 else ():
        with _opened(path) as fd:
            os.fsync(fd)
    if len(paths) > 32:
        _sync_disk(next(iter(paths)))


def _sync_disk(path: Path) -> None:
    import ctypes

    syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
    with _opened(path) as fd:
        if syncfs is None or syncfs(fd) != 0:
            os.sync()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def _sweep(base: Path, prefix: str, host: str) -> None:
    start = f"{prefix}{host}-"
    for entry in os.scandir(base):
        if entry.name.startswith(start) and entry.name.endswith(".tmp"):
            pid = entry.name.removeprefix(start).split("-")[0]
            if pid.isdigit() and not _alive(int(pid)):
                shutil.rmtree(entry.path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
