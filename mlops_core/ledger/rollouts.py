"""Rollouts: every transition, with its audit entry and the aliases that it moves, in one transaction."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from mlops_core.contracts import Rollout, restore
from mlops_core.errors import UsageError
from mlops_core.ledger.audit import AuditBase
from mlops_core.ledger.database import Row
from mlops_core.ledger.records import now, to_json
from mlops_core.ledger.versions import move_aliases

_LATEST = "SELECT number, body FROM mlops_rollouts WHERE name = ? ORDER BY number DESC LIMIT ?"


class Rollouts(AuditBase):
    def rollout(self, name: str) -> Rollout | None:
        """The latest rollout of that project as it stands, ended or not."""
        return next(iter(self.rollouts(name, limit=1)), None)

    def rollouts(self, name: str, limit: int = 20) -> tuple[Rollout, ...]:
        """The latest states, newest first: one rollout after each of its transitions."""
        return tuple(map(_rollout, self.db.read(_LATEST, name, limit)))

    def transit(
        self,
        event: str,
        rollout: Rollout,
        *,
        moves: Mapping[str, int | None],
        actor: str,
        reason: str,
        facts: Mapping[str, Any],
    ) -> Rollout:
        """Records what a rollout has become, moves the aliases and says so in the audit log: all of it, or nothing.

        `rollout.revision` is the state it comes from (0 for a new one). Raises UsageError where another process
        has moved it meanwhile, or where another one is under way.
        """
        with self.audited() as (tx, say):
            latest = _rollout(row) if (row := tx.row(_LATEST, rollout.name, 1)) else None
            if rollout.revision == 0 and latest and latest.active:
                raise UsageError(f"a rollout of {rollout.name} to version {latest.candidate} is {latest.state} already")
            if rollout.revision and (latest is None or latest.revision != rollout.revision):
                now_is = f"{latest.state}, step {latest.step + 1}" if latest else "gone"
                raise UsageError(f"the rollout of {rollout.name} was moved by another process: it is {now_is}")
            tx.insert("mlops_rollouts", name=rollout.name, event=event, body=to_json(rollout), at=now())
            move_aliases(tx, say, rollout.name, moves, actor, reason)
            say(
                actor=actor,
                action=f"rollout.{event}",
                subject=f"{rollout.name}/{rollout.candidate}",
                reason=reason,
                facts={"rollout": rollout.id, "strategy": rollout.strategy, "from": rollout.stable, **facts},
            )
            stored = tx.row(_LATEST, rollout.name, 1)
            assert stored is not None
        return _rollout(stored)


def _rollout(row: Row) -> Rollout:
    kept: dict[str, Any] = json.loads(row[1])
    return dataclasses.replace(restore(Rollout, kept), revision=row[0])
