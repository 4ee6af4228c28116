"""What both trainers are told: their common options, and what `params` may not hold."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from mlops_core.contracts import Job, Predict, Task
from mlops_core.errors import TrainingError

Share = Annotated[float, Gt(0), Le(1)]
Loss = Literal["auto", "absolute", "huber", "poisson", "gamma", "tweedie"]
CELLS = 100_000  # of a table, for each thread
LOGARITHMIC = ("poisson", "gamma", "tweedie")  # their trees add up to the logarithm of the answer


@dataclass(frozen=True)
class Boosting:
    """Each trainer's manual tells these too."""

    rounds: Annotated[int, Ge(1), Le(100_000)] = 500
    learning_rate: Annotated[float, Gt(0), Le(1)] = 0.05
    subsample: Share = 1.0
    colsample: Share = 1.0
    reg_alpha: Annotated[float, Ge(0)] = 0.0
    reg_lambda: Annotated[float, Ge(0)] = 1.0
    patience: Annotated[int, Ge(0)] = 50
    class_weight: Literal["none", "balanced"] = "none"
    loss: Loss = "auto"
    layout: Literal["native", "ordinal", "onehot"] = "native"
    monotone: Mapping[str, Literal[-1, 0, 1]] = field(default_factory=dict)
    score_rounds: Annotated[int, Ge(1)] = 5
    checkpoint_rounds: Annotated[int, Ge(1)] = 250
    threads: Annotated[int, Ge(0)] = 0
    params: Mapping[str, Any] = field(default_factory=dict)

    # each tree is made by itself: with other values the next is another
    continues: ClassVar[tuple[str, ...]] = ("learning_rate", "subsample", "colsample", "reg_alpha", "reg_lambda")

    OWN: ClassVar[Mapping[str, str]] = {}  # a parameter of the library -> the option that sets it
    FIXED: ClassVar[Mapping[str, str]] = {}  # a parameter of the library -> why it cannot be set

    def __post_init__(self) -> None:
        for name in self.params:
            if name in self.OWN:
                raise ValueError(f"params.{name}: set the option {self.OWN[name]} instead")
            if name in self.FIXED:
                raise ValueError(f"params.{name} cannot be set: {self.FIXED[name]}")

    def load(self, path: Path) -> Predict:
        from mlops_core import load_onnx

        return load_onnx(path)

    def link(self, task: Task) -> Literal["identity", "logistic", "softmax", "exp"]:
        """What makes an answer of the sum of the trees."""
        if task == "regression":
            return "exp" if self.loss in LOGARITHMIC else "identity"
        if self.loss != "auto":
            raise TrainingError(f"loss {self.loss!r} is for regression, and this is a {task} task; take loss: auto")
        return "logistic" if task == "binary" else "softmax"

    def cpus(self, job: Job, cells: int) -> int:
        """Threads for a table of so many numbers: those of a small one would wait for each other, and burn while so."""
        given = self.threads or math.ceil(job.resources.get("cpus", 0))
        return given or max(1, min(cells // CELLS, os.cpu_count() or 1))
