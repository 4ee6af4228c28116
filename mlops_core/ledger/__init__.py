"""What happened and what is so: runs, stages, versions, aliases, desired endpoints, rollouts, verdicts, the audit log.

Every change is one transaction, in SQLite inside the project or in PostgreSQL for teams; several processes
may work at once. A process killed anywhere leaves the state before or after a change, never between.
"""

from __future__ import annotations

from mlops_core.ledger.audit import AuditLog
from mlops_core.ledger.endpoints import Endpoints
from mlops_core.ledger.keys import Keys
from mlops_core.ledger.locks import Locks
from mlops_core.ledger.opening import open_database
from mlops_core.ledger.outcomes import Outcomes
from mlops_core.ledger.records import AuditEntry, Outcome, RunRow, whoami
from mlops_core.ledger.rollouts import Rollouts
from mlops_core.ledger.runs import Runs
from mlops_core.ledger.versions import Versions

__all__ = ["AuditEntry", "Ledger", "Outcome", "RunRow", "whoami"]


class Ledger(Runs, Outcomes, Versions, Endpoints, Rollouts, Keys, AuditLog, Locks):
    """The ledger at `url`: `sqlite:///path`, `postgresql://user:password@host/database`, or a path to a SQLite file.

    Opening reads and writes nothing; the first change creates what is missing. Thread-safe. What a disk or a
    server refuses is raised as StoreError, in words, with the path or the URL (its password masked).
    """

    def __init__(self, url: str) -> None:
        self.db = open_database(str(url))

    @property
    def url(self) -> str:
        """Where it is, fit to be shown."""
        return self.db.shown

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
