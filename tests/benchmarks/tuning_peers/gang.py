"""Trials of several workers: the seconds from the last step of one to the first of the next, in warm processes."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

NET = """
import os, time
import pytorch_lightning as pl
import torch


class Net(pl.LightningModule):
    def __init__(self, inputs, number=0):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(inputs, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-3)

    def on_train_start(self):
        self.tell()

    def on_train_end(self):
        self.tell()

    def tell(self):
        if self.global_rank == 0:
            with open(os.path.join(os.path.dirname(__file__), "times"), "a") as times:
                times.write(f"{time.time()}\\n")
"""


def between(folder: Path, workers: int, trials: int = 9) -> tuple[float, float]:
    """Median and longest, of warm trials one after the other."""
    from mlops_ray.tuner import RayTuner, Resources

    from mlops_core.contracts import Choice, Distribution, Goal
    from mlops_core.flow.objective import TrainerObjective

    sys.path.insert(0, str(Path(__file__).parents[2] / "kits"))
    from lightning_kit import frozen, table

    out = folder / "out"
    out.mkdir(parents=True)
    (folder / "net_of_gang.py").write_text(NET)
    options = {
        "module": "net_of_gang.Net", "module_options": {"inputs": "{features}"}, "output": "logits", "epochs": 3,
        "batch_size": 64, "threads": 1, "accelerator": "cpu", "export": "safetensors",
    }  # fmt: skip
    objective = TrainerObjective(
        trainer=Choice(plugin="lightning", options=options),
        dataset=frozen(folder / "data", table("binary", 4000), "y", "binary"),
        project=folder, seed=0, metric="auroc", mode="max",
    )  # fmt: skip
    numbers = {"trainer.module_options.number": Distribution(kind="grid", args=(list(range(trials)),))}
    tuner = RayTuner(
        sampler="grid", scheduler="none", trials=trials, concurrency=1, resources=Resources(cpus=1, workers=workers)
    )
    found = tuner.search(objective, numbers, Goal(metric="auroc", mode="max", seed=0), out, lambda *told: None)
    assert [t.state for t in found.trials] == ["done"] * trials, found.trials
    times = [float(line) for line in (folder / "times").read_text().splitlines()]
    gaps = [began - ended for ended, began in zip(times[1::2], times[2::2], strict=False)]
    return statistics.median(gaps[1:]), max(gaps[1:])
