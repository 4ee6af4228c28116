"""Trainer `lightning`: its verbs. Imports no torch until one is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mlops_core.contracts import Dataset, Job, Predict, Scores
from mlops_lightning.options import CONTINUES, Options
from mlops_lightning.options import Network as Network


@dataclass(frozen=True)
class LightningTrainer(Options):
    __doc__ = Options.__doc__
    gangs: ClassVar[bool] = True
    continues: ClassVar[tuple[str, ...]] = CONTINUES

    def reports(self) -> tuple[str, ...] | None:
        """What a module of the user's own logs is among the scores."""
        return None if self.module else ()

    def fit(self, dataset: Dataset, job: Job) -> Scores:
        from mlops_lightning.learning.line import fit

        return fit(self, dataset, job)

    def load(self, path: Path) -> Predict:
        from mlops_lightning.learning.saved import load

        return load(path)
