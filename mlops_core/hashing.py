"""Digests of files: md5 (a DVC address) and sha256 (what integrity rests on), in one read, kept by stat.

A digest is read again only when the file's device, inode, size, mtime or ctime differ. What changes a file's
bytes changes its ctime, so an edit in place with mtime put back is found; decay of the disk is not, which is
why `fresh` reads in any case.
"""

from __future__ import annotations

import atexit
import errno
import functools
import hashlib
import os
import sqlite3
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, Protocol

from mlops_core.contracts import record
from mlops_core.errors import StoreError

_CHUNK = 1 << 20
_NOT_IN_KERNEL = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
# The kernel stamps files with a clock that ticks every 1 to 10 ms: a file changed twice within one tick looks
# unchanged. A file is read only when its stamp is older than this, or its digest is not kept.
_TICK_NS = 20_000_000
_COARSE_NS = 3_000_000_000


@record
class FileDigest:
    """The md5 and sha256 of a file's bytes, and how many there are."""

    md5: str
    sha256: str
    size: int


class Source(Protocol):
    """Bytes to be digested: as much of them as there is, put into a buffer."""

    def readinto(self, view: memoryview, /) -> int | None: ...


class FileDigests:
    """Digests of files, each read once. `cache` is a folder in which they are kept between processes.

    The cache is a convenience: where it cannot be written or read, digests are kept in memory. Thread-safe.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self._lock = threading.RLock()
        self._memory: dict[str, tuple[str, FileDigest]] = {}
        self._new: list[tuple[str, str, str, str, int]] = []
        self._db = _open(cache / "digests.db") if cache else None

    def of(self, path: Path | str) -> FileDigest:
        """The digest of the file at `path`. Raises StoreError where it cannot be read, or never rests."""
        return self.peek(path) or self.fresh(path)

    def peek(self, path: Path | str) -> FileDigest | None:
        """The digest where it is known without reading the file, else None."""
        return self.known(*_stamp(_stat(path)))

    def fresh(self, path: Path | str) -> FileDigest:
        """The digest, read from the file's bytes in any case."""
        return self._read(path, None)

    def copy(self, path: Path | str, to: Path) -> FileDigest:
        """Copies the file to `to` and returns the digest of the copy. Raises OSError where it cannot be written."""
        return self._read(path, to)

    def remember(self, path: Path | str, digest: FileDigest) -> None:
        """Keeps the digest of a file whose bytes the caller wrote itself."""
        self.note(*_stamp(_stat(path)), digest)

    def known(self, key: str, stamp: str) -> FileDigest | None:
        """The digest noted under `key`, where its stamp is still the same."""
        with self._lock:
            found = self._memory.get(key) or self._stored(key)
        return found[1] if found and found[0] == stamp else None

    def note(self, key: str, stamp: str, digest: FileDigest) -> None:
        """Notes a digest under any key; the stamp tells later whether it still holds."""
        with self._lock:
            self._memory[key] = (stamp, digest)
            self._new.append((key, stamp, digest.md5, digest.sha256, digest.size))
            if len(self._new) >= 5000:
                self.flush()

    def flush(self) -> None:
        """Writes what is new to the cache."""
        with self._lock:
            new, self._new = self._new, []
            if self._db is None or not new:
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)", new)
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._db = None

    def close(self) -> None:
        self.flush()
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _stored(self, key: str) -> tuple[str, FileDigest] | None:
        if self._db is None:
            return None
        try:
            row = self._db.execute("SELECT stamp, md5, sha256, size FROM digests WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error:
            self._db = None
            return None
        if row is None:
            return None
        self._memory[key] = found = (row[0], FileDigest(md5=row[1], sha256=row[2], size=row[3]))
        return found

    def _read(self, path: Path | str, to: Path | None) -> FileDigest:
        for _ in range(3):
            before = _stat(path)
            settled = _settle(before)
            digest = _digest_file(path, to)
            if _stamp(before) == _stamp(after := _stat(path)) and after.st_size == digest.size:
                if settled:
                    self.note(*_stamp(before), digest)
                return digest
        raise StoreError(f"cannot read {path}: it is being written to; wait until that is done")


def file_digest(path: Path | str) -> FileDigest:
    """The digest of a file, kept between processes in the folder that MLOPS_CACHE names, where it is set."""
    return _shared(os.environ.get("MLOPS_CACHE", "")).of(path)


@functools.cache
def _shared(folder: str) -> FileDigests:
    digests = FileDigests(Path(folder) if folder else None)
    atexit.register(digests.close)
    return digests


def _open(file: Path) -> sqlite3.Connection | None:
    for attempt in range(2):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(file, timeout=10, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")
            db.execute(
                "CREATE TABLE IF NOT EXISTS digests "
                "(key TEXT PRIMARY KEY, stamp TEXT, md5 TEXT, sha256 TEXT, size INTEGER) WITHOUT ROWID"
            )
            return db
        except sqlite3.OperationalError:
            return None
        except sqlite3.DatabaseError:  # damaged: it is only a cache, so begin anew
            if attempt == 0:
                _remove(file)
        except OSError:
            return None
    return None


def _remove(file: Path) -> None:
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        (file.parent / name).unlink(missing_ok=True)


def _stat(path: Path | str) -> os.stat_result:
    try:
        return Path(path).stat()
    except OSError as error:
        raise StoreError.of(f"cannot read {path}", error) from error


def _stamp(stat: os.stat_result) -> tuple[str, str]:
    return f"{stat.st_dev}:{stat.st_ino}", f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


def _settle(stat: os.stat_result) -> bool:
    """Waits until a later change would show in the stamp; False where that would take too long."""
    age = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns)
    if stat.st_ctime_ns % 1_000_000_000 == 0 and age < _COARSE_NS:  # a file system that counts in seconds
        return False
    if 0 <= age < _TICK_NS:
        time.sleep((_TICK_NS - age) / 1e9)
    return age >= 0


def _digest_file(path: Path | str, to: Path | None) -> FileDigest:
    if to is not None:
        with Copying(path, to) as copying:
            return digest_stream(copying, size=copying.size)
    try:
        with open(path, "rb", buffering=0) as source:
            return digest_stream(source, size=os.fstat(source.fileno()).st_size)
    except OSError as error:
        raise StoreError.of(f"cannot read {path}", error) from error


class Copying:
    """Reading it copies the file `path` to `to`, and gives the bytes as they then stand in the copy.

    The kernel copies, or shares the blocks where the disk can. What is read is what was written, so a digest of it
    is the copy's own, whoever writes to the source meanwhile. Raises StoreError where the source cannot be read,
    OSError where the copy cannot be written.
    """

    def __init__(self, path: Path | str, to: Path) -> None:
        self.path, self._at = path, 0
        try:
            self._source = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise StoreError.of(f"cannot read {path}", error) from error
        self.size = os.fstat(self._source).st_size
        try:
            self._sink = os.open(to, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError:
            os.close(self._source)
            raise
        self._in_kernel = hasattr(os, "copy_file_range")
        self._done = threading.Event()
        self._refused: OSError | None = None
        self._flusher = threading.Thread(target=self._flush, daemon=True)

    def __enter__(self) -> Copying:
        if self.size > 64 * _CHUNK:
            self._flusher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._flusher.ident:
            self._flusher.join()
        os.close(self._source)
        os.close(self._sink)
        if self._refused is not None:
            raise self._refused  # a later sync need not hear of it again

    def readinto(self, view: memoryview) -> int:
        count = self._copy(len(view))
        self._at += count
        return os.preadv(self._sink, [view[:count]], self._at - count) if count else 0

    def _copy(self, most: int) -> int:
        if self._in_kernel:
            try:
                return os.copy_file_range(self._source, self._sink, most)
            except OSError as error:
                if error.errno not in _NOT_IN_KERNEL:
                    raise
                self._in_kernel = False
        try:
            raw = memoryview(os.read(self._source, most))
        except OSError as error:
            raise StoreError.of(f"cannot read {self.path}", error) from error
        count = len(raw)
        while raw:
            raw = raw[os.write(self._sink, raw) :]
        return count

    def _flush(self) -> None:
        """Writes to the disk while others hash, so that the sync at the end has little left to wait for."""
        try:
            while not self._done.wait(0.1):
                os.fdatasync(self._sink)
        except OSError as error:
            self._refused = error


def digest_stream(source: Source, sink: BinaryIO | None = None, *, size: int = _CHUNK) -> FileDigest:
    """The digest of all that `source` still holds, about `size` bytes, copied to `sink` where one is given."""
    md5 = hashlib.md5(usedforsecurity=False)
    sha256 = hashlib.sha256()
    first = bytearray(min(_CHUNK, size + 1))
    count = _fill(source, first)
    if count < len(first):
        view = memoryview(first)[:count]
        md5.update(view)
        sha256.update(view)
        _write(sink, view)
        return FileDigest(md5=md5.hexdigest(), sha256=sha256.hexdigest(), size=count)
    size = _digest_beside(source, sink, first, md5, sha256)
    return FileDigest(md5=md5.hexdigest(), sha256=sha256.hexdigest(), size=size)


def copy_sha256(path: Path, to: Path) -> tuple[str, int]:
    """Copies a file; the copy's sha256 and size. Half the work of both digests."""
    with Copying(path, to) as source:
        sha256, size, buffer = hashlib.sha256(), 0, bytearray(min(_CHUNK, source.size + 1))
        while count := _fill(source, buffer):
            sha256.update(memoryview(buffer)[:count])
            size += count
    return sha256.hexdigest(), size


def _digest_beside(
    source: Source, sink: BinaryIO | None, first: bytearray, md5: hashlib._Hash, sha256: hashlib._Hash
) -> int:
    """md5, the slowest part, in a thread of its own; reading, sha256 and writing in this one."""
    full: SimpleQueue[tuple[bytearray, int] | None] = SimpleQueue()
    free: SimpleQueue[bytearray] = SimpleQueue()

    def work() -> None:
        while (item := full.get()) is not None:
            md5.update(memoryview(item[0])[: item[1]])
            free.put(item[0])

    for _ in range(3):
        free.put(bytearray(_CHUNK))
    worker = threading.Thread(target=work, name="md5", daemon=True)
    worker.start()
    size, buffer, count = 0, first, len(first)
    try:
        while count:
            full.put((buffer, count))
            view = memoryview(buffer)[:count]
            sha256.update(view)
            _write(sink, view)
            size += count
            buffer = free.get()
            count = _fill(source, buffer)
    finally:
        full.put(None)
        worker.join()
    return size


def _fill(source: Source, buffer: bytearray) -> int:
    """Reads until the buffer is full or the source ends: a raw file may give less than asked."""
    view, count = memoryview(buffer), 0
    while count < len(buffer) and (got := source.readinto(view[count:])):
        count += got
    return count


def _write(sink: BinaryIO | None, view: memoryview) -> None:
    while sink is not None and view:
        view = view[sink.write(view) or 0 :]
