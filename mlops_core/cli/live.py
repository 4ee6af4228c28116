"""A run on a terminal: each finished stage is a line that stays, the running one a bar that moves; a search shows
its table of trials."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, TextIO

from mlops_core.cli.view import View, progress, told_number, told_score
from mlops_core.contracts import Run, Scores
from mlops_core.hookspecs import hookimpl

SHOWN = 12  # rows of the table of trials
COLOURS = {"done": "green", "pruned": "dim", "failed": "red", "running": "cyan"}


class Live(View):
    """The view of a terminal."""

    def __init__(self, out: TextIO, console: Any = None) -> None:
        super().__init__(out)
        from rich.console import Console

        self.console = console or Console(file=out, highlight=False)
        self.status: Any = None
        self.steps = 0
        self.project = Path()

    def __exit__(self, *error: object) -> None:
        self._rest()

    def line(self, text: str) -> None:
        self.console.print(text, markup=False)

    def waiting(self, holder: str) -> None:
        self._say(f"waiting: {holder}")

    @hookimpl
    def mlops_started(self, run: Run, stage: str, cause: str, steps: int) -> None:  # type: ignore[override]
        self.began[stage] = time.monotonic()
        self.steps, self.project = steps, Path(run.project)
        self._say(f"{stage:<9} {cause}", Trials(self.project) if stage == "tune" else None)

    @hookimpl
    def mlops_progress(self, stage: str, step: int, scores: Scores) -> None:
        text = progress(stage, step, scores)
        if self.steps:
            text = f"{_bar(step, self.steps)} {step}/{self.steps}  {text.partition('  ')[2]}"
        self._say(f"{stage:<9} {text}", Trials(self.project) if stage == "tune" else None)

    @hookimpl
    def mlops_finished(self, stage: str, record: Any, skipped: bool) -> None:
        self._rest()
        self.console.print(f"[{'dim' if skipped else 'green'}]{'=' if skipped else '✓'}[/] ", end="")
        self.console.print(f"{stage:<9} {self.told(stage, record, skipped)}", markup=False)

    @hookimpl
    def mlops_failed(self, stage: str, error: str) -> None:
        self._rest()
        self.console.print(f"[red]✗[/] {stage:<9} failed")

    def _rest(self) -> None:
        if self.status is not None:
            self.status.stop()
            self.status = None

    def _say(self, text: str, below: Any = None) -> None:
        from rich.console import Group
        from rich.text import Text

        shown = Group(Text(text), below) if below else Text(text)
        if self.status is None:
            self.status = self.console.status(shown, spinner="dots")
            self.status.start()
        else:
            self.status.update(shown)


class Trials:
    """The table of a search's trials, read from its work folder at most once a second while it is drawn."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.read, self.table = 0.0, None

    def __rich__(self) -> Any:
        if self.table is None or time.monotonic() - self.read > 1:
            self.read, self.table = time.monotonic(), trial_table(self.project)
        return self.table


def trial_table(project: Path) -> Any:
    """The latest trials of the search at work: number, state, parameters, scores, seconds."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("trial", "state", "parameters", "scores", "seconds"):
        table.add_column(title, no_wrap=True)
    trials, objectives = _trials(project)
    for t in trials[-SHOWN:]:
        params = ", ".join(f"{k.rpartition('.')[2]} {told_number(v)}" for k, v in t["params"].items())
        found = t["scores"] or {}
        names = sorted(found, key=lambda name: [name != one for one in objectives])[: max(2, len(objectives))]
        scores = "  ".join(f"{k} {told_score(found[k])}" for k in names if found[k] is not None)
        state = f"[{COLOURS.get(t['state'], '')}]{t['state']}[/]"
        table.add_row(str(t["number"]), state, params, scores, f"{t['seconds']:.0f}")
    return table if trials else ""


def _trials(project: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The trials, and the scores that the search is for."""
    folders = sorted((project / ".mlops" / "work").glob("tune-*"), key=lambda p: p.stat().st_mtime)
    if not folders:
        return [], []
    found = [t for t in map(_read, _lines(folders[-1] / "trials.jsonl")) if t]
    live = _read("".join(_lines(folders[-1] / "live.json"))) or {}
    objectives: Any = _read("".join(_lines(folders[-1] / "objectives.json"))) or []
    return found + [{**r, "state": "running"} for r in live.get("running", ())], objectives


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # not there yet
        return []


def _read(text: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:  # a line that is being written
        return None
    return found


def _bar(step: int, steps: int, width: int = 20) -> str:
    full = min(width, round(width * step / steps))
    return "━" * full + "─" * (width - full)
