"""Observer `diary`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_core import hookimpl
from mlops_core.contracts import Run, Scores


@dataclass(frozen=True)
class Diary:
    """Writes what happens in a run as JSON lines.

    path: the file that grows
    """

    path: Path = Path("diary.jsonl")

    @hookimpl
    def mlops_started(self, run: Run, stage: str, cause: str) -> None:
        self._write(run, "started", stage, cause=cause)

    @hookimpl
    def mlops_progress(self, run: Run, stage: str, step: int, scores: Scores) -> None:
        self._write(run, "progress", stage, step=step, scores=dict(scores))

    @hookimpl
    def mlops_finished(self, run: Run, stage: str, skipped: bool) -> None:
        self._write(run, "skipped" if skipped else "finished", stage)

    @hookimpl
    def mlops_failed(self, run: Run, stage: str, error: str) -> None:
        self._write(run, "failed", stage, error=error)

    def _write(self, run: Run, event: str, stage: str, **facts: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"run": run.id, "event": event, "stage": stage, **facts}) + "\n")
