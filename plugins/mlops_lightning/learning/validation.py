"""The validation split seen by a module in training: its answers, and their scores."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlops_core import METRICS, score
from mlops_core.contracts import Dataset, Scores
from mlops_lightning.learning.answers import Kind, finish, kind_of, tensor_of
from mlops_lightning.learning.data import Batches


@contextlib.contextmanager
def answering(module: nn.Module) -> Iterator[None]:
    """The module as it answers, without gradients; then each of its parts in the mode that it was in."""
    was = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in was:
            part.training = training


class Validation:
    """Scores of the core for a module's answers to the validation split."""

    def __init__(self, dataset: Dataset, batches: Batches, *, as_dict: bool, output: str) -> None:
        self.dataset, self.batches, self.as_dict, self.output = dataset, batches, as_dict, output
        self.target, self.weight = batches.targets()

    def ask(self, module: nn.Module, device: Any = "cpu") -> Tensor:
        """Answers to every row, in order."""
        with answering(module):
            return torch.cat([tensor_of(module(self.inputs_of(r.to(device)))).float().cpu() for r in self.rows()])

    def rows(self) -> Any:
        """The split's rows in order, whatever the batches are packed as."""
        for piece in self.batches.chunks():
            for start in range(0, len(piece), self.batches.size):
                yield piece.take(slice(start, start + self.batches.size))

    def inputs_of(self, rows: Any) -> Any:
        """`x` as the module takes it."""
        return rows.inputs if self.as_dict else next(iter(rows.inputs.values()))

    def kind(self, given: Tensor) -> Kind:
        return kind_of(given, self.dataset.task, len(self.dataset.classes), self.output)

    def scores(self, given: Tensor) -> Scores:
        """Every metric of the core that means something for the task; not numbers where an answer is none."""
        answers = finish(given, self.kind(given)).numpy()
        if not np.isfinite(answers).all():
            return dict.fromkeys((n for n, m in METRICS.items() if self.dataset.task in m.tasks), math.nan)
        name = "prediction" if self.dataset.task == "regression" else "probability"
        return score(self.dataset.task, self.target, {name: answers}, weight=self.weight)
