"""The object store: what goes in comes out, as DVC would have it, through kills, edits and full disks."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_core.contracts import Artifact
from mlops_core.errors import StoreError, UsageError
from mlops_core.hashing import FileDigests
from mlops_core.objects import Objects, tree_digest
from mlops_core.objects.local import LocalObjects
from mlops_core.objects.remote import RemoteObjects
from mlops_core.objects.tree import listing, parse_listing

BIG = os.urandom(3 << 20)


@pytest.fixture(params=["folder", "file url", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Objects]:
    root = tmp_path / "store"
    url = {"folder": str(root), "file url": root.as_uri(), "memory": f"memory://{tmp_path}/store"}[request.param]
    yield Objects(url, FileDigests(tmp_path / "cache"))
    if request.param == "memory":
        import fsspec

        fsspec.filesystem("memory").store.clear()


@pytest.fixture
def local(tmp_path: Path) -> Objects:
    return Objects(tmp_path / "store", FileDigests(tmp_path / "cache"))


def make_tree(folder: Path) -> Path:
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "c.txt").write_text("hello")
    (folder / "b-a").write_text("sorts before b/c.txt by path, after it by parts")
    (folder / "big").write_bytes(BIG)
    (folder / "é ü\n").write_text("odd names")
    (folder / "same").write_text("hello")
    (folder / "empty").write_bytes(b"")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def altered(path: Path, raw: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(raw)
    path.chmod(0o444)


def test_a_folder_comes_back_as_it_went_in(objects: Objects, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    artifact = objects.put(source)
    assert (artifact.files, artifact.size) == (6, sum(map(len, content(source).values())))
    assert artifact == objects.put(source) == tree_digest(source, FileDigests())
    assert objects.has(artifact)
    objects.verify(artifact)
    assert objects.fetch(artifact, tmp_path / "out" / "deep") == tmp_path / "out" / "deep"
    assert content(tmp_path / "out" / "deep") == content(source)
    assert objects.intact(artifact, tmp_path / "out" / "deep")


def test_a_file_comes_back_as_it_went_in(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "table.parquet"
    source.write_bytes(BIG)
    artifact = objects.put(source)
    assert artifact == Artifact(
        address=hashlib.md5(BIG).hexdigest(), sha256=hashlib.sha256(BIG).hexdigest(), size=len(BIG), files=1
    )
    assert objects.fetch(artifact, tmp_path / "out").read_bytes() == BIG
    assert objects.intact(artifact, tmp_path / "out")
    assert os.access(tmp_path / "out", os.W_OK)


def test_a_fresh_machine_gets_it_from_the_remote(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    url = f"memory://{tmp_path}/bucket"
    artifact = Objects(url, FileDigests(tmp_path / "one")).put(source)
    other = Objects(url, FileDigests(tmp_path / "two"))
    assert other.has(artifact)
    assert content(other.fetch(artifact, tmp_path / "out")) == content(source)


def test_the_sha256_of_a_folder_can_be_checked_by_hand(local: Objects, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    shell = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    told = subprocess.run(["bash", "-c", shell], cwd=source, capture_output=True, text=True, check=True)
    assert local.put(source).sha256 == told.stdout.split()[0]


def test_objects_are_read_only_and_a_second_put_writes_nothing(local: Objects, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    local.put(source)
    stored = [p for p in (tmp_path / "store" / "files").rglob("*") if p.is_file()]
    assert len(stored) == 6  # five contents and the listing
    assert {stat.S_IMODE(p.stat().st_mode) for p in stored} == {0o444}
    before = {p: p.stat().st_mtime_ns for p in stored}
    local.put(source)
    local.put(source, own=True)
    assert {p: p.stat().st_mtime_ns for p in stored} == before
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_a_folder_that_is_given_up_is_linked(local: Objects, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    expected = content(source)
    artifact = local.put(source, own=True)
    md5 = hashlib.md5(BIG).hexdigest()
    stored = tmp_path / "store" / "files" / "md5" / md5[:2] / md5[2:]
    assert stored.stat().st_ino == (source / "big").stat().st_ino
    shutil.rmtree(source)
    local.verify(artifact)
    assert content(local.fetch(artifact, tmp_path / "out")) == expected


@pytest.mark.parametrize("how", ["altered", "deleted", "listing altered", "listing deleted"])
def test_what_is_wrong_in_the_store_is_found_named_and_healed(local: Objects, tmp_path: Path, how: str) -> None:
    source = make_tree(tmp_path / "source")
    artifact = local.put(source)
    md5 = artifact.address if "listing" in how else hashlib.md5(BIG).hexdigest()
    path = tmp_path / "store" / "files" / "md5" / md5[:2] / md5[2:]
    if "altered" in how:
        raw = path.read_bytes()
        altered(path, raw[:-2] + b"x" + raw[-1:])
    else:
        path.unlink()
    assert not local.has(artifact)
    with pytest.raises(StoreError, match=str(path)):
        local.verify(artifact)
    with pytest.raises(StoreError):
        local.fetch(artifact, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert local.put(source) == artifact
    assert local.has(artifact)
    local.verify(artifact)


def test_decay_behind_an_unchanged_stat_is_found_by_verify_and_fetch(tmp_path: Path) -> None:
    digests = FileDigests()
    local = Objects(tmp_path / "store", digests)
    (tmp_path / "file").write_bytes(b"good bytes")
    artifact = local.put(tmp_path / "file")
    path = tmp_path / "store" / "files" / "md5" / artifact.address[:2] / artifact.address[2:]
    good = digests.of(path)
    altered(path, b"bad  bytes")
    digests.remember(path, good)  # as if stat still told the same
    assert local.has(artifact)
    with pytest.raises(StoreError, match="is altered"):
        local.fetch(artifact, tmp_path / "out")
    assert not local.has(artifact)


def test_a_damaged_remote_is_found_named_and_healed(tmp_path: Path) -> None:
    import fsspec

    source = make_tree(tmp_path / "source")
    objects = Objects(f"memory://{tmp_path}/bucket", FileDigests(tmp_path / "cache"))
    artifact = objects.put(source)
    fs, md5 = fsspec.filesystem("memory"), hashlib.md5(BIG).hexdigest()
    path = f"{tmp_path}/bucket/files/md5/{md5[:2]}/{md5[2:]}"
    for damage in (b"short", BIG[:-1] + b"x"):
        fs.pipe_file(path, damage)
        with pytest.raises(StoreError, match=f"object {md5} in memory://.* is altered"):
            objects.verify(artifact)
        assert not objects.has(artifact)
        fresh = Objects(f"memory://{tmp_path}/bucket", FileDigests(tmp_path / f"other{len(damage)}"))
        with pytest.raises(StoreError, match=f"object {md5} in memory://.* is altered"):
            fresh.fetch(artifact, tmp_path / "out")
        objects.put(source)
        objects.verify(artifact)
        assert objects.has(artifact)
    fs.rm(path)
    assert not objects.has(artifact)
    with pytest.raises(StoreError, match=f"object {md5} is missing from memory://"):
        objects.verify(artifact)


@pytest.mark.parametrize("edit", ["changed", "added", "removed", "renamed", "emptied"])
def test_a_laid_out_copy_that_differs_is_laid_out_again(local: Objects, tmp_path: Path, edit: str) -> None:
    artifact = local.put(make_tree(tmp_path / "source"))
    out = local.fetch(artifact, tmp_path / "out")
    file = out / "b" / "c.txt"
    if edit == "changed":
        file.write_text("jello")
    elif edit == "added":
        (out / "new").write_text("")
    elif edit == "removed":
        file.unlink()
    elif edit == "renamed":
        file.rename(out / "d.txt")
    else:
        shutil.rmtree(out)
        out.mkdir()
    assert not local.intact(artifact, out)
    local.fetch(artifact, out)
    assert content(out) == content(tmp_path / "source")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "out", "source", "store"]


def test_fetch_does_nothing_where_all_is_there(local: Objects, tmp_path: Path) -> None:
    artifact = local.put(make_tree(tmp_path / "source"))
    out = local.fetch(artifact, tmp_path / "out")
    before = out.stat().st_ino
    shutil.rmtree(tmp_path / "store")
    assert local.fetch(artifact, out) == out
    assert out.stat().st_ino == before


def test_fetch_replaces_a_file_by_a_folder_and_back(local: Objects, tmp_path: Path) -> None:
    folder = local.put(make_tree(tmp_path / "source"))
    file = local.put(tmp_path / "source" / "big")
    for artifact in (folder, file, folder):
        assert local.intact(artifact, local.fetch(artifact, tmp_path / "out"))


def test_two_contents_of_one_md5_are_refused(local: Objects, tmp_path: Path) -> None:
    # Wang, Feng, Lai, Yu (2004): two blocks of one md5.
    one = bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a"
        "085125e8f7cdc99fd91dbdf280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    )
    two = bytearray(one)
    for place in (19, 45, 59, 83, 109, 123):
        two[place] ^= 0x80
    assert hashlib.md5(one).digest() == hashlib.md5(two).digest()
    (tmp_path / "one").write_bytes(one)
    (tmp_path / "two").write_bytes(two)
    artifact = local.put(tmp_path / "one")
    with pytest.raises(StoreError, match="one of the two was forged"):
        local.put(tmp_path / "two")
    forged = Artifact(address=artifact.address, sha256=hashlib.sha256(two).hexdigest(), size=128, files=1)
    assert not local.has(forged)
    with pytest.raises(StoreError, match="is altered"):
        local.fetch(forged, tmp_path / "out")


def test_a_link_to_a_file_counts_as_the_file_and_other_things_are_refused(local: Objects, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    (source / "link").symlink_to("big")
    artifact = local.put(source, own=True)
    assert (local.fetch(artifact, tmp_path / "out") / "link").read_bytes() == BIG
    (source / "link").unlink()
    for make, what in (
        (lambda p: os.mkfifo(p), "a device, pipe or socket"),
        (lambda p: p.symlink_to("nowhere"), "a link to nothing"),
        (lambda p: p.symlink_to("b"), "a link to the folder b"),
    ):
        make(source / "odd")
        with pytest.raises(StoreError, match=f"{source}/odd cannot be stored: it is {what}"):
            local.put(source)
        (source / "odd").unlink()
    with pytest.raises(StoreError, match=f"cannot read {tmp_path}/none: no such file or folder"):
        local.put(tmp_path / "none")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a//b", ".", "a\0b"])
def test_a_listing_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    raw = json.dumps([{"md5": "0" * 32, "relpath": name}]).encode()
    with pytest.raises(StoreError, match="is altered"):
        parse_listing(raw, "x.dir")


TEXT = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
RAW = st.binary(min_size=1, max_size=8).filter(lambda raw: not {0, 47} & set(raw)).map(os.fsdecode)  # any bytes
NAME = st.one_of(TEXT, RAW).filter(lambda name: name not in (".", ".."))
TREES = st.dictionaries(st.lists(NAME, min_size=1, max_size=3).map(tuple), st.binary(max_size=40), max_size=8)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES)
def test_any_tree_comes_back(local: Objects, tree: dict[tuple[str, ...], bytes]) -> None:
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "in"
        folder.mkdir()
        for parts, raw in tree.items():
            path = folder.joinpath(*parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(raw)
            except OSError:  # a name that is a folder and a file at once, or one too long for the disk
                continue
        artifact = local.put(folder)
        assert local.put(folder) == artifact
        out = local.fetch(artifact, Path(base) / "out")
        assert content(out) == content(folder)
        assert local.has(artifact)
        assert local.intact(artifact, out)
        assert local.put(out, own=True) == artifact


@given(st.dictionaries(NAME, st.just("0" * 32)))
def test_a_listing_reads_back(files: dict[str, str]) -> None:
    assert parse_listing(listing(files), "x") == files


PUT = """
import sys
from pathlib import Path
from mlops_core.hashing import FileDigests
from mlops_core.objects import Objects
store, source, out = map(Path, sys.argv[1:4])
objects = Objects(store, FileDigests(store.parent / "cache"))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    artifact = objects.put(source)
    objects.fetch(artifact, out)
print(artifact.sha256)
"""


def process(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PUT, *map(str, args)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def test_processes_may_put_and_fetch_the_same_at_once(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    workers = [process(tmp_path / "store", source, tmp_path / "out") for _ in range(3)]
    told = [worker.communicate("go\n", timeout=60) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], told
    assert content(tmp_path / "out") == content(source)
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_a_kill_leaves_whole_objects_only_and_its_rest_is_swept(local: Objects, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(6):
        (source / str(number)).write_bytes(os.urandom(4 << 20))
    for turn in range(8):
        worker = process(tmp_path / "store", source, tmp_path / "out")
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdout.readline()
        worker.stdin.write("go\n")
        worker.stdin.flush()
        time.sleep(0.012 * turn)
        worker.kill()
        worker.communicate(timeout=30)
        assert worker.returncode == -signal.SIGKILL
        for path in (tmp_path / "store" / "files").rglob("*"):
            if path.is_file():
                md5 = hashlib.md5(path.read_bytes()).hexdigest()
                assert path.parent.name + path.name.removesuffix(".dir") == md5
        out = tmp_path / "out"
        assert not out.exists() or content(out) == content(source)
    artifact = local.put(source)
    local.verify(artifact)
    local.fetch(artifact, tmp_path / "out")
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")] == []


def test_thousands_of_small_files_are_ok(local: Objects, tmp_path: Path) -> None:
    source = tmp_path / "images"
    for number in range(4000):
        path = source / str(number % 10) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    start = time.process_time()
    artifact = local.put(source)
    assert artifact.files == 4000
    assert local.has(artifact)
    local.fetch(artifact, tmp_path / "out")
    assert local.intact(artifact, tmp_path / "out")
    assert time.process_time() - start < 30


LIBC = ctypes.CDLL(None, use_errno=True)


def test_a_full_disk_and_a_read_only_one_are_told_and_leave_nothing_half(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if LIBC.mount(b"tmpfs", str(disk).encode(), b"tmpfs", 0, b"size=2m") != 0:
        pytest.skip(f"may not mount a small disk here: {os.strerror(ctypes.get_errno())}")
    try:
        objects = Objects(disk / "store", FileDigests(tmp_path / "cache"))
        (tmp_path / "small").write_bytes(b"small")
        (tmp_path / "big").write_bytes(BIG)
        small = objects.put(tmp_path / "small")
        with pytest.raises(StoreError, match=rf"^cannot store objects in {disk}/store: the disk is full$"):
            objects.put(tmp_path / "big")
        assert list((disk / "store" / "tmp").iterdir()) == []
        elsewhere = Objects(tmp_path / "other", FileDigests(tmp_path / "cache"))
        with pytest.raises(StoreError, match=rf"^cannot write {disk}/out: the disk is full$"):
            elsewhere.fetch(elsewhere.put(tmp_path / "big"), disk / "out")
        assert [p.name for p in disk.iterdir()] == ["store"]
        objects.verify(small)
        assert LIBC.mount(b"tmpfs", str(disk).encode(), b"tmpfs", 1 | 32, None) == 0
        with pytest.raises(StoreError, match=r"^cannot store objects in .*: the disk is read-only$"):
            objects.put(tmp_path / "big")
        assert objects.has(small)
        assert objects.put(tmp_path / "small") == small
    finally:
        LIBC.umount2(str(disk).encode(), 2)


LIMITED = """
import resource, sys
from pathlib import Path
from mlops_core.errors import StoreError
from mlops_core.hashing import FileDigests
from mlops_core.objects import Objects
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    Objects(sys.argv[1], FileDigests()).put(Path(sys.argv[2]))
except StoreError as error:
    print(error)
"""


def test_a_limit_on_file_size_is_told(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(BIG)
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "store"), str(tmp_path / "big")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.stdout.strip().endswith("the file would grow over the allowed size"), told
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


def test_an_unusable_remote_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot use the object store gopher9://x/y"):
        Objects("gopher9://x/y", FileDigests(tmp_path / "cache")).put(tmp_path / "file")


def test_a_password_in_the_url_is_neither_told_nor_kept(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("hi")
    with pytest.raises(StoreError, match=r"in ftp://ann:\*\*\*@127.0.0.1:1/x: ") as told:
        Objects("ftp://ann:s3cr@t@127.0.0.1:1/x", FileDigests(tmp_path / "cache")).put(tmp_path / "f")
    assert "cr@t" not in str(told.value)
    store = RemoteObjects("memory://ann:s3cret@host/x", LocalObjects(tmp_path / "local", FileDigests()))
    assert "s3cret" not in store._key("abc")


@pytest.mark.parametrize("url", ["file://objects", "local://a/b", "file://"])
def test_a_file_url_without_an_absolute_path_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"store.objects: '.*' names no folder; expected a path or file:///"):
        Objects(url, FileDigests(tmp_path / "cache"))


def test_a_store_that_cannot_be_reached_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    kept = Objects(tmp_path / "local", FileDigests(tmp_path / "cache")).put(tmp_path / "f")
    gone = Objects("ftp://127.0.0.1:1/x", FileDigests(tmp_path / "cache"))
    with pytest.raises(StoreError, match=r"cannot .* in ftp://127\.0\.0\.1:1/x: ConnectionRefusedError"):
        gone.has(kept)
