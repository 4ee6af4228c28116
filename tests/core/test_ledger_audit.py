"""No edit of the audit log stays unseen, on both databases."""

from __future__ import annotations

import contextlib
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_core.errors import StoreError
from mlops_core.ledger import Ledger


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger(ledger_url) as opened:
        for number in range(1, 6):
            opened.append_audit(
                actor="ann", action="test", subject=f"credit/{number}", reason="because", facts={"n": number}
            )
        assert opened.verify_audit() == ""
        yield opened


@contextlib.contextmanager
def as_intruder(ledger: Ledger) -> Iterator[None]:
    """Lifts the triggers, as an administrator of the database can."""
    if ledger.url.startswith("postgresql:"):
        with ledger.db.write() as tx:
            tx.write("ALTER TABLE mlops_audit DISABLE TRIGGER ALL")
        yield
        return
    with ledger.db.write() as tx:
        tx.write("DROP TRIGGER mlops_audit_no_update")
        tx.write("DROP TRIGGER mlops_audit_no_delete")
    yield


def execute(ledger: Ledger, sql: str) -> None:
    with ledger.db.write() as tx:
        tx.write(sql)


@pytest.mark.parametrize("sql", ["UPDATE mlops_audit SET reason = 'x'", "DELETE FROM mlops_audit"])
def test_entries_cannot_be_changed(ledger: Ledger, sql: str) -> None:
    with pytest.raises(StoreError, match=r"refused: .*append-only"):
        execute(ledger, sql)
    assert len(ledger.audit()) == 5


def test_postgresql_refuses_truncation_too(ledger: Ledger) -> None:
    if not ledger.url.startswith("postgresql:"):
        pytest.skip("SQLite has no TRUNCATE")
    with pytest.raises(StoreError, match="append-only"):
        execute(ledger, "TRUNCATE mlops_audit")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE mlops_audit SET actor = 'bob' WHERE number = 3", r"audit entry 3 \(test credit/3, .*\) was altered"),
        ("UPDATE mlops_audit SET facts = '{}' WHERE number = 5", r"audit entry 5 \(test credit/5, .*\) was altered"),
        ("UPDATE mlops_audit SET hash = 'x' WHERE number = 1", r"audit entry 1 \(test credit/1, .*\) was altered"),
        ("DELETE FROM mlops_audit WHERE number = 2", "audit entry 2 is missing"),
        ("DELETE FROM mlops_audit WHERE number > 3", "audit entries 4 to 5 are missing: the log was cut short"),
        ("DELETE FROM mlops_audit", "audit entries 1 to 5 are missing: the log was cut short"),
        ("UPDATE mlops_audit_head SET mac = 'x'", "the signed head of the audit log was forged"),
        ("DELETE FROM mlops_audit_head", "audit entry 5 is not vouched for by the signed head"),
    ],
)
def test_an_edit_past_the_triggers_is_found_and_work_does_not_hide_it(ledger: Ledger, sql: str, said: str) -> None:
    with as_intruder(ledger):
        execute(ledger, sql)
    with pytest.raises(AssertionError, match=said):
        assert ledger.verify_audit() == ""
    if sql != "DELETE FROM mlops_audit_head":  # then the next number is taken, and the change is refused
        ledger.append_audit(actor="ann", action="test", subject="credit/6", reason="later", facts={})
    else:
        with pytest.raises(StoreError):
            ledger.append_audit(actor="ann", action="test", subject="credit/6", reason="later", facts={})
    assert ledger.verify_audit() != ""


def test_a_log_cut_short_together_with_its_head_is_found_by_the_witness(ledger: Ledger) -> None:
    row = ledger.db.row("SELECT hash FROM mlops_audit WHERE number = 3")
    assert row is not None
    with as_intruder(ledger):
        execute(ledger, "DELETE FROM mlops_audit WHERE number > 3")
        execute(ledger, f"UPDATE mlops_audit_head SET count = 3, hash = '{row[0]}', key_id = 'other'")
    assert ledger.verify_audit() != ""
    for _ in range(4):
        ledger.append_audit(actor="ann", action="test", subject="credit/6", reason="later", facts={})
    assert "entry 5 is not the one that the witness vouches for" in ledger.verify_audit()


def test_the_key_is_for_its_owner_only(ledger: Ledger) -> None:
    key = Path(f"{ledger.db.place}.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_text()) == 64


def test_a_log_signed_elsewhere_asks_for_the_key(
    ledger: Ledger, ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_AUDIT_KEY", "shared by the team")
    assert "is signed with key" in ledger.verify_audit()
    ledger.append_audit(actor="ann", action="test", subject="credit/6", reason="", facts={})
    assert ledger.verify_audit() == ""
    monkeypatch.delenv("MLOPS_AUDIT_KEY")
    assert "set MLOPS_AUDIT_KEY to check it" in ledger.verify_audit()


def test_a_lost_witness_or_a_damaged_one_is_told(ledger: Ledger) -> None:
    witness = Path(f"{ledger.db.place}.head")
    text = witness.read_text()
    witness.write_text("{")
    assert "the witness of the audit log" in ledger.verify_audit()
    witness.write_text(text.replace('"count": 5', '"count": 4'))
    assert "audit entry 4 is not the one that the witness vouches for" in ledger.verify_audit()
    witness.write_text(text)
    shutil.copy(witness, witness.with_suffix(".old"))
    assert ledger.verify_audit() == ""
