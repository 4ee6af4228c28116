"""Where a search stands. Knows nothing of Ray: `mlops_ray.sweep` tells it what Tune tells."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_core import Trials, advances, costs_of, dominates
from mlops_core.contracts import Goal, Scores, Trial
from mlops_ray.curves import Curves
from mlops_ray.points import Point, Points

HOPELESS = 5
LEEWAY = 2.0  # seconds in which a trial that took too long may write where it stands


@dataclass
class Running:
    """A trial at work, as far as it told."""

    point: Point
    began: float | None = None  # None while it waits, for the first time or to be tried again
    before: float = 0.0  # seconds of attempts that died
    step: int = 0
    scores: Scores = field(default_factory=dict)

    @property
    def attempt(self) -> float:
        """Seconds of the attempt under way."""
        return 0.0 if self.began is None else time.monotonic() - self.began

    @property
    def seconds(self) -> float:
        """How long it has held its resources."""
        return self.before + self.attempt


@dataclass(frozen=True)
class Limits:
    """What ends a search, or a trial, early: seconds of `amount` GPUs or cores, trials that were no better."""

    cost: float | None = None
    amount: float = 1.0
    patience: int = 0
    timeout: float | None = None


@dataclass
class Board:
    """Where the search stands: what runs, what finished, and why it must end before its time."""

    points: Points
    known: Trials
    goal: Goal
    out: Path
    report: Callable[..., None]
    limits: Limits = field(default_factory=Limits)
    running: dict[str, Running] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    finished: int = 0
    failed: int = 0
    fatal: str = ""
    written: float = 0.0
    front: list[tuple[float, ...]] = field(default_factory=list)  # of one objective, the best
    idle: int = 0  # trials that finished since it changed
    used: float = 0.0  # seconds of trials that ended, and of those that a kill cut off

    def __post_init__(self) -> None:
        self.curves = Curves(self.out)
        if len(self.known):  # else all failed, and the search begins anew
            self.used = max(self._kept(), sum(t.seconds for t in self.known))
        elif not self.known.path.exists():
            self.used = self._kept()

    def _kept(self) -> float:
        with contextlib.suppress(OSError, ValueError):
            return float((self.out / "seconds").read_text())
        return 0.0

    @property
    def cost(self) -> float:
        """GPU-seconds, or core-seconds, that trials used, those at work included."""
        return self.limits.amount * (self.used + sum(r.seconds for r in self.running.values()))

    @property
    def spent(self) -> bool:
        return self.limits.cost is not None and self.cost >= self.limits.cost

    @property
    def waits(self) -> bool:
        """Whether there may be another point, though there is none now."""
        return self.points.waits and not (self.stale or self.spent)

    @property
    def stale(self) -> bool:
        return 0 < self.limits.patience <= self.idle

    def tell(self, trial: Trial) -> None:
        """A trial that finished in an earlier attempt at this search."""
        self.finished += 1
        self.failed += trial.state == "failed"
        self._weigh(trial)
        self.report(self.finished, trial.scores)

    def next(self, trial_id: str) -> Point | None:
        point = None if self.stale or self.spent else self.points.next()
        if point:
            self.running[trial_id] = Running(point)
        return point

    def started(self, trial_id: str) -> None:
        if trial_id in self.running:
            self.running[trial_id].began = time.monotonic()

    def stumbled(self, trial_id: str) -> None:
        """An attempt died; the trial waits for the next."""
        run = self.running.get(trial_id)
        if run:
            run.before, run.began = run.seconds, None

    def overdue(self) -> set[str]:
        """The trials that have had their time; asked often, so this also keeps the count of the cost."""
        self._show()
        if self.limits.timeout is not None:
            self.late |= {t for t, run in self.running.items() if run.attempt > self.limits.timeout + LEEWAY}
        return self.late & self.running.keys()

    def scored(self, trial_id: str, result: Mapping[str, Any]) -> None:
        if result.get("fatal"):
            self.fatal = self.fatal or str(result["fatal"])
        elif trial_id in self.running:
            self.running[trial_id].step = result.get("step", 0)
            self.running[trial_id].scores = result.get("scores") or {}
            if "now" in result:
                self.curves.add(self.running[trial_id].point.number, result["step"], result["now"])
        self._show()

    def ended(self, trial_id: str, result: Mapping[str, Any]) -> None:
        state = result.get("state") or ("pruned" if result.get("scores") else "failed")
        self._keep(trial_id, state, "" if state != "failed" else "it ended without a score")

    def broke(self, trial_id: str, why: str) -> None:
        if trial_id in self.late:
            why = f"it took longer than {self.limits.timeout:g} s and was killed; output.log says where it stood"
        self._keep(trial_id, "failed", why)

    def close(self) -> None:
        """What the time budget cut off: pruned where it had a score, else as if never started."""
        for trial_id in list(self.running):
            if self.running[trial_id].scores:
                self._keep(trial_id, "pruned")
        self.used += sum(run.seconds for run in self.running.values())
        self.running.clear()
        for trial in (t for t in self.known if self.points.legs and t.state != "failed"):  # nobody goes on from any
            shutil.rmtree(self.out / "trials" / f"{trial.number:04d}" / "scratch", ignore_errors=True)
        self._show(force=True)
        (self.out / "live.json").unlink(missing_ok=True)

    @property
    def hopeless(self) -> bool:
        return self.failed >= HOPELESS and self.failed == self.finished

    def _keep(self, trial_id: str, state: Any, error: str = "") -> None:
        run = self.running.pop(trial_id, None)
        if run is None or self.fatal:
            return
        seconds, scores = run.seconds, dict(run.scores)
        trial = Trial(
            number=run.point.number,
            params=run.point.params,
            scores=scores,
            state=state,
            seconds=seconds,
            error=error,
            after=run.point.after,
            steps=run.step if self.points.legs else 0,
        )
        self.used += seconds
        self.known.add(trial)
        self.points.tell(trial)
        self._weigh(trial)
        self.finished += 1
        self.failed += state == "failed"
        for number in self.points.spare(trial):
            shutil.rmtree(self.out / "trials" / f"{number:04d}" / "scratch", ignore_errors=True)
        self._show(force=True)
        self.report(self.finished, scores)

    def _weigh(self, trial: Trial) -> None:
        if trial.state == "failed" or self.goal.metric not in trial.scores:
            return
        ended = trial.state == "done" or not self.goal.objectives  # what was cut short is on no front
        costs = costs_of(trial.scores, self.goal) if ended else None
        if costs is None or not advances(self.front, costs):
            self.idle += 1
            return
        self.front, self.idle = [c for c in self.front if not dominates(costs, c)] + [costs], 0

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
                "seconds": r.seconds,
            }
            for r in self.running.values()
        ]
        live = {"running": running, "finished": self.finished, "of": self.points.total}
        _write(self.out / "live.json", json.dumps(live, default=str))
        _write(self.out / "seconds", f"{self.used + sum(r.seconds for r in self.running.values()):.3f}")


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    file.with_suffix(".tmp").write_text(text)
    os.replace(file.with_suffix(".tmp"), file)
