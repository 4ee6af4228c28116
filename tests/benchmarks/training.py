"""Training through mlops against hand-written Lightning scripts: same module, data, batches and epochs.

Goals: at most 1.03x from the first batch to the last, and at most 3 s more in all. All train on one
thread. `loader` takes its rows from torch's DataLoader; `tensors` slices them itself, which is the hardest peer.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from measure import cpu

ROWS, WIDTH, EPOCHS, BATCH, REPEATS = 60_000, 30, 8, 256, 3
NET = """
import os, time
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F


class Net(pl.LightningModule):
    def __init__(self, inputs=30):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2)
        )

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, index):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-3)

    def on_train_batch_start(self, batch, index):
        self.began = getattr(self, "began", None) or time.process_time()

    def on_train_end(self):
        with open(os.environ["BENCH_OUT"], "w") as out:
            out.write(str(time.process_time() - self.began))
"""
SCRIPT = """
import logging, sys, warnings
warnings.simplefilter("ignore")
import polars as pl
import torch
import pytorch_lightning
from net import Net

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
torch.set_num_threads(1)
BATCH, EPOCHS = int(sys.argv[2]), int(sys.argv[3])


class Tensors:
    def __init__(self, x, y, shuffle):
        self.x, self.y, self.shuffle = x, y, shuffle

    def __len__(self):
        return -(-len(self.x) // BATCH)

    def __iter__(self):
        order = torch.randperm(len(self.x)) if self.shuffle else torch.arange(len(self.x))
        for rows in order.split(BATCH):
            yield self.x[rows], self.y[rows]


def loader(split):
    frame = pl.read_parquet(f"data/{split}.parquet")
    x = torch.tensor(frame.drop("y").to_numpy()).float()
    y = torch.tensor((frame["y"] == "b").to_numpy()).long()
    if sys.argv[1] == "tensors":
        return Tensors(x, y, split == "train")
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), BATCH, shuffle=split == "train")


torch.manual_seed(0)
trainer = pytorch_lightning.Trainer(
    max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
    default_root_dir="checkpoints", num_sanity_val_steps=0, deterministic="warn",
)
trainer.fit(Net(), loader("train"), loader("validation"))
"""
CONFIG = """
defaults: [base, data: parquet, trainer: lightning, _self_]
name: bench
data: {path: all.parquet, target: y, split: {validation: 0.15, test: 0.05}}
trainer: {epochs: EPOCHS, batch_size: BATCH, patience: 0, threads: 1, accelerator: cpu, module: net.Net}
metric: auroc
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        peers = {
            "script, loader": [sys.executable, "script.py", "loader", str(BATCH), str(EPOCHS)],
            "script, tensors": [sys.executable, "script.py", "tensors", str(BATCH), str(EPOCHS)],
            "mlops run": [sys.executable, "-m", "mlops_core", "run"],
        }
        taken: dict[str, list[tuple[float, float]]] = {peer: [] for peer in peers}
        for _ in range(REPEATS):
            for peer, command in peers.items():
                taken[peer].append(once(folder, command))
        report({p: (statistics.median(a for a, _ in t), statistics.median(b for _, b in t)) for p, t in taken.items()})


def prepare(folder: Path) -> None:
    """The module, the script, the project, and the data: split as mlops splits it, by one run that is thrown away."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH))
    y = np.where(x[:, :4].sum(1) + rng.normal(size=ROWS) > 0, "b", "a")
    pl.DataFrame({f"x{i}": x[:, i] for i in range(WIDTH)} | {"y": y}).write_parquet(folder / "all.parquet")
    (folder / "conf").mkdir()
    (folder / "conf" / "config.yaml").write_text(CONFIG.replace("EPOCHS", str(EPOCHS)).replace("BATCH", str(BATCH)))
    (folder / "net.py").write_text(NET)
    (folder / "script.py").write_text(SCRIPT)
    once(folder, [sys.executable, "-m", "mlops_core", "run", "--until", "data"])
    frozen = next((folder / ".mlops" / "data").iterdir())
    (folder / "data").symlink_to(frozen.rename(folder / "frozen"))


def once(folder: Path, command: list[str]) -> tuple[float, float]:
    """CPU seconds from the first batch to the last, and of the whole process, from a state of nothing."""
    import shutil

    shutil.rmtree(folder / ".mlops", ignore_errors=True)
    out = folder / "seconds.json"
    out.write_text("0")
    whole, _ = cpu(command, folder, os.environ | {"BENCH_OUT": str(out)})
    return json.loads(out.read_text()), whole


def report(found: dict[str, tuple[float, float]]) -> None:
    batches, whole = found["mlops run"]
    for name, (of_batches, of_all) in found.items():
        print(f"  {name:<18} batches {of_batches:6.2f} CPU s   in all {of_all:6.2f} CPU s", end="")
        print(f"   mlops: {batches / of_batches:.3f}x, {whole - of_all:+.2f} s" if name != "mlops run" else "")


if __name__ == "__main__":
    main()
