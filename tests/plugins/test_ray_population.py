"""Tuner `ray`, scheduler `pbt`: with a real Ray, on a fit that is cheap and whose members need each other."""

from __future__ import annotations

import importlib
import json
import re
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

from mlops_core import api, lineage
from mlops_core.contracts import Distribution, Goal
from mlops_core.errors import TrainingError

# Each step climbs by `rate`; the checkpoint tells in which trial the fit began.
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
    if state["step"] == state["until"]:  # killed after its last step
        report(state["step"], {"height": state["height"]})
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

def fall(params, out, report, resources=None, gang=None, start=None):
    if out.name in ("0001", "0005"):  # a member's first leg, and one that goes on from another
        raise RuntimeError("the ground is soft here")
    return climb(params, out, report, resources, gang, start, pause=0.2)
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
    alone = [3 * t.scores["height"] for t in first]  # what each would have come to by itself
    ended = [t.scores["height"] for t in trials.values() if t.steps == 6]
    assert len(ended) == 4 and sum(ended) > sum(alone) and tuned.scores["height"] == max(ended)
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


DRIVER = """
import functools, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from population_fits import climb
from mlops_core.contracts import Distribution, Goal
from mlops_ray.tuner import RayTuner

space = {"rate": Distribution(kind="uniform", args=(0.0, 1.0))}
goal = Goal(metric="height", mode="max", seed=3, changes=("rate",))
tuner = RayTuner(scheduler="pbt", trials=3, interval=2, concurrency=2)
slowly = functools.partial(climb, whole=8, pause=0.1)
tuned = tuner.search(slowly, space, goal, Path(sys.argv[1]), lambda *_: None)
print(tuned.best, len(tuned.trials))
"""


def test_a_failed_leg_harms_nobody(fits: Any, tmp_path: Path) -> None:
    tuner = RayTuner(scheduler="pbt", trials=4, interval=2, concurrency=2, max_failures=0)
    tuned = tuner.search(fits.fall, SPACE, GOAL, tmp_path, lambda *_: None)
    trials = {t.number: t for t in tuned.trials}
    assert [t.number for t in tuned.trials if t.state == "failed"] == [1, 5] and trials[5].after is not None
    assert all("the ground is soft here" in trials[n].error for n in (1, 5))
    assert all(t.after is None or trials[t.after].state == "done" for t in trials.values())
    ended = {lineage(trials.values(), t)[0].number for t in trials.values() if t.steps == 6}
    assert len([t for t in trials.values() if t.steps == 6]) == 4, "its member goes on from another's"
    assert 1 not in ended
    assert tuned.scores["height"] == max(t.scores["height"] for t in trials.values() if t.state == "done")


def test_a_killed_search_repeats_no_finished_leg(fits: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER, str(tmp_path), str(Path(fits.__file__).parent)]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    kept, deadline = tmp_path / "trials.jsonl", time.monotonic() + 90
    while not kept.exists() or kept.read_bytes().count(b"\n") < 5:
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    finished = {json.loads(line)["number"]: line for line in kept.read_text().splitlines()}
    begun = {p.name: (p / "ran").read_text() for p in (tmp_path / "trials").iterdir() if (p / "ran").exists()}
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stderr) == (0, "")
    trials = {t["number"]: t for t in map(json.loads, kept.read_text().splitlines())}
    best, count = map(int, again.stdout.split())
    assert count == len(trials) and [t["steps"] for t in trials.values()].count(8) == 3
    assert trials[best]["scores"]["height"] == max(t["scores"]["height"] for t in trials.values())
    for number, line in finished.items():
        assert kept.read_text().count(line) == 1
        assert (tmp_path / "trials" / f"{number:04d}" / "ran").read_text() == begun[f"{number:04d}"]
    for trial in trials.values():  # those that were cut off too: they went on from where their members were
        chain = [trial]
        while chain[0]["after"] is not None:
            chain.insert(0, trials[chain[0]["after"]])
        assert trial["scores"]["height"] == pytest.approx(sum(2 * t["params"]["rate"] for t in chain))
        assert trial["steps"] == 2 * len(chain)


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        (["tuner.sampler=grid"], "tuner.sampler", "pbt leaves the points of a grid"),
        (["tuner.trials=1"], "tuner.trials", "two members at least"),
        (["tuner.resources.workers=2"], "tuner.resources.workers", "one worker a trial, got 2"),
        (["tuner.retrain_best=true"], "tuner.retrain_best", "no parameters that a fit could begin with"),
        (["tuner.changes=[trainer.optimizer]"], "tuner.changes", "cannot change on the way of a trial; .*trainer.lr"),
        (["+tuner.objectives.model_bytes=min"], r"population.yaml:2.*tuner.scheduler", "be behind in model_bytes"),
        (["trainer=sklearn"], r"population.yaml:2.*tuner.scheduler", "'sklearn' cannot go on .*: .*lightning"),
        (["~tuner.space.trainer.lr"], r"population.yaml:4.*tuner.space", "none of these .* needs one of: trainer.lr,"),
        (["tuner.space.trainer.lr={choice: [1e-3, 1e-2]}", "tuner.space.trainer.optimizer={choice: [adamw, sgd], "
          "when: {trainer.lr: 1e-3}}"], "tuner.space.*when", "trainer.lr changes on the way, and trainer.optimizer"),
    ],
)  # fmt: skip
def test_what_a_population_cannot_do_is_told_where_it_is_declared(
    tmp_path: Path, changes: list[str], place: str, words: str
) -> None:
    root = api.init(tmp_path / "credit", "credit")
    declared = root / "conf" / "tuner" / "population.yaml"
    declared.parent.mkdir(exist_ok=True)
    declared.write_text(
        "plugin: ray\nscheduler: pbt\ntrials: 4\nspace:\n"
        "  trainer.lr: loguniform(1e-4, 1e-1)\n  trainer.optimizer: [adamw, sgd]\n"
    )
    assert not api.check(root, ["tuner=population"])
    found = [str(p) for p in api.check(root, ["tuner=population", *changes])]
    told = next((p for p in found if re.search(words, p)), "")
    assert re.search(place, told), found
