"""The audit log: who did what to which version, when and why; no edit stays unseen.

Each entry's hash covers the entry before it. The head (count and last hash) is signed with a key outside the
database, and kept a second time in a file, the witness, so that a log cut short is found as well. Entries
cannot be updated or deleted: triggers refuse. Somebody who can read the key and replace database and witness
at once is not held off; for that, keep MLOPS_AUDIT_KEY away from the machine that verifies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from mlops_core.ledger.database import Database, Row, Transaction
from mlops_core.ledger.records import AuditEntry, now, to_json
from mlops_core.ledger.signing import Head, Signer

_COLUMNS = "number, at, actor, action, subject, reason, facts, previous, hash"
_HEAD = "SELECT count, hash, key_id, mac FROM mlops_audit_head"


class Say(Protocol):
    def __call__(self, *, actor: str, action: str, subject: str, reason: str, facts: Mapping[str, Any]) -> None: ...


class AuditBase:
    """What a room needs whose changes are audited."""

    db: Database

    @contextmanager
    def audited(self) -> Iterator[tuple[Transaction, Say]]:
        """One transaction, and a way to say in the audit log what it does: both are written, or none."""
        signer = Signer(self.db.place)
        signer.prepare()
        heads: list[Head] = []
        with self.db.write() as tx:
            seen = signer.seen()

            def say(**entry: Any) -> None:
                heads.append(_append(tx, signer, entry))

            yield tx, say
            agrees = bool(heads) and _agrees(tx, seen)
        if agrees:  # else the witness stays as it is, and goes on to say that the log was cut short or altered
            signer.witness(heads[-1])


class AuditLog(AuditBase):
    def append_audit(self, *, actor: str, action: str, subject: str, reason: str, facts: Mapping[str, Any]) -> None:
        """Adds an entry. `subject` is a project's name, name/version or name@alias."""
        with self.audited() as (_, say):
            say(actor=actor, action=action, subject=subject, reason=reason, facts=facts)

    def audit(self, name: str | None = None, limit: int = 100) -> tuple[AuditEntry, ...]:
        """The newest entries first: all, or those about one project."""
        where = ""
        args: tuple[Any, ...] = ()
        if name is not None:
            where = "WHERE subject = ? OR substr(subject, 1, ?) IN (?, ?)"
            args = (name, len(name) + 1, f"{name}/", f"{name}@")
        rows = self.db.read(f"SELECT {_COLUMNS} FROM mlops_audit {where} ORDER BY number DESC LIMIT ?", *args, limit)
        return tuple(map(_entry, rows))

    def verify_audit(self) -> str:
        """'' where the log is whole; else the first thing that is wrong, in words."""
        signer = Signer(self.db.place)
        seen = signer.seen()  # first: what is vouched for must be found, entries that come meanwhile do no harm
        rows, head = self._whole()
        hashes, previous = [""], ""
        for number, row in enumerate(rows, 1):
            entry = _entry(row)
            if entry.number != number:
                return f"audit entry {number} is missing"
            if entry.previous != previous or entry.hash != _hash(row):
                return f"audit entry {number} ({entry.action} {entry.subject}, {entry.at}) was altered"
            previous = entry.hash
            hashes.append(previous)
        return signer.verify(seen, head, hashes)

    def _whole(self) -> tuple[list[Row], Head | None]:
        """Every entry, and the head of just that moment."""
        while True:
            head = self.db.row(_HEAD)
            rows = self.db.read(f"SELECT {_COLUMNS} FROM mlops_audit ORDER BY number")
            if self.db.row(_HEAD) == head:
                return rows, Head(*head) if head else None


def _agrees(tx: Transaction, seen: Head | str | None) -> bool:
    if seen is None or isinstance(seen, str) or not seen.count:
        return seen is None or isinstance(seen, Head)
    row = tx.row("SELECT hash FROM mlops_audit WHERE number = ?", seen.count)
    return row is not None and row[0] == seen.hash


def _append(tx: Transaction, signer: Signer, entry: Mapping[str, Any]) -> Head:
    row = tx.row(_HEAD)
    head = Head(*row) if row else Head()
    values = {
        "number": head.count + 1,
        "at": now(),
        **{key: entry[key] for key in ("actor", "action", "subject", "reason")},
        "facts": to_json(entry["facts"]),
        "previous": head.hash,
    }
    values["hash"] = _hash(tuple(values.values()))
    tx.insert("mlops_audit", **values)
    new = signer.sign(head, head.count + 1, values["hash"])
    tx.write("DELETE FROM mlops_audit_head")
    tx.insert("mlops_audit_head", one=1, count=new.count, hash=new.hash, key_id=new.key_id, mac=new.mac)
    return new


def _hash(row: Row) -> str:
    return hashlib.sha256(to_json(list(row[:8])).encode()).hexdigest()


def _entry(row: Row) -> AuditEntry:
    names = _COLUMNS.split(", ")
    return AuditEntry(**dict(zip(names, row, strict=True)) | {"facts": json.loads(row[6])})
