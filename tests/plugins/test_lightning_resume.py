"""A fit of `trainer: lightning` that is killed goes on after its last finished epoch, and ends as if it was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_kit import frozen, job, table
from mlops_lightning.trainer import LightningTrainer, Network

from mlops_core.contracts import Dataset, plain

NET = """
import random

import numpy as np
import torch
import pytorch_lightning as L


class Noisy(L.LightningModule):
    \"\"\"Draws from every random source, and steps a schedule at each epoch's end.\"\"\"

    def __init__(self, inputs):
        super().__init__()
        self.save_hyperparameters()
        self.save_hyperparameters({"junk": torch.nn.Linear(1, 1)})
        self.layers = torch.nn.Sequential(torch.nn.Linear(inputs, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, index):
        x, y = batch
        noise = 0.1 * (random.random() + np.random.rand() + torch.rand(1))
        return torch.nn.functional.cross_entropy(self(x), y) * (1 + noise)

    def validation_step(self, batch, index):
        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 0.02)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]
"""
# Fits as told, and kills itself in the middle of the epoch after the one told.
CHILD = """
import json, os, signal, sys
from pathlib import Path
from mlops_core.contracts import Dataset, Job, restore
from mlops_lightning.learning.data import Batches
from mlops_lightning.trainer import LightningTrainer, Network

told = json.loads(sys.argv[1])
steps, whole = [], Batches.__iter__

def report(step, scores):
    steps.append(step)
    print(step, flush=True)

def dying(self):
    for number, batch in enumerate(whole(self)):
        if self.seed is not None and steps[-1:] == [told["killed_after"]] and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

Batches.__iter__ = dying
folders = {k: Path(told[k]) for k in ("out", "scratch", "project")}
job = Job(**folders, seed=3, metric="auroc", mode="max", report=report)
options = told["options"]
if "model" in options:
    options["model"] = Network(**options["model"])
LightningTrainer(**options).fit(restore(Dataset, told["data"]), job)
"""
OPTIONS: dict[str, Any] = {"epochs": 6, "patience": 0, "threads": 1, "batch_size": 32}
KINDS = {
    "built-in": {"schedule": "cosine", "model": {"hidden": (16,), "members": 2, "bins": 4}},
    "module": {"module": "noisy.Noisy", "module_options": {"inputs": "{features}"}},
}


def killed(folder: Path, project: Path, data: Dataset, options: Any, after: int) -> list[int]:
    """The epochs that a fit in another process reported before it was killed."""
    work = job(folder, project=project)
    told = {"out": str(work.out), "scratch": str(work.scratch), "project": str(project)}
    told |= {"data": plain(data), "options": options, "killed_after": after}
    done = subprocess.run([sys.executable, "-c", CHILD, json.dumps(told)], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return [int(step) for step in done.stdout.split()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_fit_goes_on_and_leaves_the_same_bytes(tmp_path: Path, kind: str) -> None:
    (tmp_path / "noisy.py").write_text(NET)
    data = frozen(tmp_path / "data", table("binary", 300), "y", "binary")
    told = OPTIONS | KINDS[kind]
    assert killed(tmp_path / "killed", tmp_path, data, told, after=3) == [1, 2, 3]

    options = told | ({"model": Network(**told["model"])} if "model" in told else {})
    seen: list[int] = []
    work = {"seed": 3, "project": tmp_path, "report": lambda step, scores: seen.append(step)}
    for name in ("killed", "whole"):
        LightningTrainer(**options).fit(data, job(tmp_path / name, **work))
    assert seen == [4, 5, 6, 1, 2, 3, 4, 5, 6]
    for path in (tmp_path / "whole" / "out").iterdir():
        assert (tmp_path / "killed" / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_fit_killed_in_its_export_trains_no_more(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    trainer = LightningTrainer(epochs=3, threads=1, model=Network(hidden=(8,)))
    first = job(tmp_path)
    scores = trainer.fit(data, first)
    left = (first.out / "model.onnx").read_bytes()
    (first.out / "model.onnx").unlink()
    seen: list[int] = []
    again = job(tmp_path, report=lambda step, scores: seen.append(step))
    assert trainer.fit(data, again) == scores
    assert seen == []
    assert (again.out / "model.onnx").read_bytes() == left


def test_an_early_stop_is_remembered(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    trainer = LightningTrainer(epochs=100, lr=0.05, patience=2, threads=1, model=Network(hidden=(8,)))
    seen: list[int] = []
    for _ in range(2):
        trainer.fit(data, job(tmp_path, report=lambda step, scores: seen.append(step)))
    assert len(seen) == len(set(seen)) < 100


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_that_is_cut_short_starts_the_fit_again(tmp_path: Path, name: str) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    trainer = LightningTrainer(epochs=2, threads=1, model=Network(hidden=(8,)))
    work = job(tmp_path)
    trainer.fit(data, work)
    cut = (work.scratch / name).read_bytes()[:1000]
    (work.scratch / name).unlink()
    (work.scratch / name).write_bytes(cut)
    seen: list[int] = []
    trainer.fit(data, job(tmp_path, report=lambda step, scores: seen.append(step)))
    assert seen == [1, 2]


def test_a_checkpoint_never_runs_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    work = job(tmp_path)
    torch.save({"mlops": {"epochs": 1}, "evil": Evil()}, work.scratch / "last.ckpt")
    seen: list[int] = []
    LightningTrainer(epochs=2, threads=1, model=Network(hidden=(8,))).fit(
        data, job(tmp_path, report=lambda step, scores: seen.append(step))
    )
    assert seen == [1, 2]
    assert not (tmp_path / "ran").exists()


def test_checkpoints_every_few_epochs_and_at_each_best(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    # Nothing is learnt at this rate, so the first epoch stays the best.
    options: Any = OPTIONS | {"checkpoint_epochs": 3, "lr": 1e-12, "weight_decay": 0.0}
    trainer = LightningTrainer(**options, model=Network(hidden=(8,), dropout=0.0))
    seen: list[int] = []

    def report(step: int, scores: Any) -> None:
        seen.append(step)
        if seen in ([1, 2], [1, 2, 2, 3, 4, 5]):
            raise RuntimeError("as if killed")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="as if killed"):
            trainer.fit(data, job(tmp_path, report=report))
    trainer.fit(data, job(tmp_path, report=report))
    assert seen == [1, 2, 2, 3, 4, 5, 4, 5, 6]
