"""The models of the best trials of a search, kept so that the search need not be followed by the same fit again.

    <models>/<digest of its parameters>/model/    <models>/<digest of its parameters>/trial.json

Trials end in any process, several at once; which of two as good as each other is the best is for the tuner to say.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from pathlib import Path

from mlops_core.contracts import Mode, Params, Scores
from mlops_core.objects.disk import replace_folder
from mlops_core.trials import key_of


def keep(models: Path, params: Params, model: Path, score: float, mode: Mode) -> None:
    """Takes the folder `model` among the kept, unless a better one is there; what is worse goes."""
    from filelock import FileLock

    if not math.isfinite(score):
        return
    cost, mine = -score if mode == "max" else score, _home(models, params)
    models.mkdir(parents=True, exist_ok=True)
    with FileLock(models / "lock"):
        others = {told.parent: json.loads(told.read_text())["cost"] for told in models.glob("*/trial.json")}
        others.pop(mine, None)
        if cost > min(others.values(), default=math.inf):
            return
        for other, its in others.items():
            if its > cost:
                shutil.rmtree(other)
        fresh = models / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        shutil.copytree(model, fresh / "model", copy_function=_link)
        (fresh / "trial.json").write_text(json.dumps({"cost": cost, "score": score}))
        replace_folder(fresh, mine)


def kept(models: Path, params: Params, scores: Scores, metric: str) -> Path | None:
    """The model of the trial with these parameters and scores, where it was kept."""
    try:
        told = json.loads((_home(models, params) / "trial.json").read_bytes())
    except FileNotFoundError:  # it ran on another machine, or its trainer left no model
        return None
    return _home(models, params) / "model" if told["score"] == scores[metric] else None


def _home(models: Path, params: Params) -> Path:
    return models / hashlib.sha256(key_of(params).encode()).hexdigest()[:16]


def _link(one: str, other: str) -> None:
    """The trial's folder and this one go one after the other; neither is written to again."""
    try:
        os.link(one, other)
    except OSError:
        shutil.copyfile(one, other)
