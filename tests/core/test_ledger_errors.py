"""What a disk or a server refuses is told in words, and nothing is changed by it."""

from __future__ import annotations

import ctypes
import os
import re
import sqlite3
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from mlops_core.errors import StoreError, UsageError
from mlops_core.ledger import Ledger, Outcome

LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def small_disk(folder: Path, size: str = "300k") -> Iterator[Path]:
    """A tmpfs of that size, where this user may mount one."""
    folder.mkdir()
    if LIBC.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()) != 0:
        pytest.skip(f"may not mount a small disk here: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        LIBC.umount2(str(folder).encode(), 2)


def remount_read_only(folder: Path) -> None:
    assert LIBC.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 1 | 32, None) == 0


def test_a_full_disk_is_told_and_what_was_there_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, Ledger(f"sqlite:///{disk / 'ledger.db'}") as ledger:
        ledger.append_audit(actor="ann", action="small", subject="credit", reason="", facts={})
        with pytest.raises(StoreError, match=rf"^the ledger {disk}/ledger.db cannot be written: the disk is full"):
            ledger.append_audit(actor="ann", action="large", subject="credit", reason="", facts={"x": "x" * 1_000_000})
        assert [e.action for e in ledger.audit()] == ["small"]
        assert ledger.verify_audit() == ""


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "ledger.db"
        with Ledger(f"sqlite:///{path}") as ledger:
            ledger.begin_run("credit")
        remount_read_only(disk)
        with Ledger(f"sqlite:///{path}") as ledger, pytest.raises(StoreError, match=f"{path} .*read-only"):
            ledger.begin_run("credit")
        with Ledger(f"sqlite:///{disk / 'new' / 'l.db'}") as ledger, pytest.raises(StoreError, match="read-only"):
            ledger.begin_run("credit")
        lock = Ledger(f"sqlite:///{path}").lock("credit")
        with pytest.raises(StoreError, match="the disk is read-only"), lock:
            pass


AS_NOBODY = """
import os, sys
from mlops_core.ledger import Ledger, Outcome
from mlops_core.errors import StoreError
ledger = Ledger(sys.argv[1])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    ledger.begin_run("credit")
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_folder_closed_to_the_user_is_told(tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        command = [sys.executable, "-c", AS_NOBODY, f"sqlite:///{folder}/ledger.db"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert re.match(rf"the ledger {folder}/ledger.db cannot be opened .*closed to this user", told.stdout), told


@pytest.mark.parametrize("damage", [b"not a database at all, just text" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_told_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(damage)
    with Ledger(f"sqlite:///{path}") as ledger:
        with pytest.raises(StoreError, match=rf"^the ledger {path} is damaged \(.*\); restore it from a copy"):
            ledger.runs("credit")
        with pytest.raises(StoreError, match="is damaged"):
            ledger.begin_run("credit")
    assert path.read_bytes() == damage


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Ledger(str(tmp_path)).begin_run("credit")


def test_a_damaged_page_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(str(path)) as ledger:
        for number in range(200):
            ledger.append_audit(actor="a", action="x" * 100, subject=f"credit/{number}", reason="", facts={})
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    raw = bytearray(path.read_bytes())
    raw[4096 * 20 : 4096 * 40] = b"\x55" * (4096 * 20)
    path.write_bytes(raw)
    with Ledger(str(path)) as ledger, pytest.raises(StoreError, match="is damaged"):
        ledger.audit(limit=1000)


@pytest.mark.parametrize("url", ["mysql://host/db", "http://x", "sqlite:///", "sqlite://host/x"])
def test_an_unknown_url_is_a_mistake_of_the_user(url: str) -> None:
    with pytest.raises(UsageError, match=r"^store\.ledger: "):
        Ledger(url)


def test_an_unreachable_server_is_told_without_the_password() -> None:
    ledger = Ledger("postgresql+psycopg://ann:s3cret@127.0.0.1:1/team")
    with pytest.raises(StoreError) as told:
        ledger.runs("credit")
    assert str(told.value).startswith("cannot reach the ledger postgresql://ann:***@127.0.0.1:1/team: ")
    assert "refused" in str(told.value)
    assert "s3cret" not in str(told.value)


def test_a_wrong_password_and_a_missing_database_are_told(postgres: str) -> None:
    wrong = re.sub(r":\w+@", ":wr0ng@", postgres)
    with pytest.raises(StoreError, match="password authentication failed") as told:
        Ledger(wrong).begin_run("credit")
    assert "wr0ng" not in str(told.value)
    with pytest.raises(StoreError, match='database "nothing" does not exist'):
        Ledger(postgres.removesuffix("postgres") + "nothing").begin_run("credit")


def test_a_user_without_rights_is_told(postgres_database: str) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE reader_{os.getpid()} LOGIN PASSWORD 'r'")
    url = re.sub(r"//.*@", f"//reader_{os.getpid()}:r@", postgres_database)
    with pytest.raises(StoreError, match="refused: permission denied for schema public; give this user the rights"):
        Ledger(url).begin_run("credit")


def test_a_read_only_server_is_told(postgres_database: str) -> None:
    with Ledger(postgres_database) as ledger:
        ledger.begin_run("credit")
    url = postgres_database + "?options=-cdefault_transaction_read_only%3Don"
    with Ledger(url) as ledger, pytest.raises(StoreError, match="cannot be written: the server is read-only"):
        ledger.begin_run("credit")


def test_a_dropped_connection_is_opened_again(postgres_database: str) -> None:
    with Ledger(postgres_database) as ledger:
        run = ledger.begin_run("credit")
        for use in (lambda: ledger.runs("credit"), lambda: ledger.end_run(run, "done")):
            with psycopg.connect(postgres_database, autocommit=True) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            use()
        assert ledger.runs("credit")[0].state == "done"


@pytest.mark.parametrize("password", ["pa%ss", "pa%25ss%"])
def test_a_password_that_the_driver_repeats_is_masked(password: str) -> None:
    with pytest.raises(StoreError) as told:
        Ledger(f"postgresql://ann:{password}@127.0.0.1:1/team").runs("credit")
    assert "ss" not in str(told.value).removeprefix("cannot reach the ledger postgresql")


@pytest.mark.parametrize("raw", ["xyx#zyz", "xyx?zyz", "xyx:zyz", "xyx[zyz", "xyx]c d", "?#xyxzyz"])
def test_a_raw_character_of_a_password_that_can_be_meant_in_one_way_is_taken(postgres_database: str, raw: str) -> None:
    user = f"raw_{os.getpid()}_{raw.encode().hex()}"
    with psycopg.connect(postgres_database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{raw}'")
    with Ledger(re.sub(r"//.*@", f"//{user}:{raw}@", postgres_database)) as ledger:
        ledger.begin_run("credit")
        assert ledger.url == re.sub(r"//.*@", f"//{user}:***@", postgres_database)
    wrong = Ledger(re.sub(r"//.*@", f"//{user}:{raw}x@", postgres_database))
    with pytest.raises(StoreError, match="password authentication failed") as told:
        wrong.runs("credit")
    assert "xyx" not in str(told.value) and "zyz" not in str(told.value)


@pytest.mark.parametrize("raw", ["xyx@zyz", "xyx/zyz", "xyx/c@d", "xyx#c@d", "xyx?y@zyz=x", "12/xyx?y=zyz"])
def test_a_password_that_could_be_meant_in_two_ways_is_refused_untold(raw: str) -> None:
    with pytest.raises(UsageError, match=r"^store\.ledger: .* percent-encoded: '@' as %40, '/' as %2F, ") as told:
        Ledger(f"postgresql://ann:{raw}@127.0.0.1:1/team")
    assert "xyx" not in str(told.value) and "zyz" not in str(told.value)
    encoded = urllib.parse.quote(raw, safe="")
    assert Ledger(f"postgresql://ann:{encoded}@127.0.0.1:1/team").url == "postgresql://ann:***@127.0.0.1:1/team"


def test_names_that_are_no_unicode_are_kept(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        run = ledger.begin_run("credit")
        ledger.put_outcome(run, Outcome(stage="data", key="k", parts={"gr\udcf6sse.csv": "a"}, record={}))
        ledger.end_run(run, "failed", "gr\udcf6sse.csv is empty")
        found = ledger.outcome("credit", "data", "k")
        assert found is not None and found.parts == {"gr\udcf6sse.csv": "a"}
        assert ledger.runs("credit")[0].error == r"gr\udcf6sse.csv is empty"
