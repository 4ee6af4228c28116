"""Each contract kit passes a plugin that keeps its promises, and says in words which promise another breaks."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_core import ModelFile, Trials, create_app, grid_points, hookimpl, read_split, score
from mlops_core.contracts import Endpoint, Profile, Pruned, Submission, Trial, Tuned, Verdict
from mlops_core.errors import DataError, ServingError, UsageError
from mlops_core.testing import (
    BrokenPromise,
    check_data,
    check_deployer,
    check_launcher,
    check_monitor,
    check_observer,
    check_options,
    check_trainer,
    check_tuner,
    make_bundle,
    make_dataset,
)


def altered(cls: type, **methods: Any) -> type:
    """The plugin `cls` with other methods: one broken promise at a time."""
    made = type(cls.__name__, (cls,), {"__doc__": cls.__doc__, **methods})
    return dataclass(frozen=True)(made)


def says(words: str) -> Any:
    return pytest.raises(BrokenPromise, match=words)


# --- options ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Documented:
    """A plugin.

    size: how large
    """

    size: int = 1


def test_options() -> None:
    check_options(Documented())
    with says("must be a dataclass"):
        check_options(3)
    with says("must be frozen"):
        check_options(dataclass(type("Loose", (), {"__doc__": "Manual."}))())
    with says("needs a docstring"):
        check_options(dataclass(frozen=True)(type("Silent", (), {}))())
    with says("option 'colour' needs a line 'colour: ...'"):
        check_options(
            dataclasses.make_dataclass("Half", [("colour", str, "red")], frozen=True, namespace={"__doc__": "M."})()
        )
    with says("cannot be given as YAML"):
        check_options(Documented(size=object()))  # type: ignore[arg-type]


# --- data ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """A Parquet file.

    path: the file
    """

    path: Path

    def read(self) -> Any:
        if not self.path.exists():
            raise DataError(f"{self.path} is not there")
        return pl.scan_parquet(self.path)

    def schema(self) -> Any:
        return {k: str(v).lower() for k, v in pl.read_parquet_schema(self.path).items()}

    def fingerprint(self) -> Any:
        return {str(self.path): str(hash(self.path.read_bytes()))}


def quiet(self: Any) -> Any:
    return pl.read_parquet(self.path) if self.path.exists() else pl.DataFrame()


BAD_DATA: dict[str, tuple[dict[str, Any], str]] = {
    "no table": ({"read": lambda self: [1, 2]}, "must return a polars LazyFrame or an object with __arrow_c_stream__"),
    "random": ({"read": lambda self: pl.DataFrame({"a": [random.random()]})}, "must give the same table"),
    "other schema": ({"schema": lambda self: {"b": "int64"}}, "must name the columns of read"),
    "other dtype": ({"schema": lambda self: {"a": "float32", "b": "string"}}, "'a' is 'float32', read gave"),
    "odd fingerprint": ({"fingerprint": lambda self: {"a": 1}}, "mapping of part to digest, both text"),
    "restless": ({"fingerprint": lambda self: {"a": str(random.random())}}, "must be the same when nothing changed"),
    "blind": ({"fingerprint": lambda self: {"a": "b"}}, "must change when the data changes"),
    "messy": ({"schema": lambda self: Path("x").write_text("") or File.schema(self)}, "must not write outside"),
    "wandering": ({"schema": lambda self: os.chdir("/") or File.schema(self)}, "must not change the current folder"),
    "raw error": ({"read": lambda self: pl.read_parquet(self.path)}, "must raise DataError where there is no"),
    "silent": ({"read": quiet}, "must raise DataError where there is no data; it returned a table"),
}  # fmt: skip


def make_file(folder: Path) -> Path:
    pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}).write_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def check_file(cls: type, folder: Path) -> None:
    path = make_file(folder)
    here = Path.cwd()
    try:
        check_data(
            cls(path), folder, missing=cls(folder / "gone"), change=lambda: pl.DataFrame({"a": [3]}).write_parquet(path)
        )
    finally:
        os.chdir(here)


def test_data_kept(tmp_path: Path) -> None:
    check_file(File, tmp_path)


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_broken(case: str, tmp_path: Path) -> None:
    methods, words = BAD_DATA[case]
    with says(words):
        check_file(altered(File, **methods), tmp_path)


# --- trainer ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant:
    """The same answer for all."""

    def fit(self, dataset: Any, job: Any) -> Any:
        _, target = read_split(dataset, "train")
        known = dataset.task != "regression"
        learned = np.bincount(target, minlength=len(dataset.classes)) if known else target.mean(keepdims=True)
        np.save(job.out / "learned.npy", learned / learned.sum() if known else learned)
        ModelFile(format="own", task=dataset.task, target=dataset.target, classes=dataset.classes).write(job.out)
        columns, target = read_split(dataset, "validation")
        scores = score(dataset.task, target, self.load(job.out)(columns))
        job.report(1, scores)
        return scores

    def load(self, path: Path) -> Any:
        model, learned = ModelFile.read(path), np.load(path / "learned.npy")
        return lambda columns: model.answer(np.tile(learned, (len(columns["count"]), 1)))


def answering(**changes: Callable[[Any], Any]) -> dict[str, Any]:
    """A trainer whose predictor's answers are changed."""

    def load(self: Any, path: Path) -> Any:
        predict = Constant.load(self, path)

        def changed(columns: Any) -> Any:
            answer = dict(predict(columns))
            for name, change in changes.items():
                answer[name] = change(answer[name])
            return answer

        return changed

    return {"load": load, "fit": Constant.fit}


def fitting(before: Callable[[Any, Any], Any] | None = None, after: Callable[[Any, Any], Any] | None = None) -> Any:
    """A trainer that does something before, or something to its scores after."""

    def fit(self: Any, dataset: Any, job: Any) -> Any:
        if before:
            before(dataset, job)
        scores = Constant.fit(self, dataset, job)
        return after(scores, job) if after else scores

    return {"fit": fit}


def swallow(self: Any, dataset: Any, job: Any) -> Any:
    try:
        return Constant.fit(self, dataset, job)
    except Pruned:
        return {"auroc": 0.5, "log_loss": 1.0}


def wrap(self: Any, dataset: Any, job: Any) -> Any:
    try:
        return Constant.fit(self, dataset, job)
    except Pruned as error:
        raise RuntimeError("trial ended") from error


def spoil(self: Any, path: Path) -> Any:
    predict = Constant.load(self, path)

    def changed(columns: Any) -> Any:
        columns["count"][:] = 0
        return predict(columns)

    return changed


def strict(self: Any, path: Path) -> Any:
    predict = Constant.load(self, path)

    def refused(columns: Any) -> Any:
        assert "never seen" not in columns["colour"]
        return predict(columns)

    return refused


def lonely(self: Any, path: Path) -> Any:
    predict, model = Constant.load(self, path), ModelFile.read(path)
    return lambda c: predict(c) if len(c["count"]) > 1 else model.answer(np.array([[0.1, 0.9]]))


def mute(self: Any, dataset: Any, job: Any) -> Any:
    return Constant.fit(self, dataset, dataclasses.replace(job, report=lambda step, scores: None))


def legs(first: int = 1, last: int = 2, *, keeps: bool = True, spoils: bool = False) -> dict[str, Any]:
    """A trainer that goes on, and in each leg makes the steps from `first` to `last`, as it sees it."""

    def fit(self: Any, dataset: Any, job: Any) -> Any:
        scores = Constant.fit(self, dataset, dataclasses.replace(job, report=lambda step, scores: None))
        for step in range(first, last + 1):
            job.report(step, scores)
        if keeps:
            plain_file(job.scratch, str(last))
        if spoils and job.start and job.start.scratch:
            plain_file(job.start.scratch, "x")
        return scores

    return {"fit": fit, "continues": ("rate",)}


def plain_file(folder: Path, text: str) -> None:
    (folder / "noise.txt").write_text(text)


BAD_TRAINER: dict[str, tuple[dict[str, Any], str]] = {
    "peeks": (fitting(lambda d, j: pl.read_parquet(d.split("test"))), "must never touch the test split"),
    "no scores": (fitting(after=lambda s, j: None), "must return the validation scores, not NoneType"),
    "other metric": (fitting(after=lambda s, j: {"joy": 1.0}), "the metric of the job; it has joy"),
    "nan": (fitting(after=lambda s, j: {**s, "auroc": float("nan")}), "scores are finite numbers"),
    "lies": (fitting(after=lambda s, j: {**s, "auroc": 0.99}), "returned auroc 0.99; the model"),
    "steps back": (fitting(lambda d, j: j.report(5, {"auroc": 0.1})), "whole steps that grow, got \\[5, 1\\]"),
    "reports other": (fitting(lambda d, j: j.report(0, {"joy": 0.1})), "report\\(\\) got no 'auroc'"),
    "writes": (fitting(lambda d, j: plain_file(d.path, "x")), "must not write outside its own folders"),
    "writes here": (fitting(lambda d, j: plain_file(Path(), "x")), "must not write outside its own folders"),
    "random": (fitting(lambda d, j: plain_file(j.out, str(random.random()))), "'noise.txt' differs between"),
    "swallows": ({"fit": swallow}, "must pass through fit\\(\\); fit\\(\\) went on"),
    "wraps": ({"fit": wrap}, "must pass through fit\\(\\); it came out as RuntimeError"),
    "never reports": ({"fit": mute}, "must call job.report\\(step, scores\\) at least once"),
    "leaves nothing": ({"fit": lambda self, d, j: j.report(1, {"auroc": 0.5}) or {"auroc": 0.5}}, "leave model.json"),
    "shape": (answering(prediction=lambda p: p[:-1]), "one value per row, \\[60\\]; its shape is \\(59,\\)"),
    "not shares": (answering(probability=lambda p: p * 2), "must sum to 1 per row; sums go up to 2"),
    "negative": (answering(probability=lambda p: p - 1), "must be finite and not negative"),
    "disagrees": (answering(probability=lambda p: p[:, ::-1]), "class of the largest 'probability'"),
    "spoils": ({"load": spoil, "fit": lambda self, d, j: Constant().fit(d, j)}, "it changed 'count'"),
    "strict": ({"load": strict}, "and unseen categories, not raise AssertionError"),
    "a leg too long": (legs(last=3), "must end after the steps of its start, 2; it made \\[1, 2, 3\\]"),
    "a leg too short": (legs(last=1), "must leave no checkpoint in scratch; it made \\[1\\]"),
    "begins anew": (legs(), "must count its steps on .*, 3 and 4; it made \\[1, 2\\]"),
    "lonely": ({"load": lonely}, "must get the same 'probability' alone as among others"),
}  # fmt: skip


def test_trainer_kept(tmp_path: Path) -> None:
    check_trainer(Constant(), tmp_path)


def test_trainer_on_your_own_data(tmp_path: Path) -> None:
    check_trainer(Constant(), tmp_path / "kit", dataset=make_dataset(tmp_path / "data", "multiclass"))


@pytest.mark.parametrize("case", BAD_TRAINER)
def test_trainer_broken(case: str, tmp_path: Path) -> None:
    methods, words = BAD_TRAINER[case]
    with says(words):
        check_trainer(altered(Constant, **methods)(), tmp_path, tasks=("binary",))


# --- tuner -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """Every point."""

    def search(self, objective: Any, space: Any, goal: Any, out: Path, report: Any) -> Any:
        kept = Trials(out)
        for number, params in enumerate(grid_points(space, 3)):
            if kept.known(params) is None:
                kept.add(self.attempt(objective, number, params, out))
            report(number + 1, {})
        return kept.tuned(goal)

    def attempt(self, objective: Any, number: int, params: Any, out: Path) -> Trial:
        seen: dict[str, float] = {}
        try:
            state, found, error = "done", objective(params, out, lambda step, scores: seen.update(scores)), ""
        except Pruned:
            state, found, error = "pruned", seen, ""
        except Exception as problem:
            state, found, error = "failed", {}, str(problem)
        return Trial(number=number, params=params, scores=found, state=state, seconds=0.1, error=error)  # type: ignore[arg-type]


def blind(self: Any, objective: Any, number: int, params: Any, out: Path) -> Trial:
    found = Sweep.attempt(self, objective, number, {"edge": None, **params}, out)
    return dataclasses.replace(found, params=params)


def searching(change: Callable[[Tuned], Any]) -> dict[str, Any]:
    return {"search": lambda self, *args: change(Sweep.search(self, *args))}


def attempting(**fields: Any) -> dict[str, Any]:
    return {"attempt": lambda self, *args: dataclasses.replace(Sweep.attempt(self, *args), **fields)}


def forgetful(self: Any, objective: Any, space: Any, goal: Any, out: Path, report: Any) -> Any:
    (out / "trials.jsonl").unlink(missing_ok=True)
    return Sweep.search(self, objective, space, goal, out, report)


def worst(tuned: Tuned) -> Tuned:
    last = min((t for t in tuned.trials if t.state == "done"), key=lambda t: t.scores["height"])
    return dataclasses.replace(tuned, params=last.params, scores=last.scores)


BAD_TUNER: dict[str, tuple[dict[str, Any], str]] = {
    "dict": (searching(lambda t: t.params), "must return Tuned, not dict"),
    "no trials": (searching(lambda t: dataclasses.replace(t, trials=())), "must return the trials it made"),
    "worst": (searching(worst), "must return the best trial \\(mode max\\)"),
    "other scores": (searching(lambda t: dataclasses.replace(t, scores={})), "must hold 'height'"),
    "one number": (attempting(number=0), "each trial must have a number of its own"),
    "hides failures": (attempting(state="done", scores={"height": 0.0}), "must be 'failed' with its error, not 'done'"),
    "silent": ({"search": lambda self, *a: Sweep.search(self, *a[:-1], lambda *x: None)}, "must call report"),
    "forgets": ({"search": forgetful}, "must not repeat finished trials; it repeated 9"),
    "sharp flat": (attempting(params={"x": 0.3, "shape": "flat", "edge": "sharp"}), "be told without .edge. where"),
    "conditions": ({"attempt": blind}, "must be called without 'edge' where its condition does not hold"),
}  # fmt: skip


def test_tuner_kept(tmp_path: Path) -> None:
    check_tuner(Sweep(), tmp_path)


@pytest.mark.parametrize("case", BAD_TUNER)
def test_tuner_broken(case: str, tmp_path: Path) -> None:
    methods, words = BAD_TUNER[case]
    with says(words):
        check_tuner(altered(Sweep, **methods)(), tmp_path, modes=("max",))


# --- launcher --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """Runs a project in a folder on this machine.

    folder: where
    """

    folder: Path

    def submit(self, parcel: Any) -> Any:
        place = self.folder / f"{parcel.name}-{len(list(self.folder.iterdir()))}"
        zipfile.ZipFile(parcel.project).extractall(place)
        (place / "parcel").write_text(json.dumps([parcel.name, parcel.words]))
        command = ["bash", "-c", '"$@" > out 2>&1; echo $? > code.part; mv code.part code', "-", sys.executable]
        child = subprocess.Popen([*command, "-m", "mlops_core", *parcel.words], cwd=place, env=self.env(parcel))
        CHILDREN.append(child)
        return self.told(place)

    def env(self, parcel: Any) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith("MLOPS_KIT") or k in parcel.secrets}

    def told(self, place: Path) -> Submission:
        if not place.is_dir():
            raise UsageError(f"there is no {place.name}")
        name, words = json.loads((place / "parcel").read_text())
        code = int((place / "code").read_text()) if (place / "code").exists() else None
        state: Any = {None: "running", 0: "succeeded", 130: "stopped"}.get(code, "failed")
        return Submission(id=place.name, project=name, words=tuple(words), state=state, exit_code=code)

    def status(self, id: str) -> Any:
        return self.told(self.folder / id)

    def follow(self, id: str, out: Any, notice: Any) -> Any:
        while not self.told(self.folder / id).over:
            time.sleep(0.05)
        out((self.folder / id / "out").read_text())
        return self.told(self.folder / id)

    def all(self) -> Any:
        return [self.told(p) for p in sorted(self.folder.iterdir(), reverse=True)]

    def stop(self, id: str) -> bool:
        if self.told(self.folder / id).over:
            return False
        CHILDREN[-1].kill()
        CHILDREN[-1].wait()
        (self.folder / id / "code").write_text("130")
        return True


CHILDREN: list[subprocess.Popen[bytes]] = []


def telling(**fields: Any) -> dict[str, Any]:
    return {"told": lambda self, place: dataclasses.replace(Here.told(self, place), **fields)}


def wrong_end(self: Any, place: Path) -> Submission:
    found = Here.told(self, place)
    return dataclasses.replace(found, exit_code=1) if found.exit_code == 3 else found


def second_half(self: Any, id: str, out: Any, notice: Any) -> Any:
    told = self.folder / id / "told"
    found = Here.follow(self, id, (lambda text: out("rest")) if told.exists() else out, notice)
    told.touch()
    return found


BAD_LAUNCHER: dict[str, tuple[dict[str, Any], str]] = {
    "dict": ({"submit": lambda self, p: {}}, r"submit\(\) must return a Submission, not dict"),
    "no id": (telling(id=""), "must tell the id of the submission"),
    "odd state": (telling(state="lost"), "tells state 'lost'; there are waiting, running"),
    "other words": (telling(words=("run",)), "which words it is, got 'kit' \\('run',\\)"),
    "no secrets": ({"env": lambda self, p: Here.env(self, dataclasses.replace(p, secrets=()))}, "exit code 0, not 3"),
    "any failure is 1": ({"told": wrong_end}, "must end with its own exit code 3, not 1"),
    "silent": ({"follow": lambda self, id, o, n: Here.follow(self, id, lambda t: None, n)}, "what the command tells"),
    "tells half": ({"follow": second_half}, "everything from the first piece again, got \\['rest'\\]"),
    "tells secrets": (
        {"all": lambda self: [os.environ["MLOPS_KIT_SECRET"]]}, "secret must be in no record and no output",
    ),
    "stops what is over": ({"stop": lambda self, id: True}, r"stop\(\) must return False for what is over"),
    "oldest first": ({"all": lambda self: Here.all(self)[::-1]}, "must tell the latest first"),
    "forgets": ({"all": lambda self: []}, "must tell of every submission"),
    "raw error": (
        {"status": lambda self, id: self.told(self.folder / id) if (self.folder / id).exists() else {}[id]},
        "must raise UsageError or LaunchError, not KeyError",
    ),
}  # fmt: skip


def check_here(cls: type, folder: Path) -> None:
    (folder / "there").mkdir()
    try:
        check_launcher(cls(folder / "there"), folder)
    finally:
        while CHILDREN:
            CHILDREN.pop().wait(60)


def test_launcher_kept(tmp_path: Path) -> None:
    check_here(Here, tmp_path)


@pytest.mark.parametrize("case", BAD_LAUNCHER)
def test_launcher_broken(case: str, tmp_path: Path) -> None:
    methods, words = BAD_LAUNCHER[case]
    with says(words):
        check_here(altered(Here, **methods), tmp_path)


# --- monitor ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """The mean of one column."""

    def profile(self, reference: Any, columns: Any) -> Profile:
        frame = reference.collect() if isinstance(reference, pl.LazyFrame) else pl.DataFrame(reference)
        return Profile(monitor="level", rows=len(frame), state={"mean": frame["count"].mean()})

    def judge(self, profile: Profile, window: Any) -> Verdict:
        frame = pl.read_parquet(window.path)
        if len(frame) < 10:
            return Verdict(monitor="level", state="unknown", reasons=("too few rows",))
        far = abs(frame["count"].mean() - profile.state["mean"])  # type: ignore[operator]
        state: Any = "alarm" if far > 1 else "healthy"
        return Verdict(
            monitor="level", state=state, scores={"count": far}, limits={"count": 1.0}, reasons=("it moved",)
        )


def judging(**fields: Any) -> dict[str, Any]:
    return {"judge": lambda self, p, w: dataclasses.replace(Level.judge(self, p, w), **fields)}


def profiling(**fields: Any) -> dict[str, Any]:
    return {"profile": lambda self, r, c: dataclasses.replace(Level.profile(self, r, c), **fields)}


def sure(self: Any, profile: Any, window: Any) -> Verdict:
    path = window.path.with_name("changed.parquet") if window.rows < 10 else window.path
    return Level.judge(self, profile, dataclasses.replace(window, path=path))


def restless(self: Any, profile: Any, window: Any) -> Verdict:
    return dataclasses.replace(Level.judge(self, profile, window), scores={"a": random.random()})


def spoiling(self: Any, profile: Any, window: Any) -> Verdict:
    verdict = Level.judge(self, profile, window)
    window.path.write_bytes(b"")
    return verdict


BAD_MONITOR: dict[str, tuple[dict[str, Any], str]] = {
    "nervous": (judging(state="alarm"), "a window of the reference's own kind must not alarm"),
    "asleep": (judging(state="healthy"), "every column changed must alarm; the verdict is 'healthy'"),
    "sure": ({"judge": sure}, "3 rows tells nothing"),
    "mute": (judging(reasons=()), "an alarm must give its reasons in words"),
    "odd state": (judging(state="fine"), "one of healthy, alarm, unknown, not 'fine'"),
    "nan": (judging(scores={"a": float("nan")}), "scores and limits are finite numbers; 'a' is nan"),
    "anonymous": (profiling(monitor=""), "a profile must name its monitor"),
    "other name": (judging(monitor="else"), "must name its monitor 'level', not 'else'"),
    "miscounts": (profiling(rows=3), "must count the rows of its reference: 3, not 2000"),
    "not plain": (profiling(state={"a": (1, 2), "mean": np.float32(1)}), "must be plain data that JSON gives back"),
    "no verdict": ({"judge": lambda self, p, w: True}, "must return a Verdict, not bool"),
    "no profile": ({"profile": lambda self, r, c: {}}, "must return a Profile, not dict"),
    "restless": ({"judge": restless}, "same verdict for the same window"),
    "spoils": ({"judge": spoiling}, "must not change the window's file"),
}  # fmt: skip


def test_monitor_kept(tmp_path: Path) -> None:
    check_monitor(Level(), tmp_path)


def test_monitor_that_watches_something_else_need_not_alarm(tmp_path: Path) -> None:
    quiet = {"judge": lambda self, p, w: Verdict(monitor="level", state="unknown", reasons=("no labels",))}
    check_monitor(altered(Level, **quiet)(), tmp_path, alarms=False)


@pytest.mark.parametrize("case", BAD_MONITOR)
def test_monitor_broken(case: str, tmp_path: Path) -> None:
    methods, words = BAD_MONITOR[case]
    with says(words):
        check_monitor(altered(Level, **methods)(), tmp_path)


# --- observer --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watcher:
    """Watches."""

    @hookimpl
    def mlops_started(self, stage: str) -> None:
        pass


def hook(function: Any) -> Any:
    return hookimpl(function)


def loud(self: Any, error: str) -> None:
    raise RuntimeError("no network")


BAD_OBSERVER: dict[str, tuple[dict[str, Any], str]] = {
    "unmarked": ({"mlops_failed": lambda self, error: None}, "method 'mlops_failed' must be marked with"),
    "misspelt": ({"mlops_finishd": hook(lambda self: None)}, "unknown hook 'mlops_finishd' in .*; did you mean"),
    "other facts": ({"mlops_failed": hook(lambda self, why: None)}, "has no argument 'why'"),
    "loud": ({"mlops_failed": hook(loud)}, "told mlops_failed: observer Watcher: RuntimeError: no network"),
    "messy": ({"mlops_failed": hook(lambda self, error: Path("x").write_text(error))}, "must not write outside"),
}  # fmt: skip


def test_observer_kept(tmp_path: Path) -> None:
    check_observer(Watcher(), tmp_path)
    with says("must have at least one watching hook: mlops_started"):
        check_observer(Documented(), tmp_path / "none")


@pytest.mark.parametrize("case", BAD_OBSERVER)
def test_observer_broken(case: str, tmp_path: Path) -> None:
    methods, words = BAD_OBSERVER[case]
    with says(words):
        check_observer(altered(Watcher, **methods)(), tmp_path)


# --- deployer --------------------------------------------------------------------------------------------------

HOSTS: dict[tuple[str, Path], Any] = {}


@dataclass(frozen=True)
class Thread:
    """Serves from a thread of this process."""

    def apply(self, desired: Any) -> Endpoint:
        host = HOSTS.get((desired.name, desired.state))
        if host is None:
            host = HOSTS[desired.name, desired.state] = Host(desired)
        elif host.app.serving != desired:
            host.app.apply(desired)
        return host.endpoint()

    def actual(self, name: str, state: Path) -> Any:
        host = HOSTS.get((name, state))
        return (host.endpoint(), host.app.serving) if host else None

    def stop(self, name: str, state: Path) -> bool:
        host = HOSTS.pop((name, state), None)
        if host:
            host.stop()
        return host is not None


class Host:
    def __init__(self, desired: Any) -> None:
        import uvicorn

        self.app = create_app(desired)
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_config=None))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.01)

    def endpoint(self) -> Endpoint:
        port = self.server.servers[0].sockets[0].getsockname()[1]
        versions = tuple(r.version for r in self.app.serving.routes)
        return Endpoint(name="kit", url=f"http://127.0.0.1:{port}", deployer="thread", versions=versions)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.app.close()


def restart(self: Any, desired: Any) -> Any:
    Thread.stop(self, desired.name, desired.state)
    return Thread.apply(self, desired)


def lazy(self: Any, desired: Any) -> Any:
    host = HOSTS.get((desired.name, desired.state))
    return host.endpoint() if host else Thread.apply(self, desired)


def crude(self: Any, desired: Any) -> Any:
    try:
        return Thread.apply(self, desired)
    except ServingError as error:
        raise KeyError("no") from error


def fragile(self: Any, desired: Any) -> Any:
    try:
        return Thread.apply(self, desired)
    except ServingError:
        Thread.stop(self, desired.name, desired.state)
        raise


def haunted(self: Any, name: str, state: Path) -> bool:
    """Stopped, but something goes on refusing requests at its address."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from urllib.parse import urlsplit

    found = Thread.actual(self, name, state)
    stopped = Thread.stop(self, name, state)
    if found:
        ghost = HTTPServer(("127.0.0.1", urlsplit(found[0].url).port or 0), BaseHTTPRequestHandler)

        def refuse() -> None:
            with ghost:
                ghost.handle_request()

        threading.Thread(target=refuse).start()
    return stopped


BAD_DEPLOYER: dict[str, tuple[dict[str, Any], str]] = {
    "restarts": ({"apply": restart}, "apply\\(\\) of what runs must change nothing"),
    "lazy": ({"apply": lazy}, "must return when the new version answers"),
    "crude": ({"apply": crude}, "must raise ServingError where it cannot serve, not KeyError"),
    "fragile": ({"apply": fragile}, "what ran must go on when a new version cannot be served; nothing runs"),
    "always": ({"actual": lambda self, n, s: (1, 2)}, "must be None before anything was applied"),
    "forgets": ({"actual": lambda self, n, s: None}, "must tell what runs after apply"),
    "stops nothing": ({"stop": lambda self, n, s: True}, "must be False where nothing runs"),
    "haunted": ({"stop": haunted}, "nothing may answer at http://127.0.0.1:\\d+ after stop\\(\\)"),
    "undead": ({"stop": lambda self, n, s: bool(Thread.actual(self, n, s))}, "False when it was stopped already"),
}  # fmt: skip


def test_deployer_kept(tmp_path: Path) -> None:
    check_deployer(Thread(), tmp_path)
    assert not HOSTS


@pytest.mark.parametrize("case", BAD_DEPLOYER)
def test_deployer_broken(case: str, tmp_path: Path) -> None:
    methods, words = BAD_DEPLOYER[case]
    try:
        with says(words):
            check_deployer(altered(Thread, **methods)(), tmp_path)
    finally:
        for name, state in list(HOSTS):
            Thread().stop(name, state)


def test_the_bundle_of_the_kit_answers_as_it_says(tmp_path: Path) -> None:
    from mlops_core import open_bundle

    answer = open_bundle(make_bundle(tmp_path / "bundle", middle=2.0)).predict({"size": np.array([1.0, 3.0])})
    assert answer["prediction"].tolist() == ["no", "yes"]
