"""Tuner `ray`, scheduler `pbt`: with a real Ray, on a fit that is cheap and whose members need each other."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlops_ray.runtime import ray_running
from mlops_ray.sweep import ENVIRONMENT
from mlops_ray.tuner import RayTuner

from mlops_core import lineage
from mlops_core.contracts import Distribution, Goal
from mlops_core.errors import TrainingError

# Each step climbs by `rate`. Where `left` says so the fit begins with a mark, by which it is known whose checkpoint it is.
CLIMB = """
import json, os, time
from pathlib import Path

def climb(params, out, report, resources=None, gang=None, start=None, *, whole=6, pause=0.0):
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    own = scratch / "state.json"
    at = own if own.exists() or start.scratch is None else start.scratch / "state.json"
    state = json.loads(at.read_text()) if at.exists() else {"step": 0, "height": 0.0, "began": out.name}
    if at != own:
        state["until"] = state["step"] + start.steps
    state.setdefault("until", start.steps)
    with open(out / "ran", "a") as file:
        file.write(f"{os.getpid()} {state['step']}\\n")
    if params["rate"] < 0.1 and start.after is not None and params.get("soft"):
        raise RuntimeError("the ground is soft here")
    while state["step"] < min(state["until"], whole):
        time.sleep(pause)
        state |= {"step": state["step"] + 1, "height": state["height"] + params["rate"]}
        own.with_suffix(".new").write_text(json.dumps(state))
        os.replace(own.with_suffix(".new"), own)
        report(state["step"], {"height": state["height"]})
    (out / "began").write_text(state["began"])
    if state["step"] == whole:
        own.unlink()
    return {"height": state["height"]}
"""
SPACE = {"rate": Distribution(kind="uniform", args=(0.0, 1.0)), "shape": Distribution(kind="choice", args=([1, 2, 3],))}
GOAL = Goal(metric="height", mode="max", seed=3, changes=("rate",))


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("project")
    (folder / "population_fits.py").write_text(CLIMB)
    sys.path.insert(0, str(folder))
    with ray_running("local", TrainingError, env=ENVIRONMENT, preload=("ray.tune", "mlops_ray.trial")):
        yield importlib.import_module("population_fits")
    sys.path.remove(str(folder))


def test_who_is_behind_goes_on_from_the_best_and_near_it(fits: Any, tmp_path: Path) -> None:
    told: list[Any] = []
    tuner = RayTuner(scheduler="pbt", trials=4, interval=2, concurrency=2)
    tuned = tuner.search(fits.climb, SPACE, GOAL, tmp_path, lambda *one: told.append(one))
    trials = {t.number: t for t in tuned.trials}
    first = [t for t in tuned.trials if t.after is None]
    assert (len(first), {t.state for t in tuned.trials}) == (4, {"done"})
    assert tuned.scores["height"] > 3 * max(t.scores["height"] for t in first), "a leg of the best makes a third of it"
    for trial in trials.values():
        legs = lineage(trials.values(), trial)
        assert trial.scores["height"] == pytest.approx(sum(2 * t.params["rate"] for t in legs))
        assert len({t.params["shape"] for t in legs}) == 1, "what may not change stays with the weights"
        assert trial.steps == 2 * len(legs)
        assert (tmp_path / "trials" / f"{trial.number:04d}" / "began").read_text() == f"{legs[0].number:04d}"
    assert tuned.best is not None and trials[tuned.best].params == tuned.params
    assert len(told) == len(trials)
    assert not any((tmp_path / "trials").glob("*/scratch")), "nobody goes on any more"
    again = tuner.search(fits.climb, SPACE, GOAL, tmp_path, lambda *one: None)
    assert again == tuned and all(len(f.read_text().splitlines()) == 1 for f in tmp_path.glob("trials/*/ran"))
