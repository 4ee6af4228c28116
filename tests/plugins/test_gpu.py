"""What a graphics processor changes: precision, shares of a card, several cards. Without one, all but what the CPU can
show as well is skipped; `-s` prints the figures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_kit import frozen, job, split_columns, table
from mlops_lightning.trainer import LightningTrainer, Network
from mlops_ray.curves import Curves
from mlops_ray.runtime import ray_running
from mlops_ray.sweep import ENVIRONMENT
from mlops_ray.tuner import RayTuner, Resources

from mlops_core import score
from mlops_core.contracts import Choice, Dataset, Distribution, Goal, Tuned
from mlops_core.errors import TrainingError
from mlops_core.features import load_onnx
from mlops_core.flow.objective import TrainerObjective

CARDS = torch.cuda.device_count()
GOAL = Goal(metric="log_loss", mode="min", seed=1)
# A user's module that says on which card it was when, and how much of the card it took.
MINE = """
import json, os, time
from pathlib import Path

import lightning.pytorch as L
import torch


class Net(L.LightningModule):
    def __init__(self, inputs, lr=0.05):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(inputs, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
        self.lr = lr

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, index):
        if index == 0:
            told = {"lr": self.lr, "rank": self.global_rank, "pid": os.getpid(), "time": time.time()}
            told |= {"cards": os.environ.get("CUDA_VISIBLE_DEVICES"), "device": str(batch[0].device)}
            told["mib"] = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
            with (Path(__file__).parent / "seen").open("a") as seen:
                seen.write(json.dumps(told) + "\\n")
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)
"""


def needs(cards: int) -> Any:
    reason = f"needs {cards} graphics processor(s) that torch can use, here are {CARDS}"
    return pytest.mark.skipif(cards > CARDS, reason=reason)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return frozen(tmp_path / "data", table("binary", 2000), "y", "binary")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine_of_gpu.py").write_text(MINE)
    sys.path.insert(0, str(folder))
    with ray_running("local", TrainingError, env=ENVIRONMENT, preload=("ray.tune", "mlops_ray.trial")):
        yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("mine_of_gpu", None)


@pytest.mark.parametrize(
    ("accelerator", "precision"),
    [
        ("cpu", "32-true"),
        ("cpu", "bf16-mixed"),
        pytest.param("gpu", "32-true", marks=needs(1)),
        pytest.param("gpu", "bf16-mixed", marks=needs(1)),
        pytest.param("gpu", "16-mixed", marks=needs(1)),
    ],
)
def test_what_was_trained_in_any_precision_answers_in_full_precision_as_it_did(
    tmp_path: Path, data: Dataset, accelerator: str, precision: str
) -> None:
    """The fit compares its export with the trained network; here the scores that it told are found again."""
    work, began = job(tmp_path / "job", seed=1), time.perf_counter()
    options: dict[str, Any] = {"epochs": 8, "patience": 0, "model": Network(hidden=(32,), members=4)}
    told = LightningTrainer(accelerator=accelerator, precision=precision, **options).fit(data, work)
    columns, target = split_columns(data, "validation")
    found = score("binary", target, load_onnx(work.out)(columns))["auroc"]
    card = f", {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB" if accelerator == "gpu" else ""
    print(f"{accelerator} {precision}: auroc {told['auroc']:.4f}, {time.perf_counter() - began:.1f} s{card}")
    assert told["auroc"] > 0.9
    assert found == pytest.approx(told["auroc"], abs=0.002)


def search(data: Dataset, project: Path, out: Path, resources: Resources, options: Any, rates: list[float]) -> Tuned:
    told: Any = {"epochs": 6, "patience": 0, "threads": 1, "module": "mine_of_gpu.Net", "output": "logits"} | options
    told["module_options"] = {"inputs": "{features}"}
    objective = TrainerObjective(
        trainer=Choice(plugin="lightning", options=told), dataset=data, project=project, seed=1, metric=GOAL.metric,
        mode=GOAL.mode, models=out / "models",
    )  # fmt: skip
    out.mkdir()
    space = {"trainer.module_options.lr": Distribution(kind="grid", args=(rates,))}
    tuner = RayTuner(sampler="grid", scheduler="none", resources=resources)
    return tuner.search(objective, space, GOAL, out, lambda *said: None)


def seen(project: Path) -> list[Any]:
    return [json.loads(line) for line in (project / "seen").read_text().splitlines()]


@needs(1)
def test_two_trials_share_a_card(tmp_path: Path, project: Path, data: Dataset) -> None:
    half = Resources(cpus=0.5, gpus=0.5)
    tuned = search(data, project, tmp_path / "out", half, {"accelerator": "gpu", "batch_size": 8}, [0.02, 0.1])
    assert [t.state for t in tuned.trials] == ["done", "done"]
    lines = seen(project)
    assert {line["device"] for line in lines} == {"cuda:0"}
    assert len({line["cards"] for line in lines}) == 1
    spans = {rate: [line["time"] for line in lines if line["lr"] == rate] for rate in (0.02, 0.1)}
    overlap = min(max(s) for s in spans.values()) - max(min(s) for s in spans.values())
    print(f"two trials on card {lines[0]['cards']}: {overlap:.1f} s side by side, {lines[-1]['mib']:.0f} MiB each")
    assert overlap > 0


@pytest.mark.parametrize(
    "gpus",
    [pytest.param(0.5, marks=needs(1), id="gloo on one card"), pytest.param(1.0, marks=needs(2), id="NCCL on two")],
)
def test_two_workers_learn_what_one_learns_with_twice_the_batch(
    tmp_path: Path, project: Path, data: Dataset, gpus: float
) -> None:
    """On the CPU `test_ray_gang.py` shows it."""
    curves = []
    for workers, batch in ((2, 32), (1, 64)):
        resources, out = Resources(cpus=0.5, gpus=gpus, workers=workers), tmp_path / f"out{workers}"
        began = time.perf_counter()
        search(data, project, out, resources, {"accelerator": "gpu", "batch_size": batch}, [0.05])
        print(f"{workers} workers with {gpus:g} of a card each: {time.perf_counter() - began:.1f} s in all")
        curves.append([value for _, value in Curves(out).read()[0]])
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    assert {(line["rank"], line["device"]) for line in seen(project)} == {(0, "cuda:0"), (1, "cuda:0")}
