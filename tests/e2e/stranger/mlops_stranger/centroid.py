"""Trainer `centroid`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt

from mlops_core.contracts import Columns, Dataset, Job, Predict, Scores
from mlops_core.errors import TrainingError


@dataclass(frozen=True)
class Centroid:
    """Nearest centroid: a row is of the class whose mean is nearest; kept in a format of its own.

    sharpness: how fast the probability of a class falls with the distance to its mean
    """

    sharpness: Annotated[float, Gt(0)] = 1.0

    def fit(self, dataset: Dataset, job: Job) -> Scores:
        import numpy as np

        from mlops_core import ModelFile, read_split, score

        if dataset.task == "regression":
            raise TrainingError("centroid: finds classes, and the target is a number; choose another trainer")
        columns, target = read_split(dataset, "train")
        names = [c.name for c in dataset.having("feature") if c.kind in ("number", "boolean")]
        rows = _matrix(columns, names)
        mean, scale = np.nanmean(rows, 0), np.nanstd(rows, 0) + 1e-9
        known = np.nan_to_num((rows - mean) / scale)
        centres = np.stack([known[target == k].mean(0) for k in range(len(dataset.classes))])
        with (job.out / "centroid.npz").open("wb") as file:
            np.savez(file, names=np.array(names), mean=mean, scale=scale, centres=centres, sharpness=self.sharpness)
        model = ModelFile(format="centroid", task=dataset.task, target=dataset.target, classes=dataset.classes)
        model.write(job.out)
        columns, target = read_split(dataset, "validation")
        scores = score(dataset.task, target, self.load(job.out)(columns))
        job.report(1, scores)
        return scores

    def load(self, path: Path) -> Predict:
        import numpy as np

        from mlops_core import ModelFile

        model = ModelFile.read(path)
        with np.load(path / "centroid.npz") as file:
            kept = dict(file)

        def predict(columns: Columns) -> Columns:
            rows = np.nan_to_num((_matrix(columns, kept["names"].tolist()) - kept["mean"]) / kept["scale"])
            far = ((rows[:, None] - kept["centres"][None]) ** 2).sum(2)
            near = np.exp(-kept["sharpness"] * (far - far.min(1, keepdims=True)))
            return model.answer(near / near.sum(1, keepdims=True))

        return predict


def _matrix(columns: Columns, names: Sequence[str]) -> Any:
    import numpy as np

    return np.stack([np.asarray(columns[n], float) for n in names], 1)
