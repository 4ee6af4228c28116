"""Training of the built-in network: its loss, its optimiser, and what it takes from the training split first."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from mlops_core import Encoder
from mlops_core.contracts import Dataset
from mlops_lightning.learning.data import Batches, Rows
from mlops_lightning.learning.network import TabularNet
from mlops_lightning.options import Options

BINS_FROM = 100_000  # rows that quantiles are taken from


def shape(options: Options, dataset: Dataset, encoder: Encoder) -> dict[str, Any]:
    """The arguments of `TabularNet` for this data, as plain data."""
    arrays = {a.name: int(torch.Size(a.shape).numel()) for a in encoder.arrays}
    net = options.model
    return {
        "outputs": 1 if dataset.task == "regression" else len(dataset.classes),
        "numbers": len(encoder.numbers),
        "flags": sum(f.flag for f in encoder.numbers),
        "categories": [len(c.values) for c in encoder.categories],
        "arrays": arrays,
        "hidden": list(net.hidden),
        "dropout": net.dropout,
        "embedding": net.embedding,
        "members": net.members,
        "bins": net.bins,
    }


class Tabular(lightning.LightningModule):  # type: ignore[misc]
    """The network with its loss; batches are `Rows`."""

    def __init__(self, net: TabularNet, options: Options, classes: Tensor | None) -> None:
        super().__init__()
        self.net, self.options = net, options
        self.classes: Tensor | None
        self.register_buffer("classes", classes, persistent=False)

    @classmethod
    def of(cls, options: Options, dataset: Dataset, batches: Batches) -> Tabular:
        """The network for this data, with bins, class weights and the target's scale learnt from `batches`."""
        net = TabularNet(**shape(options, dataset, batches.encoder))
        if net.embed_numbers is not None:
            net.embed_numbers.learn(batches.sample(BINS_FROM).inputs["numbers"][:, : net.numbers].numpy())
        if dataset.task == "regression":
            mean, deviation = _moments(batches)
            net.center.fill_(mean)
            net.scale.fill_(max(deviation, 1e-12))
            return cls(net, options, None)
        classes = len(dataset.classes)
        pieces = [torch.bincount(target, minlength=classes) for target, _ in batches.target_pieces()]
        counts = torch.stack(pieces).sum(0).clamp(min=1)
        return cls(net, options, batches.rows / (classes * counts) if options.class_weight == "balanced" else None)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        answer: Tensor = self.net(x)
        return answer

    def training_step(self, rows: Rows, index: int) -> Tensor:
        raw = self.net.raw(rows.inputs)
        members = raw.shape[0]
        if self.net.outputs == 1:
            wanted = (rows.target - self.net.center) / self.net.scale
            losses = (raw.squeeze(-1) - wanted) ** 2
        else:
            target = rows.target.repeat(members)
            losses = F.cross_entropy(raw.flatten(0, 1), target, weight=self.classes, reduction="none").view(members, -1)
        if rows.weight is not None:
            mean = self.all_gather(rows.weight.mean()).mean()  # of all processes of a gang
            losses = losses * rows.weight / mean.clamp(min=1e-12)
        return losses.mean()

    def configure_optimizers(self) -> Any:
        options, weights = self.options, self.parameters()
        if options.optimizer == "sgd":
            optimizer: Any = torch.optim.SGD(weights, options.lr, momentum=0.9, weight_decay=options.weight_decay)
        else:
            kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
            optimizer = kind(weights, options.lr, weight_decay=options.weight_decay)
        if options.schedule == "constant":
            return optimizer
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        if options.schedule == "cosine":
            schedule: Any = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        else:
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _moments(batches: Batches) -> tuple[float, float]:
    """Mean and standard deviation of the target, a piece at a time (Chan, Golub and LeVeque, 1979)."""
    rows, mean, squares = 0, 0.0, 0.0
    for target, _ in batches.target_pieces():
        new = len(target)
        off = float(target.double().mean()) - mean
        squares += float(target.double().var(correction=0)) * new + off**2 * rows * new / (rows + new)
        rows, mean = rows + new, mean + off * new / (rows + new)
    return mean, math.sqrt(squares / rows)
