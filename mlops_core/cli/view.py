"""How a run is told: one calm live view on a terminal, plain lines elsewhere, JSON events for machines."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from mlops_core.cli.arguments import to_json
from mlops_core.contracts import SPLITS, Dataset, Endpoint, Evaluation, Model, Scores, Tuned
from mlops_core.hookspecs import hookimpl

EVERY = 5.0  # seconds between two progress lines where there is no terminal


class View:
    """Plain lines: a stage started, how far it is, what it left."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.began: dict[str, float] = {}
        self.last = 0.0

    def __enter__(self) -> View:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def line(self, text: str) -> None:
        print(text, file=self.out, flush=True)

    def waiting(self, holder: str) -> None:
        self.line(f"waiting: {holder}")

    @hookimpl
    def mlops_started(self, stage: str, cause: str) -> None:
        self.began[stage] = time.monotonic()
        self.line(f"{stage:<9} {cause}")

    @hookimpl
    def mlops_progress(self, stage: str, step: int, scores: Scores) -> None:
        now = time.monotonic()
        if now - self.last >= EVERY:
            self.last = now
            self.line(f"{stage:<9} {progress(stage, step, scores)}")

    @hookimpl
    def mlops_finished(self, stage: str, record: Any, skipped: bool) -> None:
        self.line(f"{stage:<9} {self.told(stage, record, skipped)}")

    @hookimpl
    def mlops_failed(self, stage: str, error: str) -> None:
        self.line(f"{stage:<9} failed")

    def told(self, stage: str, record: Any, skipped: bool) -> str:
        """What a stage left, in one line."""
        took = "unchanged" if skipped else f"{time.monotonic() - self.began.get(stage, time.monotonic()):.1f} s"
        return f"{took:<9} {left(stage, record)}"


class Events(View):
    """One JSON object a line."""

    def event(self, name: str, **facts: Any) -> None:
        self.line(to_json({"event": name, **facts}))

    def waiting(self, holder: str) -> None:
        self.event("waiting", holder=holder)

    @hookimpl
    def mlops_started(self, stage: str, cause: str) -> None:
        self.event("started", stage=stage, cause=cause)

    @hookimpl
    def mlops_progress(self, stage: str, step: int, scores: Scores) -> None:
        self.event("progress", stage=stage, step=step, scores=scores)

    @hookimpl
    def mlops_finished(self, stage: str, record: Any, skipped: bool) -> None:
        self.event("finished", stage=stage, skipped=skipped, record=record)

    @hookimpl
    def mlops_failed(self, stage: str, error: str) -> None:
        self.event("failed", stage=stage, error=error)


def choose(as_json: bool, out: TextIO = sys.stdout) -> Any:
    """The view that fits: events, live, or plain lines."""
    if as_json:
        return Events(out)
    if not out.isatty():
        return View(out)
    from mlops_core.cli.live import Live

    return Live(out)


def left(stage: str, record: Any) -> str:
    """What a stage left, in words."""
    if isinstance(record, Dataset):
        rows = ", ".join(f"{record.rows[s]:,} {s}" for s in SPLITS)
        gone = f", {record.rejected:,} in quarantine" if record.rejected else ""
        return f"{rows} rows{gone}; digest {record.digest[:12]}"
    if isinstance(record, Tuned):
        best = ", ".join(f"{k} {told_number(v)}" for k, v in record.params.items())
        shown = f"; in pictures: {record.report}" if record.report else ""
        front = f", {len(record.front)} of them the front" if record.front else ""
        return f"{len(record.trials)} trials{front}; best: {best}{shown}"
    if isinstance(record, Model):
        return f"bundle {record.digest[:12]}"
    if isinstance(record, Evaluation):
        return f"{record.told()} on {record.rows:,} test rows"
    if isinstance(record, Endpoint):
        return f"{record.url} serves version {', '.join(map(str, record.versions))}"
    if stage == "train":
        scores, first = record["scores"], [record.get("metric"), *record.get("objectives", ())]
        names = sorted(scores, key=lambda name: (*(name != one for one in first), name))[: max(3, len(first))]
        told = ", ".join(f"{name} {told_score(scores[name])}" for name in names) + " on the validation split"
        return f"the model of trial {record['trial']}: {told}" if "trial" in record else told
    if stage == "gate":
        return f"version {record['number']} {'accepted' if record['passed'] else 'rejected'}"
    return ""


def summary(finished: Any, project: Path) -> str:
    """The closing lines of a run: what is answered where, what was stored, how to go on."""
    there = f" --project {shlex.quote(str(project))}" if project != Path() else ""
    did = f"{len(finished.performed)} stages done, {len(finished.skipped)} unchanged"
    did += f", {len(finished.restored)} restored" if finished.restored else ""
    lines = ["", f"{finished.run.name}: {did} in {finished.seconds:.1f} s"]
    if finished.endpoint:
        lines += [
            f"  endpoint  {finished.endpoint.url}  (docs: {finished.endpoint.url}/docs)",
            f"  ask it    mlops predict --sample{there}",
        ]
    if finished.evaluation:
        found = finished.evaluation
        first = found.metrics.get(found.metric)
        interval = f" [{first.low:.4f}, {first.high:.4f}]" if first else ""
        lines.append(f"  learnt    {found.told(1)}{interval} on {found.rows:,} test rows")
    if finished.version:
        lines.append(f"  version   {finished.version}  (mlops versions show {finished.version}{there})")
    lines.append(f"  stored    {project / '.mlops'}/: ledger.db, objects, data, bundles, prediction log")
    if finished.endpoint:
        lines.append(f"  stop it   mlops stop{there}")
    lines += [f"  note      {c}" for c in finished.complaints]
    return "\n".join(lines)


def progress(stage: str, step: int, scores: Scores) -> str:
    """How far a stage is, in a line."""
    # by its count: a trial's own number is another, for they end in any order
    done = f"{step} trial{'s' * (step != 1)} done" if stage == "tune" else f"epoch {step}"
    return f"{done}  " + "  ".join(f"{k} {told_score(v)}" for k, v in list(scores.items())[:4] if v == v)


def told_score(value: float) -> str:
    """A score with four digits; one of thousands, such as bytes, without."""
    return f"{value:.4f}" if abs(value) < 10_000 else f"{value:,.0f}"


def told_number(value: Any) -> str:
    """A parameter, floats with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
