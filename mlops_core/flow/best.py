"""The models of the best trials of a search, kept so that the search need not be followed by the same fit again: of one
objective the best, of several those on the front.

    <models>/<digest>/model/    <models>/<digest>/trial.json    of its parameters, and of the trial that it went on from

Trials end in any process, several at once; which of two as good as each other is the best is for the tuner to say.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mlops_core.contracts import Params, Scores, Trial
from mlops_core.objects.disk import replace_folder
from mlops_core.pareto import Costs, dominates
from mlops_core.trials import key_of

MODEL = "[0-9a-f]" * 16  # the name of its folder; beside them there may be what was half-made


def keep(models: Path, params: Params, model: Path, score: float, costs: Costs, after: int | None = None) -> None:
    """Takes the folder `model` among the kept, unless one that dominates it is there; what it dominates goes."""
    from filelock import FileLock

    mine = _home(models, params, after)
    models.mkdir(parents=True, exist_ok=True)
    with FileLock(models / "lock"):
        others = _others(models, mine)
        if any(dominates(its, costs) for its in others.values()):
            return
        for other, its in others.items():
            if dominates(costs, its):
                shutil.rmtree(other)
        fresh = models / "fresh"
        for left in (fresh, *models.glob("old-*")):  # by a kill, or by one that took another's place
            shutil.rmtree(left, ignore_errors=True)
        fresh.mkdir()
        shutil.copytree(model, fresh / "model", copy_function=_link)
        (fresh / "trial.json").write_text(json.dumps({"costs": costs, "score": score}))
        replace_folder(fresh, mine)


def wanted(models: Path, params: Params, costs: Costs, after: int | None = None) -> bool:
    """Whether `keep` would take it now."""
    from filelock import FileLock

    models.mkdir(parents=True, exist_ok=True)
    with FileLock(models / "lock"):
        return not any(dominates(its, costs) for its in _others(models, _home(models, params, after)).values())


def kept(models: Path, params: Params, scores: Scores, metric: str, after: int | None = None) -> Path | None:
    """The model of the trial with these parameters and scores, where it was kept."""
    home = _home(models, params, after)
    try:
        told = json.loads((home / "trial.json").read_bytes())
    except FileNotFoundError:  # it could not be brought from another machine, or its trainer left none
        return None
    return home / "model" if told["score"] == scores[metric] else None


def kept_front(models: Path, front: Sequence[Trial], metric: str) -> Path | None:
    """A folder with the models of these trials, as far as they were kept, each under its trial's number."""
    home = models / "front"
    shutil.rmtree(home, ignore_errors=True)
    for trial in front:
        model = kept(models, trial.params, trial.scores, metric, trial.after)
        if model is not None:
            shutil.copytree(model, home / f"{trial.number:04d}", copy_function=_link)
    return home if home.exists() else None


def _others(models: Path, mine: Path) -> dict[Path, Costs]:
    found = {told.parent: tuple(json.loads(told.read_text())["costs"]) for told in models.glob(f"{MODEL}/trial.json")}
    found.pop(mine, None)
    return found


def _home(models: Path, params: Params, after: int | None) -> Path:
    return models / hashlib.sha256(key_of(params, after).encode()).hexdigest()[:16]


def _link(one: str, other: str) -> None:
    """The trial's folder and this one go one after the other; neither is written to again."""
    try:
        os.link(one, other)
    except OSError:
        shutil.copyfile(one, other)
