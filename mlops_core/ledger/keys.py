"""Every key that was ever made for a project's endpoint, and which are revoked."""

from __future__ import annotations

from mlops_core.access import Key
from mlops_core.errors import StoreError
from mlops_core.ledger.audit import AuditBase
from mlops_core.ledger.records import now

_FIELDS = ("id", "scope", "salt", "digest", "model", "rate", "who", "created", "expires", "revoked")


class Keys(AuditBase):
    def add_key(self, name: str, key: Key, *, actor: str, reason: str) -> None:
        with self.audited() as (tx, say):
            tx.insert("mlops_keys", name=name, **{f: getattr(key, f) for f in _FIELDS})
            facts = {f: getattr(key, f) for f in ("scope", "model", "rate", "who", "expires")}
            say(actor=actor, action="key.created", subject=f"{name}/key-{key.id}", reason=reason, facts=facts)

    def revoke_key(self, name: str, id: str, *, actor: str, reason: str) -> None:
        """Raises StoreError for an id that there is not; where it is revoked already, nothing is recorded."""
        with self.audited() as (tx, say):
            row = tx.row("SELECT revoked FROM mlops_keys WHERE name = ? AND id = ?", name, id)
            if row is None:
                raise StoreError(f"{name} has no key {id!r}; 'mlops keys list' shows the ids")
            if row[0]:
                return
            tx.write("UPDATE mlops_keys SET revoked = ? WHERE name = ? AND id = ?", now(), name, id)
            say(actor=actor, action="key.revoked", subject=f"{name}/key-{id}", reason=reason, facts={})

    def keys(self, name: str) -> tuple[Key, ...]:
        """The oldest first, revoked and expired ones too."""
        rows = self.db.read(f"SELECT {', '.join(_FIELDS)} FROM mlops_keys WHERE name = ? ORDER BY number", name)
        return tuple(Key(**dict(zip(_FIELDS, row, strict=True))) for row in rows)
