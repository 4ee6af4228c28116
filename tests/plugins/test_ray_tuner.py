"""Tuner `ray`: a real Ray on this machine, real pruning, real deaths."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from mlops_ray.curves import Curves
from mlops_ray.page import page
from mlops_ray.points import Points
from mlops_ray.runtime import alive, private_folder, ray_running
from mlops_ray.sweep import ENVIRONMENT
from mlops_ray.tuner import RayTuner, Resources

from mlops_core import Trials
from mlops_core.contracts import Distribution, Goal, Trial
from mlops_core.errors import TrainingError
from mlops_core.options import check_options
from mlops_core.testing import check_tuner

GOAL = Goal(metric="auroc", mode="max", seed=1)
SPACE = {
    "lr": Distribution(kind="loguniform", args=(1e-4, 1e-1)),
    "drop": Distribution(kind="uniform", args=(0.0, 0.5)),
    "depth": Distribution(kind="randint", args=(1, 4)),
    "width": Distribution(kind="quniform", args=(0.5, 2.0, 0.25)),
    "hidden": Distribution(kind="choice", args=([[64, 32], [8]],)),
    "kind": Distribution(kind="grid", args=(["a", "b"],)),
}
ONE = {"x": Distribution(kind="grid", args=([0, 1, 2, 3],))}

TREE = {
    "momentum": Distribution(kind="uniform", args=(0.0, 1.0), when={"optimizer": ("sgd",)}),
    "optimizer": Distribution(kind="choice", args=(["adam", "sgd"],)),
    "beta": Distribution(kind="uniform", args=(0.0, 1.0), when={"optimizer": ("adam",)}),
}

# A project's own module, which a worker can import only because the driver can.
OBJECTIVES = '''
import ctypes, os, resource, signal, time
from mlops_core.contracts import Pruned

def smooth(params, out, report, resources=None):
    score = 0.9 - abs(params["drop"] - 0.25) - 0.05 * (params["kind"] == "a")
    report(1, {"auroc": score - 0.1, "loss": 1.0})
    return {"auroc": score, "loss": 1.0}

def steps(params, out, report, resources=None):
    """Worse with every x; asha stops what is behind. Says when it was unwound, and by which process it ran."""
    (out / "pid").write_text(str(os.getpid()))
    try:
        for step in range(1, 41):
            report(step, {"auroc": 1 - params["x"] / 10 + step / 1000})
            time.sleep(0.01)
    except Pruned:
        (out / "unwound").touch()
        raise
    return {"auroc": 1 - params["x"] / 10}

def fragile(params, out, report, resources=None):
    """x=1 is killed once and goes on from its checkpoint; x=2 always raises; x=3 is pruned by itself."""
    scratch = out / "scratch"
    scratch.mkdir(exist_ok=True)
    print("attempt at", params["x"])
    if params["x"] == 1 and not (scratch / "checkpoint").exists():
        (scratch / "checkpoint").write_text("epoch 7")
        report(7, {"auroc": 0.1})
        os.kill(os.getpid(), signal.SIGKILL)
    if params["x"] == 1:
        (out / "resumed").write_text((scratch / "checkpoint").read_text())
    if params["x"] == 2:
        raise ValueError("the loss is not finite")
    report(1, {"auroc": 0.5})
    if params["x"] == 3:
        raise Pruned
    return {"auroc": 0.5 + params["x"] / 100}

def deadly(params, out, report, resources=None):
    """x=0 hangs in C and holds the interpreter's lock; x=1 finds no memory; x=2 is killed; x=3 is well."""
    with (out / "pids").open("a") as file:
        print(os.getpid(), file=file)
    report(1, {"auroc": 0.1})
    if params["x"] == 0:
        ctypes.PyDLL(None).pause()
    if params["x"] == 1:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (2**31, hard))
        try:
            bytearray(2**40)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    if params["x"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"auroc": 0.5}

def flat(params, out, report, resources=None):
    time.sleep(0.1)
    return {"auroc": 0.5 - params["x"] / 1e6}

def broken(params, out, report, resources=None):
    raise ValueError("no convergence")

def blind(params, out, report, resources=None):
    (out / "reported").write_text(str(time.monotonic()))
    report(1, {"accuracy": 0.5})
    time.sleep(60)

def slow(params, out, report, resources=None):
    for step in range(1, 600):
        report(step, {"auroc": 0.5 + params["x"] / 100})
        time.sleep(0.05)
    return {"auroc": 1.0}
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "objectives_of_mine.py").write_text(OBJECTIVES)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def objectives(project):
    with ray_running("local", TrainingError, env=ENVIRONMENT, preload=("ray.tune", "mlops_ray.trial")):
        yield importlib.import_module("objectives_of_mine")


def search(objective, space, out, **options):
    said, lock = [], threading.RLock()

    def report(*told):
        with lock:  # what reports may hold what cannot be pickled
            said.append(told)

    return RayTuner(**options).search(objective, space, GOAL, out, report), said


def test_all_kinds_of_dimensions_are_searched_and_the_best_is_found(objectives, tmp_path):
    tuned, said = search(objectives.smooth, SPACE, tmp_path, trials=12)
    assert len(tuned.trials) == 12
    assert {t.state for t in tuned.trials} == {"done"}
    assert tuned.scores == max((t.scores for t in tuned.trials), key=lambda s: s["auroc"])
    assert sorted(step for step, _ in said) == list(range(1, 13))
    for params in (t.params for t in tuned.trials):
        assert 1e-4 <= params["lr"] <= 1e-1
        assert 0 <= params["drop"] <= 0.5
        assert params["depth"] in (1, 2, 3)
        assert params["width"] in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
        assert params["hidden"] in ([64, 32], [8])
        assert params["kind"] in ("a", "b")
    kept = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert [t["number"] for t in kept] == [t.number for t in tuned.trials]

    again, said = search(objectives.broken, SPACE, tmp_path, trials=12)  # nothing is left to run
    assert again == tuned
    assert len(said) == 12


def test_ray_starts_no_process_that_nobody_needs_here(objectives):
    files = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it is ending
            files |= {Path(word).name for word in process.cmdline()[:3]}
    assert "raylet" in files and not files & {"monitor.py", "log_monitor.py", "dashboard.py"}


def test_asha_stops_what_falls_behind_and_the_process_goes_on(objectives, tmp_path):
    tuned, _ = search(objectives.steps, ONE, tmp_path, sampler="grid", grace=2, reduction=2, concurrency=1)
    states = {t.params["x"]: t.state for t in tuned.trials}
    assert states == {0: "done", 1: "pruned", 2: "pruned", 3: "pruned"}
    assert tuned.params == {"x": 0}
    folders = sorted((tmp_path / "trials").iterdir())
    assert [(f / "unwound").exists() for f in folders] == [False, True, True, True]
    assert len({(f / "pid").read_text() for f in folders}) == 1


def test_a_killed_trial_goes_on_and_a_raising_one_is_passed_over(objectives, tmp_path, capfd):
    tuned, _ = search(objectives.fragile, ONE, tmp_path, sampler="grid", scheduler="none", max_failures=1)
    found = {t.params["x"]: t for t in tuned.trials}
    assert {x: t.state for x, t in found.items()} == {0: "done", 1: "done", 2: "failed", 3: "pruned"}
    assert tuned.params == {"x": 1}
    assert (tmp_path / "trials" / f"{found[1].number:04d}" / "resumed").read_text() == "epoch 7"
    assert found[2].error.startswith("ValueError: the loss is not finite (objectives_of_mine.py:")
    log = (tmp_path / "trials" / f"{found[2].number:04d}" / "output.log").read_text()
    assert log.count("attempt at 2") == 2
    assert "Traceback" in log
    assert capfd.readouterr() == ("", "")
    assert found[3].scores == {"auroc": 0.5}
    assert not (tmp_path / "live.json").exists()


def test_when_all_fail_the_first_reason_is_told(objectives, tmp_path):
    with pytest.raises(TrainingError, match=r"all 4 trials failed; trial \d with x=\d: ValueError: no convergence"):
        search(objectives.broken, ONE, tmp_path, sampler="grid", max_failures=0)


def test_a_metric_that_is_never_reported_ends_the_search_at_once(objectives, tmp_path):
    with pytest.raises(TrainingError, match=r"metric 'auroc' is not among the scores.*it reports accuracy"):
        search(objectives.blind, ONE, tmp_path)
    first = min(float(f.read_text()) for f in tmp_path.glob("trials/*/reported"))
    assert time.monotonic() - first < 15


def test_the_time_budget_ends_the_search_with_what_there_is(objectives, tmp_path):
    tuned, _ = search(objectives.slow, ONE, tmp_path, time_budget="15s")
    assert {t.state for t in tuned.trials} == {"pruned"}
    assert tuned.scores["auroc"] >= 0.5


@pytest.mark.parametrize("scheduler", ["hyperband", "median"])
def test_other_schedulers_stop_what_is_behind(objectives, tmp_path, scheduler):
    space = {"x": Distribution(kind="grid", args=(list(range(12)),))}
    options = {"sampler": "grid", "scheduler": scheduler, "grace": 2, "reduction": 2, "concurrency": 1, "trials": 12}
    tuned, _ = search(objectives.steps, space, tmp_path, **options)
    states = {t.params["x"]: t.state for t in tuned.trials}
    assert len(states) == 12
    assert set(states.values()) == {"done", "pruned"}
    assert tuned.params == {"x": 0}
    for folder in (tmp_path / "trials").iterdir():  # none was begun twice: a pause would
        assert len((folder / "pid").read_text().split()) == 1


def test_the_search_is_shown_on_a_page_that_needs_nothing_else(objectives, tmp_path):
    tuned, _ = search(objectives.steps, ONE, tmp_path, sampler="grid", grace=2, reduction=2, concurrency=1)
    assert tuned.report == tmp_path / "report.html"
    text = tuned.report.read_text()
    body = ElementTree.fromstring(text.removeprefix("<!doctype html>\n"))
    assert not re.search(r"(src|href)=|url\(|@import", text)
    rows = [[cell.text for cell in row] for row in body.iter("tr")]
    assert rows[0] == ["trial", "state", "auroc", "seconds", "x", "error"]
    assert [row[4] for row in rows[1:]] == ["0", "1", "2", "3"]  # the best first
    curves = Curves(tmp_path).read()
    assert [step for step, _ in curves[tuned.trials[0].number]] == list(range(1, 41))
    for trial in tuned.trials:  # in each picture and in the table
        assert len(body.findall(f".//*[@data-n='{trial.number}']")) == 4


def test_the_page_shows_any_search(tmp_path):
    hard = Trial(
        number=0, params={"optimizer": "<b>&", "momentum": 0.5}, scores={}, state="failed", seconds=1, error="<a&"
    )
    trials = [hard] + [
        Trial(number=i, params={"optimizer": "adam", "beta": i / 1e3}, scores={"auroc": i % 7}, state="done", seconds=1)
        for i in range(1, 700)
    ]
    for found in ([hard], trials[:2], trials):
        text = page(TREE, GOAL, found, {1: [(1, 0.5), (2, 0.6)]})
        body = ElementTree.fromstring(text.removeprefix("<!doctype html>\n"))
        assert len(list(body.iter("tr"))) == 1 + min(500, len(found))


def test_curves_of_long_trials_are_thinned_and_a_torn_line_is_passed_over(tmp_path):
    curves = Curves(tmp_path)
    for step in range(10_000):
        curves.add(3, step, step / 10)
    with curves.path.open("a") as file:
        file.write("[3, 10000, 0.")
    again = Curves(tmp_path)
    again.add(4, 1, 0.5)
    again.add(4, 1, 0.7)
    again.add(4, 2, float("nan"))
    found = again.read()
    assert found[4] == [(1, 0.7)]
    assert found[3][:100] == [(step, step / 10) for step in range(100)]
    assert 600 < len(found[3]) < 700


def test_a_hang_a_kill_and_want_of_memory_are_told_and_cost_no_other_trial(objectives, tmp_path):
    options = {"sampler": "grid", "scheduler": "none", "max_failures": 1, "trial_timeout": "3s", "concurrency": 2}
    tuned, _ = search(objectives.deadly, ONE, tmp_path, **options)
    found = {t.params["x"]: t for t in tuned.trials}
    assert {x: t.state for x, t in found.items()} == {0: "failed", 1: "failed", 2: "failed", 3: "done"}
    assert found[0].error == "it took longer than 3 s and was killed; output.log says where it stood"
    assert found[1].error.startswith("MemoryError (objectives_of_mine.py:")
    assert found[2].error == "its process died (killed, or out of memory)"
    folders = {x: tmp_path / "trials" / f"{t.number:04d}" for x, t in found.items()}
    pids = {x: (f / "pids").read_text().split() for x, f in folders.items()}
    assert {x: len(p) for x, p in pids.items()} == {0: 1, 1: 2, 2: 2, 3: 1}  # a hang is not tried again
    deadline = time.monotonic() + 10
    while alive(int(pids[0][0])):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "in deadly" in (folders[0] / "output.log").read_text()


def test_the_search_ends_when_nothing_better_comes(objectives, tmp_path):
    options = {"sampler": "grid", "scheduler": "none", "patience": 4, "trials": 40, "concurrency": 1}
    space = {"x": Distribution(kind="grid", args=(list(range(40)),))}
    tuned, _ = search(objectives.flat, space, tmp_path, **options)
    assert [t.params["x"] for t in tuned.trials] == [0, 1, 2, 3, 4]
    again, _ = search(objectives.broken, space, tmp_path, **options)
    assert again == tuned


def test_the_cost_of_all_trials_ends_the_search_also_over_a_kill(objectives, tmp_path):
    (tmp_path / "seconds").write_text("6")  # what a search that was killed had used
    options = {"sampler": "grid", "scheduler": "none", "cost": "8s", "concurrency": 1, "resources": Resources(cpus=0.5)}
    tuned, _ = search(objectives.slow, ONE, tmp_path, **options)
    assert {t.state for t in tuned.trials} == {"pruned"}
    assert sum(t.seconds for t in tuned.trials) == pytest.approx(10, abs=3)
    again, _ = search(objectives.broken, ONE, tmp_path, **options)
    assert again == tuned


def test_a_sampler_that_comes_back_to_known_points_does_not_end_the_search(tmp_path):
    known, space = Trials(tmp_path), {"x": Distribution(kind="randint", args=(0, 5000))}
    points = Points(RayTuner(trials=40), space, GOAL, tmp_path, known)
    for _ in range(40):
        point = points.next()
        assert point
        trial = Trial(number=point.number, params=point.params, scores={"auroc": 0.5}, state="done", seconds=1)
        known.add(trial)
        points.tell(trial)
    assert len(known) == 40


@pytest.mark.parametrize("sampler", ["auto", "random"])
def test_where_a_condition_does_not_hold_the_parameter_is_absent(tmp_path, sampler):
    known = Trials(tmp_path)
    points = Points(RayTuner(trials=60, sampler=sampler), TREE, GOAL, tmp_path, known)
    scores = []
    for _ in range(60):
        point = points.next()
        assert list(point.params) in (["momentum", "optimizer"], ["optimizer", "beta"])
        sgd = point.params["optimizer"] == "sgd"
        assert sgd == ("momentum" in point.params)
        score = 1 - abs(point.params["momentum"] - 0.7) if sgd else 0.5 * point.params["beta"]
        trial = Trial(number=point.number, params=point.params, scores={"auroc": score}, state="done", seconds=1)
        known.add(trial)
        points.tell(trial)
        scores.append(score)
    assert len(known) == 60
    if sampler == "auto":  # it learns on which side to look
        assert sum(scores[-20:]) > sum(scores[:20])
        again = Points(RayTuner(trials=61, sampler=sampler), TREE, GOAL, tmp_path, known)
        assert len(again._study.trials) == 60


def test_a_warm_start_learns_from_the_last_search_and_begins_with_its_best(tmp_path):
    def trial(number, params, score, state="done"):
        return Trial(number=number, params=params, scores={"auroc": score}, state=state, seconds=1)

    def score(params):
        return 1 - abs(params["momentum"] - 0.7) if "momentum" in params else 0.2

    tried = [{"optimizer": "sgd", "momentum": i / 20} for i in range(20)]
    tried += [{"optimizer": "adam", "beta": i / 20} for i in range(5)]
    earlier = [trial(i, params, score(params)) for i, params in enumerate(tried)]
    other = [
        trial(20, {"optimizer": "sgd", "momentum": 1.5}, 9),  # of another space
        trial(21, {"optimizer": "adam", "momentum": 0.5}, 9),
        trial(22, {"optimizer": "lion", "beta": 0.5}, 9),
        trial(23, {"optimizer": "sgd", "momentum": 0.1}, 9, "failed"),
        Trial(number=24, params={"optimizer": "sgd", "momentum": 0.2}, scores={"f1": 9}, state="done", seconds=1),
    ]
    goal = replace(GOAL, earlier=(*earlier, *other))
    points = Points(RayTuner(trials=8, warm_start=True), TREE, goal, tmp_path, Trials(tmp_path))
    found = []
    for _ in range(8):
        point = points.next()
        found.append(point.params)
        points.tell(trial(point.number, point.params, score(point.params)))
    assert found[0] == {"optimizer": "sgd", "momentum": 0.7}
    assert sum(map(score, found[1:])) / 7 > 0.75  # chance gives 0.45
    again = Points(RayTuner(trials=8, warm_start=True), TREE, goal, tmp_path, Trials(tmp_path))
    assert [p.params for p in again.queue] == found


def test_a_torn_line_hides_no_point_that_is_started_after_it(tmp_path):
    (tmp_path / "points.jsonl").write_text('{"number": 0, "params": {"x": 2}}\n{"number": 1, "par')
    points = Points(RayTuner(sampler="grid"), ONE, GOAL, tmp_path, Trials(tmp_path))
    started = [points.next() for _ in range(3)]
    assert Points(RayTuner(sampler="grid"), ONE, GOAL, tmp_path, Trials(tmp_path)).queue == started


def test_a_space_smaller_than_the_budget_is_tried_once(objectives, tmp_path):
    tuned, _ = search(objectives.steps, ONE, tmp_path, trials=9, scheduler="none")
    assert sorted(t.params["x"] for t in tuned.trials) == [0, 1, 2, 3]


def test_what_no_machine_has_is_refused_at_once(objectives, tmp_path):
    with pytest.raises(TrainingError, match=r"a trial wants 512 cpus, 1 gpus, which no node has; there is \d+ cpus"):
        search(objectives.smooth, SPACE, tmp_path, resources=Resources(cpus=512, gpus=1))


def test_it_keeps_the_promises_of_a_tuner(objectives, tmp_path):
    check_tuner(RayTuner(trials=8, sampler="grid", scheduler="none", max_failures=0), tmp_path, modes=("max",))


def test_an_empty_space_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="search space is empty"):
        search(None, {}, tmp_path)


def test_options_out_of_range_are_told():
    wrong = {"trials": 0, "sampler": "tpe", "time_budget": "soon", "resources": {"memory": "much"}}
    assert {p.key for p in check_options(RayTuner, wrong)} >= {"trials", "sampler", "resources"}
    assert "cost must be more than nothing, got 0" in str(check_options(RayTuner, {"cost": 0})[0])
    assert "sampler 'grid' learns nothing" in str(check_options(RayTuner, {"warm_start": True, "sampler": "grid"})[0])
    assert RayTuner(trial_timeout="2m").seconds("trial_timeout") == 120
    assert "10m or 1h30m" in str(check_options(RayTuner, {"time_budget": "soon"})[0])
    assert RayTuner(time_budget="1h30m").seconds() == 5400
    assert Resources(memory="1.5GiB").bytes() == 3 * 2**29
    assert check_options(RayTuner, {"resources": {"cpus": 2}, "time_budget": 60, "preload": ["torch"]}) == []


DRIVER = """
import contextlib, json, os, sys
from pathlib import Path
from mlops_core.contracts import Distribution, Goal
from mlops_ray.tuner import RayTuner

def look():
    import psutil

    processes = psutil.Process(driver).children(recursive=True)
    lasting = [p for p in processes if "ray::" not in p.name()]
    found = [(c.laddr.ip, c.laddr.port) for p in lasting for c in p.net_connections() if c.status == "LISTEN"]
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    modes = [token.stat().st_mode & 0o777, token.parent.stat().st_mode & 0o777]
    facts = {"listening": found, "modes": modes, "pids": [p.pid for p in lasting], "folder": str(token.parent)}
    (root / "facts.json").write_text(json.dumps(facts))

def objective(params, out, report, resources=None):
    import time

    with open(root / "ran", "a") as file:
        file.write(f"{driver} {params['x']}\\n")
    if not (root / "facts.json").exists():
        with contextlib.suppress(Exception):  # a process may end while we look at it
            look()
    time.sleep(0.2)
    report(1, {"m": params["x"]})
    return {"m": params["x"]}

root, driver = Path(sys.argv[1]), os.getpid()
space = {"x": Distribution(kind="randint", args=(0, 1_000_000))}
tuner = RayTuner(trials=14, sampler="random", address=sys.argv[2])
tuner.search(objective, space, Goal(metric="m", mode="max", seed=5), root, lambda *_: None)
import ray
assert not ray.is_initialized()
"""


def starting(folder):
    """Workers of a Ray in `folder` that are not at work yet: they will make their part of it again if it is gone."""
    return [p for p in psutil.process_iter(["cmdline"]) if any(folder in word for word in p.info["cmdline"] or ())]


def test_a_killed_search_repeats_no_finished_trial_in_silence_and_behind_closed_doors(tmp_path):
    command = [sys.executable, "-c", DRIVER, str(tmp_path), "local"]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    kept = tmp_path / "trials.jsonl"
    deadline = time.monotonic() + 90
    while not kept.exists() or kept.read_bytes().count(b"\n") < 4:
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.stdout.read().decode()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    finished = {json.loads(line)["params"]["x"] for line in kept.read_text().splitlines()}

    facts = json.loads((tmp_path / "facts.json").read_text())
    assert {ip.removeprefix("::ffff:") for ip, _ in facts["listening"]} == {"127.0.0.1"}
    assert facts["modes"] == [0o600, 0o700]
    deadline = time.monotonic() + 90
    while any(alive(pid) for pid in facts["pids"]) or starting(facts["folder"]):  # agents notice within a minute
        assert time.monotonic() < deadline
        time.sleep(0.1)

    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    ran = [tuple(map(int, line.split())) for line in (tmp_path / "ran").read_text().splitlines()]
    assert not finished & {x for driver, x in ran if driver != killed.pid}
    assert len(kept.read_text().splitlines()) == len({x for _, x in ran}) == 14
    assert not Path(facts["folder"]).exists()


GREEDY = """
import json, os, psutil, sys, time
from pathlib import Path
from mlops_core.contracts import Distribution, Goal
from mlops_ray.tuner import RayTuner

memory = psutil.virtual_memory()
allowed = memory.total - memory.available + 2**31
os.environ["RAY_memory_usage_threshold"] = str(allowed / memory.total)
os.environ["RAY_memory_monitor_refresh_ms"] = "100"

def objective(params, out, report, resources=None):
    report(1, {"m": params["x"]})
    held = []
    while params["x"] == 1 and len(held) < 64:
        held.append(b"x" * 2**26)
        time.sleep(0.02)
    return {"m": params["x"]}

space = {"x": Distribution(kind="grid", args=([0, 1, 2],))}
tuner = RayTuner(sampler="grid", scheduler="none", max_failures=0, concurrency=1)
tuner.search(objective, space, Goal(metric="m", mode="max", seed=5), Path(sys.argv[1]), lambda *_: None)
"""


def test_a_trial_that_takes_all_memory_is_killed_and_told_and_the_others_go_on(tmp_path):
    command = [sys.executable, "-c", GREEDY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    trials = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    errors = {t["params"]["x"]: t["error"] for t in trials}
    assert errors == {0: "", 1: "its process was killed, since the machine ran out of memory", 2: ""}


def test_a_private_folder_goes_with_its_process_whoever_has_its_id_next(tmp_path):
    code = "from mlops_ray.runtime import private_folder as p; f = p(); print(f.__enter__(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        theirs = Path(other.stdout.readline().strip())
        with private_folder() as mine:
            assert (mine / "lock").exists()
            assert theirs.exists()
        other.kill()
    assert theirs.exists()
    with private_folder():
        assert not theirs.exists()
    (theirs / "ray" / "session").mkdir(parents=True)  # as by a worker of theirs that was still starting
    with private_folder() as mine:
        assert not theirs.exists()
        assert mine.exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no ray cluster answers at '127.0.0.1:1'"),
        ("a" * 70 + ":6379", "no ray cluster answers at 'aaaa"),
        ("nowhere", "address 'nowhere' is neither 'local', 'auto' nor 'host:port'"),
    ],
)
def test_a_cluster_that_does_not_answer_is_told(tmp_path, address, message):
    command = [sys.executable, "-c", DRIVER, str(tmp_path), address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert message in done.stderr
