"""What each stage left, under the key it was made with."""

from __future__ import annotations

import json
from typing import Any

from mlops_core.contracts import Artifact, Run, restore
from mlops_core.ledger.database import Database, Row, Transaction
from mlops_core.ledger.records import Outcome, now, to_json

_COLUMNS = "o.stage, o.key, o.parts, o.record, o.artifacts, o.run, o.created, o.seconds"


class Outcomes:
    db: Database

    def outcome(self, name: str, stage: str, key: str) -> Outcome | None:
        """What that stage left when it ran with that key."""
        return _outcome(
            self.db.row(
                f"SELECT {_COLUMNS} FROM mlops_outcomes o WHERE name = ? AND stage = ? AND key = ?", name, stage, key
            )
        )

    def latest(self, name: str, stage: str) -> Outcome | None:
        """The outcome of that stage which a run put or used last: what a plan compares with."""
        return _outcome(
            self.db.row(
                f"SELECT {_COLUMNS} FROM mlops_uses u JOIN mlops_outcomes o "
                "ON o.name = u.name AND o.stage = u.stage AND o.key = u.key "
                "WHERE u.name = ? AND u.stage = ? ORDER BY u.number DESC LIMIT 1",
                name,
                stage,
            )
        )

    def put_outcome(self, run: Run, outcome: Outcome) -> None:
        """Records what a stage left, in place of what was recorded under the same key, and that `run` uses it."""
        with self.db.write() as tx:
            tx.write(
                "DELETE FROM mlops_outcomes WHERE name = ? AND stage = ? AND key = ?",
                run.name,
                outcome.stage,
                outcome.key,
            )
            tx.insert(
                "mlops_outcomes",
                name=run.name,
                stage=outcome.stage,
                key=outcome.key,
                parts=to_json(outcome.parts),
                record=to_json(outcome.record),
                artifacts=to_json(outcome.artifacts),
                run=outcome.run or run.id,
                created=outcome.created or now(),
                seconds=outcome.seconds,
            )
            _use(tx, run, outcome)

    def reuse(self, run: Run, outcome: Outcome) -> None:
        """Records that `run` found and used this outcome."""
        with self.db.write() as tx:
            _use(tx, run, outcome)

    def forget_outcome(self, name: str, stage: str, key: str) -> None:
        """Forgets an outcome, as when its artifacts are gone or altered; none is no error."""
        with self.db.write() as tx:
            tx.write("DELETE FROM mlops_outcomes WHERE name = ? AND stage = ? AND key = ?", name, stage, key)


def _use(tx: Transaction, run: Run, outcome: Outcome) -> None:
    tx.insert("mlops_uses", name=run.name, stage=outcome.stage, key=outcome.key, run=run.id, at=now())


def _outcome(row: Row | None) -> Outcome | None:
    if row is None:
        return None
    stage, key, parts, record, artifacts, run, created, seconds = row
    kept: list[dict[str, Any]] = json.loads(artifacts)
    return Outcome(
        stage=stage,
        key=key,
        parts=json.loads(parts),
        record=json.loads(record),
        artifacts=tuple(restore(Artifact, a) for a in kept),
        run=run,
        created=created,
        seconds=seconds,
    )
