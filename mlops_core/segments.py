"""Append-only files of lines in a folder that processes share: each writer has its own, anybody may rewrite them.

A writer takes the kernel's lock of its file for each write(2), and goes to a new file where its own was replaced or
removed meanwhile. Whoever holds the lock may therefore `rewrite` a file that is being written: no line is lost, and
a reader, or a crash, sees the old file or the new one.

    <folder>/<UTC hour>-<process>-<random>-<number>.jsonl
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BYTES = 64 * 1024 * 1024
HOUR = 3600.0
SPARED = ".followed"
EXPIRED = ".expired"
SETTLED = 600.0  # seconds after its hour when nobody writes to a segment any more


class Appender:
    """Writes one process's segments: a new one each hour, when it is large, and after a failed write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.replica = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._count = 0
        self._hour = ""
        self._path = folder
        self._file: int | None = None

    def append(self, lines: bytes, *, sync: bool = False) -> None:
        """Whole lines, with the operating system when this returns, and on the disk with `sync`. Raises OSError."""
        file = self._locked()
        try:
            done = os.write(file, lines)
            while done < len(lines):
                done += os.write(file, lines[done:])
            if sync:
                os.fsync(file)
        except OSError:
            # The last line may be torn: what comes next goes to a new file.
            self._file = None
            os.close(file)
            raise
        fcntl.flock(file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Puts what was written on the disk."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def _locked(self) -> int:
        hour = time.strftime("%Y%m%dT%H", time.gmtime())
        while True:
            if self._file is None or hour != self._hour:
                self._open(hour)
            assert self._file is not None
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if is_at(self._path, self._file) and os.fstat(self._file).st_size < BYTES:
                return self._file
            self.close()

    def _open(self, hour: str) -> None:
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = self.folder / f"{hour}-{self.replica}-{self._count}.jsonl"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._count, self._hour = self._count + 1, hour
        sync_folder(self.folder)


def lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a segment, also of one that is being written; a torn last line is left out."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """No writer appends to `path` meanwhile; one that finds it gone or replaced afterwards starts a new file.
    Raises FileNotFoundError."""
    while True:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_at(path, file.fileno()):
                yield
                return


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> bool:
    """Gives each line of a segment to `change`, which returns the line as it shall be, or b'' for none; whether
    anything is different now. The file is whole at any moment; a torn line goes, an empty file is removed."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with locked(path):
            with path.open("rb") as old, os.fdopen(os.open(work, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as new:
                different, empty = False, True
                for line in old:
                    changed = change(line) if line.endswith(b"\n") else b""
                    new.write(changed)
                    different, empty = different or changed != line, empty and not changed
                new.flush()
                os.fsync(new.fileno())
            if different:
                path.unlink() if empty else work.replace(path)
                sync_folder(path.parent)
            return different
    except FileNotFoundError:
        return False
    finally:
        work.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path, wait: bool = True) -> Iterator[None]:
    """One process at a time turns, reads into a window, rewrites or removes the files of `folder`. Where the folder
    cannot be written there is nothing to wait for. Without `wait`, raises BlockingIOError where another is at it."""
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context((folder / ".lock").open("ab"))
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield


def expire(folder: Path, before: float, *, noted: bool = False) -> dict[str, int]:
    """Removes what was logged or labelled before that time (Unix seconds), in whole hours (labels: whole days once
    they are settled): file -> bytes.

    With `noted`, what goes is written down first for whoever asks `noted`; then it waits for nobody: BlockingIOError.
    """
    gone: dict[str, int] = {}
    with alone(folder, wait=not noted), contextlib.ExitStack() as stack:
        for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.parquet"), *(folder / "labels").glob("*.*")]):
            lasts = HOUR * (24 if path.parent != folder and path.suffix == ".parquet" else 1)
            if began(path) + lasts + SETTLED > before:
                continue
            if noted and not gone:
                file = stack.enter_context((folder / EXPIRED).open("a"))
            with contextlib.suppress(OSError):
                name, size = str(path.relative_to(folder)), path.stat().st_size
                if noted:
                    print(name, size, sep="\t", file=file, flush=True)
                path.unlink()
                gone[name] = size
    return gone


def noted(folder: Path) -> dict[str, int]:
    """What an endpoint removed since this was asked last: file -> bytes."""
    with alone(folder), contextlib.suppress(FileNotFoundError):
        lines = (folder / EXPIRED).read_text().splitlines()
        (folder / EXPIRED).unlink()
        return {name: int(size) for name, _, size in (line.partition("\t") for line in lines)}
    return {}


def sweep(folder: Path) -> None:
    """Removes what killed processes left half-written; to be called `alone`, when nobody else is at it."""
    for pattern in (".*.jsonl.[0-9]*", ".*.parquet.[0-9]*"):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                path.unlink()


def began(path: Path) -> float:
    """When the hour (or day) of a file began, from its name; now for a name that is not ours, so that it is left
    alone."""
    stamp = path.name.split("-")[0].split(".")[0]
    for form in ("%Y%m%dT%H", "%Y%m%d"):
        with contextlib.suppress(ValueError):
            return float(calendar.timegm(time.strptime(stamp, form)))
    return time.time()


def settled(path: Path, now: float) -> bool:
    return began(path) + HOUR + SETTLED <= now


def spare(folder: Path, since: float | None) -> None:
    """Asks that lines from `since` on stay lines: somebody follows them. None: nobody does any more."""
    path = folder / SPARED
    if since is None:
        path.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    work = path.with_name(f"{SPARED}.{os.getpid()}")
    work.write_text(str(since))
    work.replace(path)


def spared(path: Path) -> bool:
    """Whether somebody follows lines of this segment."""
    try:
        return began(path) + HOUR + SETTLED > float((path.parent / SPARED).read_text())
    except (OSError, ValueError):
        return False


def sync_folder(folder: Path) -> None:
    """A new name in a folder outlives a power cut."""
    with contextlib.suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def is_at(path: Path, file: int) -> bool:
    """Whether this open file still has this name."""
    try:
        named, opened = path.stat(), os.fstat(file)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)
