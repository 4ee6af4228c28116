"""Where a search stands. Knows nothing of Ray: `mlops_ray.sweep` tells it what Tune tells."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_core import Trials
from mlops_core.contracts import Goal, Scores, Trial
from mlops_ray.points import Point, Points

HOPELESS = 5


@dataclass
class Running:
    """A trial at work, as far as it told."""

    point: Point
    began: float = field(default_factory=time.monotonic)
    step: int = 0
    scores: Scores = field(default_factory=dict)


@dataclass
class Board:
    """Where the search stands: what runs, what finished, and why it must end before its time."""

    points: Points
    known: Trials
    goal: Goal
    out: Path
    report: Callable[..., None]
    running: dict[str, Running] = field(default_factory=dict)
    finished: int = 0
    failed: int = 0
    fatal: str = ""
    written: float = 0.0

    def tell(self, trial: Trial) -> None:
        """A trial that finished in an earlier attempt at this search."""
        self.finished += 1
        self.failed += trial.state == "failed"
        self.report(self.finished, trial.scores)

    def next(self, trial_id: str) -> Point | None:
        point = self.points.next()
        if point:
            self.running[trial_id] = Running(point)
        return point

    def scored(self, trial_id: str, result: Mapping[str, Any]) -> None:
        if result.get("fatal"):
            self.fatal = self.fatal or str(result["fatal"])
        elif trial_id in self.running:
            self.running[trial_id].step = result.get("step", 0)
            self.running[trial_id].scores = result.get("scores") or {}
        self._show()

    def ended(self, trial_id: str, result: Mapping[str, Any]) -> None:
        state = result.get("state") or ("pruned" if result.get("scores") else "failed")
        self._keep(trial_id, state, "" if state != "failed" else "it ended without a score")

    def broke(self, trial_id: str, why: str) -> None:
        self._keep(trial_id, "failed", why)

    def close(self) -> None:
        """What the time budget cut off: pruned where it had a score, else as if never started."""
        for trial_id in list(self.running):
            if self.running[trial_id].scores:
                self._keep(trial_id, "pruned")
        (self.out / "live.json").unlink(missing_ok=True)

    @property
    def hopeless(self) -> bool:
        return self.failed >= HOPELESS and self.failed == self.finished

    def _keep(self, trial_id: str, state: Any, error: str = "") -> None:
        run = self.running.pop(trial_id, None)
        if run is None or self.fatal:
            return
        seconds, scores = time.monotonic() - run.began, dict(run.scores)
        trial = Trial(
            number=run.point.number, params=run.point.params, scores=scores, state=state, seconds=seconds, error=error
        )
        self.known.add(trial)
        self.points.tell(trial)
        self.finished += 1
        self.failed += state == "failed"
        if state != "failed":
            shutil.rmtree(self.out / "trials" / f"{trial.number:04d}" / "scratch", ignore_errors=True)
        self._show(force=True)
        self.report(self.finished, scores)

    def _show(self, force: bool = False) -> None:
        """`live.json`: the trials at work, for a table beside trials.jsonl; at most once a second."""
        now = time.monotonic()
        if not force and now - self.written < 1:
            return
        self.written = now
        running = [
            {
                "number": r.point.number,
                "params": r.point.params,
                "step": r.step,
                "scores": r.scores,
                "seconds": now - r.began,
            }
            for r in self.running.values()
        ]
        file = self.out / "live.json"
        file.with_suffix(".tmp").write_text(
            json.dumps({"running": running, "finished": self.finished, "of": self.points.total}, default=str)
        )
        os.replace(file.with_suffix(".tmp"), file)
