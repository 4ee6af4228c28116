"""Tuner `ray` with several objectives: on a problem whose front is known, with a real Ray, killed and gone on with."""

from __future__ import annotations

import importlib
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from mlops_ray.board import Board, Limits
from mlops_ray.page import page
from mlops_ray.points import Points
from mlops_ray.runtime import ray_running
from mlops_ray.sweep import ENVIRONMENT
from mlops_ray.tuner import RayTuner

from mlops_core import Trials
from mlops_core.contracts import Distribution, Goal, Trial
from mlops_core.errors import TrainingError

# Schaffer (1985): both at once are best nowhere; the front is 0 <= x <= 2.
GOAL = Goal(metric="one", mode="min", seed=1, objectives={"two": "max"})
WHOLE = {"x": Distribution(kind="randint", args=(-4, 7))}
PLANE = {"x": Distribution(kind="uniform", args=(-10.0, 10.0)), "y": Distribution(kind="uniform", args=(-10.0, 10.0))}
SCHAFFER = """
def schaffer(params, out, report, resources=None):
    scores = {"one": params["x"] ** 2, "two": -((params["x"] - 2) ** 2)}
    for step in range(1, 30):  # whoever stops by the first objective has seen enough
        report(step, {"one": scores["one"]})
    return scores

def poor(params, out, report, resources=None):
    return {"one": 1.0, "tow": 1.0}

def last(params, out, report, resources=None):
    return {"one": params["x"], "two": min(params["x"], 4)}
"""


@pytest.fixture(scope="module")
def objectives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "two_objectives.py").write_text(SCHAFFER)
    sys.path.insert(0, str(folder))
    with ray_running("local", TrainingError, env=ENVIRONMENT, preload=("ray.tune", "mlops_ray.trial")):
        yield importlib.import_module("two_objectives")
    sys.path.remove(str(folder))


def search(objective, space, out, goal=GOAL, **options):
    return RayTuner(**options).search(objective, space, goal, out, lambda *told: None)


def scored(params):
    return {
        "one": params["x"] ** 2 + params.get("y", 0) ** 2,
        "two": -((params["x"] - 2) ** 2) - params.get("y", 0) ** 2,
    }


def dots(body, kind=None):
    found = [e for e in body.iter() if e.tag.endswith("}circle")]
    return [e for e in found if kind is None or e.get("class") == kind]


def trial(number, params, **told):
    return Trial(**{"number": number, "params": params, "scores": scored(params), "state": "done", "seconds": 1} | told)


def test_the_front_is_found_and_no_trial_is_stopped_by_one_objective(objectives, tmp_path):
    tuned = search(objectives.schaffer, WHOLE, tmp_path, sampler="grid", trials=11, grace=2, reduction=2)
    assert {t.state for t in tuned.trials} == {"done"}
    found = {t.number: t.params["x"] for t in tuned.trials}
    assert [found[n] for n in tuned.front] == [0, 1, 2]
    assert tuned.params == {"x": 0}
    text = tuned.report.read_text()
    body = ElementTree.fromstring(text.removeprefix("<!doctype html>\n"))
    assert not re.search(r"(src|href)=|url\(|@import", text)
    assert {int(dot.get("data-n")) for dot in dots(body, "front")} == set(tuned.front)
    offered, every = [[[c.text for c in row] for row in table.iter("tr")] for table in body.iter("table")]
    assert offered[0] == ["tuner.tolerance from", "takes trial", "one", "two"]
    assert [row[:1] + row[2:] for row in offered[1:]] == [["0", "0", "-4"], ["1", "1", "-1"], ["4", "4", "0"]]
    assert every[0] == ["trial", "state", "one", "two", "seconds", "x", "error"]
    again = search(objectives.poor, WHOLE, tmp_path, sampler="grid", trials=11)  # nothing is left to run
    assert again == tuned


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median"])
def test_a_scheduler_that_stops_by_one_objective_is_refused(tmp_path, scheduler):
    with pytest.raises(TrainingError, match=rf"tuner.scheduler: {scheduler} stops trials that are behind in one"):
        search(None, WHOLE, tmp_path, scheduler=scheduler)
    assert RayTuner(scheduler=scheduler).refuses(replace(GOAL, objectives={})) == {}


def test_an_objective_that_is_not_reported_ends_the_search_at_once(objectives, tmp_path):
    with pytest.raises(TrainingError, match=r"objective 'two' is not among the scores.*one, tow; did you mean 'tow'"):
        search(objectives.poor, WHOLE, tmp_path, trials=200)
    assert len(list((tmp_path / "trials").iterdir())) < 10


def test_the_search_ends_when_the_front_stays_as_it_is(objectives, tmp_path):
    """x of 0 to 39: `one` is best at 0, `two` grows up to 4."""
    space = {"x": Distribution(kind="grid", args=(list(range(40)),))}
    tuned = search(objectives.last, space, tmp_path, sampler="grid", trials=40, patience=3, concurrency=1)
    assert sorted(t.params["x"] for t in tuned.trials) == list(range(8))
    assert len(tuned.front) == 5


@pytest.mark.parametrize("trials", [30, 200])
def test_the_sampler_learns_where_the_front_is(tmp_path, trials):
    """The Gaussian process of a short search, the TPE of a long one."""
    known = Trials(tmp_path)
    points = Points(RayTuner(trials=trials), PLANE, GOAL, tmp_path, known)
    near = []
    for _ in range(30):
        point = points.next()
        found = trial(point.number, point.params)
        known.add(found)
        points.tell(found)
        near.append(abs(point.params["y"]) < 3 and -1 <= point.params["x"] <= 3)
    assert sum(near[-15:]) > sum(near[:10])
    again = Points(RayTuner(trials=trials), PLANE, GOAL, tmp_path, known)
    assert [t.values for t in again._study.trials] == [[t.scores["one"], t.scores["two"]] for t in known]


def test_a_trial_without_a_number_for_each_objective_teaches_nothing(tmp_path):
    known = Trials(tmp_path)
    points = Points(RayTuner(trials=4, sampler="random"), WHOLE, GOAL, tmp_path, known)
    for told in ({}, {"one": 1.0}, {"one": 1.0, "two": float("nan")}):
        point = points.next()
        points.tell(trial(point.number, point.params, scores=told))
    assert [t.values for t in points._study.trials] == [None, None, None]


def test_a_warm_start_begins_with_the_best_of_the_last_search_in_each_objective(tmp_path):
    earlier = tuple(trial(i, {"x": x}) for i, x in enumerate((-3, 0, 1, 2, 5)))
    lone = trial(9, {"x": 6}, scores={"one": -9.0})
    goal = replace(GOAL, earlier=(*earlier, lone))
    points = Points(RayTuner(trials=8, warm_start=True), WHOLE, goal, tmp_path, Trials(tmp_path))
    assert [p.params["x"] for p in points.queue] == [0, 2]
    assert len(points._study.trials) == len(earlier)


def test_patience_of_a_search_that_goes_on_counts_from_the_last_change(tmp_path):
    known = Trials(tmp_path)
    for i, x in enumerate((1, 1.5, 5, -3)):
        known.add(trial(i, {"x": x}))
    known.add(trial(5, {"x": 0}, state="pruned"))
    points = Points(RayTuner(), {"x": PLANE["x"]}, GOAL, tmp_path, known)
    for patience, stale in ((3, True), (4, False)):
        board = Board(points, known, GOAL, tmp_path, lambda *told: None, Limits(patience=patience))
        for found in known:
            board.tell(found)
        assert board.stale is stale


def test_the_page_shows_any_front(tmp_path):
    many = [trial(i, {"x": i / 100 - 4}) for i in range(1200)]
    odd = trial(1300, {"x": 0.5}, scores={"one": -5.0, "two": float("nan")})
    failed = trial(1301, {"x": 0.6}, scores={}, state="failed", error="no")
    three = replace(GOAL, objectives={"two": "max", "<three>": "min"})
    cases = [
        (GOAL, many[:1], 1),
        (GOAL, [*many[:2], odd, failed], 1),
        (GOAL, many, 201),
        (GOAL, [odd], 0),
        (GOAL, [failed], 0),
        (three, many, 0),
    ]
    for goal, trials, count in cases:
        body = ElementTree.fromstring(page(WHOLE, goal, trials, {}).removeprefix("<!doctype html>\n"))
        assert len(dots(body, "front")) == count
        for dot in dots(body):
            assert 0 <= float(dot.get("cx")) <= 760 and 0 <= float(dot.get("cy")) <= 260


DRIVER = """
import os, sys, time
from pathlib import Path
from mlops_core.contracts import Distribution, Goal
from mlops_ray.tuner import RayTuner

def objective(params, out, report, resources=None):
    with open(root / "ran", "a") as file:
        file.write(f"{driver} {params['x']}\\n")
    time.sleep(0.2)
    return {"one": params["x"] ** 2, "two": -(params["x"] - 2) ** 2}

root, driver = Path(sys.argv[1]), os.getpid()
space = {"x": Distribution(kind="uniform", args=(-5.0, 5.0))}
goal = Goal(metric="one", mode="min", seed=5, objectives={"two": "max"})
tuned = RayTuner(trials=10).search(objective, space, goal, root, lambda *_: None)
print(*tuned.front)
"""


def test_a_killed_search_for_a_front_repeats_no_finished_trial(tmp_path):
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    kept = tmp_path / "trials.jsonl"
    deadline = time.monotonic() + 90
    while not kept.exists() or kept.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    finished = {json.loads(line)["params"]["x"] for line in kept.read_text().splitlines()}
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stderr) == (0, "")
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert not finished & {float(x) for driver, x in ran if int(driver) != killed.pid}
    trials = {t["number"]: t for t in map(json.loads, kept.read_text().splitlines())}
    assert len(trials) == 10
    front = [trials[int(n)]["scores"] for n in again.stdout.split()]
    assert [s["one"] for s in front] == sorted(s["one"] for s in front)
    assert [s["two"] for s in front] == sorted(s["two"] for s in front)
