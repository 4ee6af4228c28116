"""Digests: right for every size, read once, and read again after any change."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_core import file_digest
from mlops_core.errors import StoreError
from mlops_core.hashing import FileDigest, FileDigests, copy_sha256, digest_stream

MIB = 1 << 20


def expected(raw: bytes) -> FileDigest:
    return FileDigest(md5=hashlib.md5(raw).hexdigest(), sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB, 5 * MIB + 7])
def test_both_digests_are_right_at_every_size(tmp_path: Path, size: int) -> None:
    raw = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(raw)
    assert FileDigests().of(path) == expected(raw)
    assert FileDigests().copy(path, tmp_path / "copy") == expected(raw)
    assert (tmp_path / "copy").read_bytes() == raw
    assert copy_sha256(path, tmp_path / "again") == (expected(raw).sha256, size)
    assert (tmp_path / "again").read_bytes() == raw


def test_a_disk_whose_kernel_cannot_copy_is_copied_to_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "?")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    raw = os.urandom(2 * MIB + 3)
    (tmp_path / "file").write_bytes(raw)
    assert FileDigests().copy(tmp_path / "file", tmp_path / "copy") == expected(raw)
    assert (tmp_path / "copy").read_bytes() == raw


class Trickle(io.RawIOBase):
    """A source that gives less than is asked, as pipes and networks do."""

    def __init__(self, raw: bytes, steps: list[int]) -> None:
        self._inner, self._steps = io.BytesIO(raw), steps

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        step = self._steps.pop() if self._steps else len(buffer)
        return self._inner.readinto(memoryview(buffer)[:step])


@settings(max_examples=30, deadline=None)
@given(raw=st.binary(max_size=300), steps=st.lists(st.integers(1, 50)), size=st.integers(0, 400))
def test_short_reads_and_wrong_sizes_do_not_matter(raw: bytes, steps: list[int], size: int) -> None:
    sink = io.BytesIO()
    assert digest_stream(Trickle(raw, steps), sink, size=size) == expected(raw)  # type: ignore[arg-type]
    assert sink.getvalue() == raw


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    import mlops_core.hashing as hashing

    reads: list[object] = []
    real = hashing._digest_file
    monkeypatch.setattr(hashing, "_digest_file", lambda path, to: reads.append(path) or real(path, to))
    return reads


def test_a_file_is_read_once_also_by_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    reads = count_reads(monkeypatch)
    first = FileDigests(tmp_path / "cache")
    assert first.peek(path) is None
    assert first.of(path) == first.of(path) == expected(b"abc")
    first.close()
    second = FileDigests(tmp_path / "cache")
    assert second.of(path) == second.peek(path) == expected(b"abc")
    assert len(reads) == 1
    second.fresh(path)
    assert len(reads) == 2


def test_an_edit_with_size_and_mtime_put_back_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    digests = FileDigests(tmp_path / "cache")
    for turn in range(30):
        raw = b"%04d" % turn
        path.write_bytes(raw)
        os.utime(path, ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_000))
        assert digests.of(path) == expected(raw)


def test_a_renamed_file_is_another_file_and_a_replaced_one_is_read(tmp_path: Path) -> None:
    digests = FileDigests()
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
        digests.of(tmp_path / name)
    (tmp_path / "a").replace(tmp_path / "b")
    assert digests.of(tmp_path / "b") == expected(b"a")


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + b"\xff" * 200])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "digests.db").write_bytes(damage)
    for _ in range(2):
        digests = FileDigests(tmp_path / "cache")
        assert digests.of(path) == expected(b"abc")
        digests.close()
    with sqlite3.connect(tmp_path / "cache" / "digests.db") as db:
        assert db.execute("SELECT COUNT(*) FROM digests").fetchone() == (1,)
    db.close()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    (tmp_path / "file").write_bytes(b"abc")
    digests = FileDigests(tmp_path / "cache")
    assert digests.of(tmp_path / "file") == expected(b"abc")
    digests.close()


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"^cannot read {tmp_path}/none: no such file or folder$"):
        FileDigests().of(tmp_path / "none")
    with pytest.raises(StoreError, match=rf"^cannot read {tmp_path}: "):
        FileDigests().of(tmp_path)
    assert str(StoreError.of("cannot write x", OSError(errno.ENOSPC, "?"))) == "cannot write x: the disk is full"


def test_a_file_that_never_rests_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(os.urandom(8 * MIB))
    stop = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"x")
                time.sleep(0.0005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(StoreError, match="it is being written to"):
            FileDigests().of(path)
    finally:
        stop.set()
        writer.join()


def test_threads_may_share_the_digests(tmp_path: Path) -> None:
    digests = FileDigests(tmp_path / "cache")
    paths = [tmp_path / str(n) for n in range(50)]
    for path in paths:
        path.write_text(path.name)
    wrong: list[Path] = []

    def work() -> None:
        wrong.extend(p for p in paths if digests.of(p) != expected(p.name.encode()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    digests.close()
    assert wrong == []


def test_sources_share_one_cache_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").write_bytes(b"abc")
    reads = count_reads(monkeypatch)
    assert file_digest(tmp_path / "file") == file_digest(str(tmp_path / "file")) == expected(b"abc")
    assert len(reads) == 1
    assert (tmp_path / "cache" / "digests.db").exists()


def test_a_copy_that_the_disk_refuses_meanwhile_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(300 * MIB)

    def full(fd: int) -> None:
        raise OSError(errno.EDQUOT, "quota")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="quota"):
        FileDigests().copy(tmp_path / "large", tmp_path / "copy")
