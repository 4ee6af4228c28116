"""How far a fit is, and the checkpoint from which a killed one goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from mlops_core import better
from mlops_core.contracts import Goal, Scores
from mlops_core.errors import TrainingError

STATE = "progress.json"


@dataclass(frozen=True)
class Progress:
    """Rounds done, the best of them, and its scores; `began`: the rounds of the fit from which it goes on."""

    rounds: int = 0
    best: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    finished: bool = False
    began: int = 0

    def after(self, scores: Scores, goal: Goal, *, patience: int) -> Progress:
        """With this round scored. It is finished where none was better for `patience` rounds."""
        if math.isfinite(scores[goal.metric]) and better(scores, self.scores if self.best else None, goal):
            return dataclasses.replace(self, best=self.rounds, scores=dict(scores))
        since = self.rounds - max(self.best, self.began)
        return dataclasses.replace(self, finished=bool(patience) and since >= patience)


def write_progress(folder: Path, model: bytes, progress: Progress) -> None:
    """The model first, then the file that names it: a kill between the two leaves the checkpoint before."""
    name = f"{progress.rounds}.model"
    _write(folder / name, model)
    state = {**dataclasses.asdict(progress), "model": name, "sha256": hashlib.sha256(model).hexdigest()}
    _write(folder / STATE, json.dumps(state).encode())
    for old in folder.glob("*.model"):
        if old.name != name:
            old.unlink(missing_ok=True)


def read_progress(folder: Path) -> tuple[bytes, Progress]:
    """What `write_progress` left; from the start where nothing is there, or nothing whole."""
    try:
        state = json.loads((folder / STATE).read_text())
        model = (folder / state.pop("model")).read_bytes()
        if hashlib.sha256(model).hexdigest() != state.pop("sha256"):
            return b"", Progress()
        return model, Progress(**state)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return b"", Progress()


def read_start(folder: Path) -> tuple[bytes, Progress]:
    """The model that a leg goes on from. Raises TrainingError where it is not there whole."""
    model, progress = read_progress(folder)
    if not model:
        raise TrainingError(f"cannot go on from {folder}: it holds no whole checkpoint")
    return model, Progress(rounds=progress.rounds, began=progress.rounds)


def _write(path: Path, content: bytes) -> None:
    passing = path.with_name(f"{path.name}.passing")
    with passing.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(passing, path)
