"""Several workers a trial: real Ray, real DDP over gloo, real deaths."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning_kit import frozen, job, table
from mlops_lightning.trainer import LightningTrainer, Network
from mlops_ray.curves import Curves
from mlops_ray.runtime import alive, ray_running
from mlops_ray.sweep import ENVIRONMENT
from mlops_ray.tuner import RayTuner, Resources

from mlops_core import api
from mlops_core.contracts import Choice, Dataset, Distribution, Goal, Trial, Tuned, restore
from mlops_core.errors import TrainingError
from mlops_core.flow.objective import TrainerObjective

GOAL = Goal(metric="log_loss", mode="min", seed=1)
TWO = Resources(cpus=0.5, workers=2)
# A user's module and an objective around it, which say which processes were at work; to be imported by workers.
MINE = '''
import ctypes, json, os, signal, time
from pathlib import Path

import lightning.pytorch as L
import torch

FOLDER = Path(__file__).parent


class Net(L.LightningModule):
    """Worker `killed` is killed once in the midst of the third epoch, worker `broken` raises there."""

    def __init__(self, inputs, lr=0.05, killed=None, broken=None):
        super().__init__()
        self.layer, self.unused = torch.nn.Linear(inputs, 2), torch.nn.Linear(3, 3)
        self.lr, self.killed, self.broken = lr, killed, broken

    def forward(self, x):
        return self.layer(x)

    def training_step(self, batch, index):
        if index == 0:
            with (FOLDER / "seen").open("a") as seen:
                told = {"rank": self.global_rank, "pid": os.getpid(), "epoch": self.current_epoch}
                told["killed"] = self.killed
                seen.write(json.dumps(told) + "\\n")
        if index == 1 and self.current_epoch == 2:
            if self.global_rank == self.broken:
                raise ValueError("no such disk")
            if self.global_rank == self.killed and not (FOLDER / f"killed{self.killed}").exists():
                (FOLDER / f"killed{self.killed}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)


def torn(params, out, report, resources=None, gang=None):
    """Worker 1 raises at once; the first would wait for it for ever, with x=1 in C, as for a GPU."""
    print("worker", gang.rank, "is here")
    if gang.rank == 1:
        raise ValueError("no such disk")
    while True:
        ctypes.CDLL(None).pause() if params["x"] else time.sleep(0.1)
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project, with one Ray for all searches."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "mine_of_gang.py").write_text(MINE)
    sys.path.insert(0, str(folder))
    preload = ("ray.tune", "mlops_ray.trial", "mlops_lightning.learning")
    with ray_running("local", TrainingError, env=ENVIRONMENT, preload=preload):
        yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("mine_of_gang", None)


@pytest.fixture
def project(home: Path) -> Path:
    for name in ("seen", "killed0", "killed1"):
        (home / name).unlink(missing_ok=True)
    return home


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """420 rows to train on: with batches of 64, the last is of 36."""
    return frozen(tmp_path / "data", table("binary", 600), "y", "binary")


def search(data: Dataset, project: Path, out: Path, options: Any, space: Any, **more: Any) -> Tuned:
    objective = TrainerObjective(
        trainer=Choice(plugin="lightning", options=options), dataset=data, project=project, seed=1,
        metric=GOAL.metric, mode=GOAL.mode, models=out / "models",
    )  # fmt: skip
    dimensions = {f"trainer.{name}": Distribution(kind="grid", args=(values,)) for name, values in space.items()}
    told = {"sampler": "grid", "scheduler": "none", "resources": TWO} | more
    return RayTuner(**told).search(objective, dimensions, GOAL, out, lambda *said: None)


def seen(project: Path) -> list[Any]:
    return [json.loads(line) for line in (project / "seen").read_text().splitlines()]


def failures(out: Path) -> list[Trial]:
    """The trials of a search that all failed."""
    return [restore(Trial, json.loads(line)) for line in (out / "trials.jsonl").read_text().splitlines()]


def of_mine(**options: Any) -> dict[str, Any]:
    """Trainer options for `Net`."""
    return {
        "epochs": 5, "patience": 0, "threads": 1, "batch_size": 32, "module": "mine_of_gang.Net", "output": "logits",
        "module_options": {"inputs": "{features}", **options},
    }  # fmt: skip


def test_two_workers_learn_what_one_learns_with_twice_the_batch(
    project: Path, data: Dataset, out: Path, tmp_path: Path
) -> None:
    options: Any = {
        "epochs": 5, "patience": 0, "threads": 1, "batch_size": 32, "optimizer": "sgd",
        "model": {"hidden": [16], "members": 2, "bins": 4, "dropout": 0.0},
    }  # fmt: skip
    tuned = search(data, project, out, options, {"lr": [0.02, 0.1]})
    assert [t.state for t in tuned.trials] == ["done", "done"]
    curves = Curves(out).read()
    for trial in tuned.trials:
        one: list[float] = []
        work = job(
            tmp_path / f"one{trial.number}", metric="log_loss", mode="min", seed=1,
            report=lambda step, scores, one=one: one.append(scores["log_loss"]),
        )  # fmt: skip
        told = {**options, "model": Network(**options["model"]), "lr": trial.params["trainer.lr"], "batch_size": 64}
        LightningTrainer(**told).fit(data, work)
        assert [value for _, value in curves[trial.number]] == pytest.approx(one, abs=1e-6)
    assert (out / "models").exists()


def test_a_pruned_trial_leaves_warm_workers_to_the_next(project: Path, data: Dataset, out: Path) -> None:
    rates = {"module_options.lr": [0.5, 1e-9, 1e-8, 0.6]}
    asha = {"scheduler": "asha", "grace": 2, "reduction": 2, "concurrency": 1}
    tuned = search(data, project, out, of_mine(), rates, **asha)
    states = {t.params["trainer.module_options.lr"]: t.state for t in tuned.trials}
    assert states[0.5] == states[0.6] == "done"
    assert "pruned" in (states[1e-9], states[1e-8])
    pids = {(line["rank"], line["pid"]) for line in seen(project)}
    assert len(pids) == 2, "one process for each worker, over all trials"
    end = time.monotonic() + 60
    while any(alive(pid) for _, pid in pids):
        assert time.monotonic() < end, "they end with the search"
        time.sleep(0.05)


def test_a_worker_that_is_killed_costs_no_epoch_that_was_kept(project: Path, data: Dataset, out: Path) -> None:
    tuned = search(data, project, out, of_mine(), {"module_options.killed": [0, 1]}, max_failures=1)
    assert [t.state for t in tuned.trials] == ["done", "done"]
    for trial in tuned.trials:
        killed = trial.params["trainer.module_options.killed"]
        lines = [line for line in seen(project) if line["killed"] == killed]
        for rank in (0, 1):
            assert [line["epoch"] for line in lines if line["rank"] == rank] == [0, 1, 2, 2, 3, 4]
        assert len({line["pid"] for line in lines}) == 4
        log = (out / "trials" / f"{trial.number:04d}" / "output.log").read_text()
        assert ("worker 1 of 2: its process died" in log) == (killed == 1)


def test_what_a_worker_raises_in_training_is_the_reason(project: Path, data: Dataset, out: Path) -> None:
    with pytest.raises(TrainingError, match="all 2 trials failed"):
        search(data, project, out, of_mine(), {"module_options.broken": [0, 1]}, max_failures=0)
    found = failures(out)
    assert len(found) == 2
    for trial in found:
        where = "worker 1 of 2: " if trial.params["trainer.module_options.broken"] else ""
        assert trial.error.startswith(f"{where}TrainingError: Net failed in training: ")
        assert "ValueError: no such disk" in trial.error


def test_a_worker_that_never_comes_is_not_waited_for(project: Path, out: Path) -> None:
    objective = importlib.import_module("mine_of_gang").torn
    space = {"x": Distribution(kind="grid", args=([0, 1],))}
    tuner = RayTuner(sampler="grid", resources=TWO, max_failures=0)
    with pytest.raises(TrainingError, match="all 2 trials failed"):
        tuner.search(objective, space, GOAL, out, lambda *said: None)
    found = {t.params["x"]: t for t in failures(out)}
    assert re.fullmatch(r"worker 1 of 2: ValueError: no such disk \(mine_of_gang.py:\d+\)", found[0].error)
    assert found[1].error == "its process died (killed, or out of memory)"
    logs = [(out / "trials" / f"{found[x].number:04d}" / "output.log").read_text() for x in (0, 1)]
    for log in logs:
        assert "worker 0 is here" in log
        assert "the rest waits for it: ValueError: no such disk" in log
    assert "worker 1 is here" in logs[0], "what a worker on another machine printed is there too"


def test_more_workers_than_there_is_room_for_are_refused_at_once(project: Path, data: Dataset, out: Path) -> None:
    many = Resources(cpus=1, workers=1000)
    words = r"a trial wants 1000 workers of 1 cpus, 0 gpus, and the nodes have room for \d+; there is \d+ cpus, .*lower"
    with pytest.raises(TrainingError, match=words):
        search(data, project, out, {}, {"lr": [0.1]}, resources=many)


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ("trainer=sklearn", "workers: 2", "trainer 'sklearn' fits in one process, got 2 workers; .*: lightning"),
        ("tuner.retrain_best=true", "", "one process alone would fit again what 2 found"),
    ],
)
def test_what_several_cannot_fit_is_refused_when_it_is_declared(
    tmp_path: Path, change: str, place: str, words: str
) -> None:
    root = api.init(tmp_path / "credit", "credit")
    two = root / "conf" / "tuner" / "two.yaml"
    two.parent.mkdir(exist_ok=True)
    two.write_text("plugin: ray\nresources:\n  workers: 2\nspace:\n  trainer.batch_size: [32, 64]\n")
    assert not api.check(root, ["tuner=two"])
    found = [str(p) for p in api.check(root, ["tuner=two", change])]
    told = next(p for p in found if re.search(words, p))
    assert place in told
