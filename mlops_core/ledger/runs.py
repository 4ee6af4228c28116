"""Runs: when and why each began, how it ended, and whether its process still lives."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from mlops_core.contracts import Run
from mlops_core.ledger.database import Database
from mlops_core.ledger.records import RunRow, RunState, now, storable


class Runs:
    db: Database

    def begin_run(self, name: str, cause: str = "manual", project: str = "") -> Run:
        """A new run of this process, in state running."""
        started = now()
        run = Run(
            id=f"{started[:19].replace('-', '').replace(':', '')}-{secrets.token_hex(3)}",
            name=name,
            started=started,
            cause=cause,
            project=project,
        )
        with self.db.write() as tx:
            tx.insert(
                "mlops_runs",
                id=run.id,
                name=name,
                cause=cause,
                state="running",
                error="",
                started=started,
                ended="",
                pid=os.getpid(),
                host=os.uname().nodename,
                born=born(os.getpid()),
            )
        return run

    def end_run(self, run: Run, state: RunState, error: str = "") -> None:
        with self.db.write() as tx:
            tx.write(
                "UPDATE mlops_runs SET state = ?, error = ?, ended = ? WHERE id = ?",
                state,
                storable(error),
                now(),
                run.id,
            )

    def runs(self, name: str, limit: int = 20) -> tuple[RunRow, ...]:
        """The newest runs first. One that says running while its process on this host is gone reads as died."""
        rows = self.db.read(
            "SELECT id, name, cause, state, started, ended, error, pid, host, born FROM mlops_runs "
            "WHERE name = ? ORDER BY started DESC, id DESC LIMIT ?",
            name,
            limit,
        )
        fields = ("id", "name", "cause", "state", "started", "ended", "error", "pid", "host")
        found = []
        for row in rows:
            *values, birth = row
            facts = dict(zip(fields, values, strict=True))
            if facts["state"] == "running" and not lives(facts["pid"], facts["host"], birth):
                facts["state"] = "died"
            found.append(RunRow(**facts))
        return tuple(found)


def lives(pid: int, host: str, birth: str) -> bool:
    """Whether that very process may still live: a process id is used again, a birth is not."""
    return host != os.uname().nodename or (birth or "?") == (born(pid) or "?" if _exists(pid) else "gone")


def born(pid: int) -> str:
    """Which process a process id means: boot and start time; '' where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        stat = Path(f"/proc/{pid}/stat").read_text()
        return f"{boot}:{stat.rsplit(')', 1)[1].split()[19]}"
    except (OSError, IndexError):
        return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
