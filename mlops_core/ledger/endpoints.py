"""What should be serving, and what monitors said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlops_core.contracts import Verdict, Window, restore
from mlops_core.ledger.audit import AuditBase
from mlops_core.ledger.records import now, to_json


class Endpoints(AuditBase):
    def desire(self, name: str, serving: Mapping[str, Any] | None, *, deployer: str, actor: str, reason: str) -> None:
        """What endpoint `name` should be (a plain Serving), or None where it should not run.

        Where that is desired already, nothing is recorded.
        """
        text = None if serving is None else to_json(serving)
        with self.audited() as (tx, say):
            last = tx.row(
                "SELECT deployer, serving FROM mlops_desires WHERE name = ? ORDER BY number DESC LIMIT 1", name
            )
            if (last is None and text is None) or (last is not None and tuple(last) == (deployer, text)):
                return
            tx.insert("mlops_desires", name=name, deployer=deployer, serving=text, at=now())
            routes = [] if serving is None else [_route(r) for r in serving.get("routes", ())]
            say(
                actor=actor,
                action="endpoint.desired" if text is not None else "endpoint.stopped",
                subject=name,
                reason=reason,
                facts={"deployer": deployer, "routes": routes},
            )

    def desired(self, name: str) -> tuple[str, dict[str, Any]] | None:
        """(deployer, plain Serving) of an endpoint that should run, else None."""
        row = self.db.row(
            "SELECT deployer, serving FROM mlops_desires WHERE name = ? ORDER BY number DESC LIMIT 1", name
        )
        return (row[0], json.loads(row[1])) if row and row[1] is not None else None

    def put_verdict(self, name: str, window: Window, verdict: Verdict) -> None:
        with self.db.write() as tx:
            tx.insert("mlops_verdicts", name=name, window=to_json(window), verdict=to_json(verdict), at=now())

    def verdicts(self, name: str, limit: int = 20) -> tuple[tuple[Window, Verdict], ...]:
        """The newest first."""
        rows = self.db.read(
            'SELECT "window", verdict FROM mlops_verdicts WHERE name = ? ORDER BY number DESC LIMIT ?', name, limit
        )
        return tuple((restore(Window, json.loads(w)), restore(Verdict, json.loads(v))) for w, v in rows)


def _route(route: Any) -> dict[str, Any]:
    return {key: route[key] for key in ("version", "weight", "role") if key in route}
