"""Numbered model versions, and the aliases (champion, challenger) that point at them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from mlops_core.contracts import ModelVersion, restore
from mlops_core.errors import StoreError
from mlops_core.ledger.audit import AuditBase, Say
from mlops_core.ledger.database import Transaction
from mlops_core.ledger.records import moment, now, to_json, whoami


class Versions(AuditBase):
    def add_version(
        self, name: str, identity: str, make: Callable[[int], ModelVersion], *, actor: str = ""
    ) -> ModelVersion:
        """The version of that identity: the one already there, else a new one that `make(number)` describes.

        One transaction; numbers of a name count from 1 without gaps, whoever else is adding.
        """
        with self.audited() as (tx, say):
            found = tx.row("SELECT body FROM mlops_versions WHERE name = ? AND identity = ?", name, identity)
            if found is not None:
                return _version(found[0])
            last = tx.row("SELECT MAX(number) FROM mlops_versions WHERE name = ?", name)
            number = (last[0] or 0 if last else 0) + 1
            version = make(number)
            if (version.name, version.number) != (name, number):
                raise ValueError(f"make({number}) gave version {version.number} of {version.name!r}, not of {name!r}")
            tx.insert("mlops_versions", name=name, number=number, identity=identity, body=to_json(version))
            say(
                actor=actor or whoami(),
                action="version.added",
                subject=f"{name}/{number}",
                reason="; ".join(version.reasons) or version.status,
                facts={"status": version.status, "sha256": version.model.artifact.sha256, "run": version.run},
            )
        return version

    def sign_version(
        self, name: str, number: int, signature: str, *, key: str, actor: str, reason: str
    ) -> ModelVersion:
        """Keeps a signature with its version, in place of an earlier one; `key` is the id of the key that made it."""
        with self.audited() as (tx, say):
            _known(tx, name, number)
            at = "WHERE name = ? AND number = ?"
            rows = tx.read(f"SELECT body FROM mlops_versions {at}", name, number)
            body = to_json({**json.loads(rows[0][0]), "signature": signature})
            tx.write(f"UPDATE mlops_versions SET body = ? {at}", body, name, number)
            digest = hashlib.sha256(signature.encode()).hexdigest()
            facts = {"key": key, "signature": digest}
            say(actor=actor, action="version.signed", subject=f"{name}/{number}", reason=reason, facts=facts)
        return _version(body)

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """Every version, lowest number first."""
        rows = self.db.read("SELECT body FROM mlops_versions WHERE name = ? ORDER BY number", name)
        return tuple(_version(row[0]) for row in rows)

    def version(self, name: str, number: int) -> ModelVersion:
        """One version. Raises StoreError, naming those there are."""
        row = self.db.row("SELECT body FROM mlops_versions WHERE name = ? AND number = ?", name, number)
        if row is None:
            rows = self.db.read("SELECT number FROM mlops_versions WHERE name = ? ORDER BY number", name)
            raise _unknown(name, number, [r[0] for r in rows])
        return _version(row[0])

    def version_of(self, name: str, identity: str) -> ModelVersion | None:
        """The version that `add_version` made under that identity."""
        row = self.db.row("SELECT body FROM mlops_versions WHERE name = ? AND identity = ?", name, identity)
        return _version(row[0]) if row else None

    def aliases(self, name: str) -> dict[str, int]:
        """Alias -> number of the version it points at."""
        rows = self.db.read("SELECT alias, version FROM mlops_aliases WHERE name = ? ORDER BY number", name)
        latest: dict[str, int | None] = {row[0]: row[1] for row in rows}
        return {alias: version for alias, version in latest.items() if version is not None}

    def set_alias(self, name: str, alias: str, number: int | None, *, actor: str, reason: str) -> None:
        """Points an alias at a version, or at none; where it points there already, nothing is recorded."""
        self.set_aliases(name, {alias: number}, actor=actor, reason=reason)

    def set_aliases(self, name: str, moves: Mapping[str, int | None], *, actor: str, reason: str) -> None:
        """`set_alias` for several aliases at once: all of them move, or none."""
        with self.audited() as (tx, say):
            move_aliases(tx, say, name, moves, actor, reason)

    def alias_at(self, name: str, alias: str, when: str) -> int | None:
        """Where an alias pointed at that time (ISO 8601): 'which version was champion last Tuesday'."""
        row = self.db.row(
            "SELECT version FROM mlops_aliases WHERE name = ? AND alias = ? AND at <= ? ORDER BY number DESC LIMIT 1",
            name,
            alias,
            moment(when),
        )
        return row[0] if row else None


def move_aliases(
    tx: Transaction, say: Say, name: str, moves: Mapping[str, int | None], actor: str, reason: str
) -> None:
    """Moves aliases within a transaction; one that points there already is passed over."""
    for alias, number in moves.items():
        before = _at(tx, name, alias)
        if before == number:
            continue
        if number is not None:
            _known(tx, name, number)
        tx.insert("mlops_aliases", name=name, alias=alias, version=number, at=now(), actor=actor, reason=reason)
        say(
            actor=actor,
            action="alias.moved" if number is not None else "alias.removed",
            subject=f"{name}@{alias}",
            reason=reason,
            facts={"from": before, "to": number},
        )


def _known(tx: Transaction, name: str, number: int) -> None:
    numbers = [r[0] for r in tx.read("SELECT number FROM mlops_versions WHERE name = ? ORDER BY 1", name)]
    if number not in numbers:
        raise _unknown(name, number, numbers)


def _at(tx: Transaction, name: str, alias: str) -> int | None:
    row = tx.row(
        "SELECT version FROM mlops_aliases WHERE name = ? AND alias = ? ORDER BY number DESC LIMIT 1", name, alias
    )
    return row[0] if row else None


def _version(body: str) -> ModelVersion:
    plain: dict[str, Any] = json.loads(body)
    return restore(ModelVersion, plain)


def _unknown(name: str, number: int, numbers: list[int]) -> StoreError:
    if not numbers:
        return StoreError(f"{name} has no version {number}: it has none yet")
    shown = ", ".join(map(str, numbers[-12:]))
    return StoreError(f"{name} has no version {number}; it has {'... ' if len(numbers) > 12 else ''}{shown}")
