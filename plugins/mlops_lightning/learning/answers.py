"""What a module's `forward` gives, as probabilities [n, k] or values [n]; the same in validation and in the export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mlops_core.contracts import Task
from mlops_core.errors import TrainingError

# softmax: logits [n, k]; sigmoid: one logit a row; positive: one probability a row
Kind = Literal["softmax", "probability", "sigmoid", "positive", "value"]


def tensor_of(given: Any) -> Tensor:
    """The answer itself; of several things that a forward gives, the first."""
    while isinstance(given, tuple | list) and given:
        given = given[0]
    if not isinstance(given, Tensor):
        raise TrainingError(f"the module's forward gives {type(given).__name__}; expected a tensor")
    return given


def kind_of(given: Tensor, task: Task, classes: int, output: str) -> Kind:
    """How to read the answers to a whole split. Raises TrainingError where their shape fits no task like this."""
    given = given.detach()
    flat = given.ndim == 1 or (given.ndim == 2 and given.shape[1] == 1)
    if task == "regression":
        if not flat:
            raise TrainingError(_misfit(given, "a value a row: [n] or [n, 1]"))
        return "value"
    if output == "value":
        raise TrainingError(f"output 'value' is for regression, and this is a {task} task")
    if flat and classes == 2:
        inside = bool(((given >= 0) & (given <= 1)).all())
        return "positive" if output == "probability" or (output == "auto" and inside) else "sigmoid"
    if given.ndim != 2 or given.shape[1] != classes:
        raise TrainingError(_misfit(given, f"one column for each of the {classes} classes: [n, {classes}]"))
    sums = bool((given >= 0).all()) and bool(((given.float().sum(1) - 1).abs() < 1e-2).all())
    return "probability" if output == "probability" or (output == "auto" and sums) else "softmax"


def finish(given: Tensor, kind: Kind) -> Tensor:
    """Probabilities [n, k], or values [n]."""
    given = given.float()
    if kind == "value":
        return given.reshape(-1)
    if kind in ("softmax", "probability"):
        return given.softmax(1) if kind == "softmax" else given
    positive = given.reshape(-1, 1).sigmoid() if kind == "sigmoid" else given.reshape(-1, 1)
    return torch.cat([1 - positive, positive], 1)


class Answering(nn.Module):
    """A trained module as it is served: the encoder's inputs in, probabilities or values out."""

    def __init__(self, module: nn.Module, names: Sequence[str], *, as_dict: bool, kind: Kind) -> None:
        super().__init__()
        self.module, self.names, self.as_dict, self.kind = module, tuple(names), as_dict, kind

    def forward(self, *inputs: Tensor) -> Tensor:
        x = dict(zip(self.names, inputs, strict=True)) if self.as_dict else inputs[0]
        return finish(tensor_of(self.module(x)), self.kind)

    def of(self, inputs: Mapping[str, Tensor]) -> Tensor:
        answer: Tensor = self(*(inputs[name] for name in self.names))
        return answer


def _misfit(given: Tensor, expected: str) -> str:
    return f"the module's forward gives shape {list(given.shape)}; expected {expected}"
