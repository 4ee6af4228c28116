"""The frozen data as matrices: what the libraries take, and how to ask them what a row of it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import Columns, Dataset, Task
from mlops_core.errors import TrainingError, did_you_mean

if TYPE_CHECKING:
    from mlops_boosting.options import Boosting
    from mlops_core import Encoder


@dataclass(frozen=True)
class Table:
    """Float32 matrices of both splits: numbers, then categories, then arrays; a missing number is NaN."""

    task: Task
    classes: int
    encoder: Encoder
    native: bool
    train: Any
    target: Any
    weight: Any
    held: Any
    held_target: Any
    held_columns: Columns

    @property
    def width(self) -> int:
        return int(self.train.shape[1])

    def is_category(self, column: int) -> bool:
        """Whether the column of the matrix holds codes to be split on as sets."""
        first = len(self.encoder.numbers)
        return self.native and first <= column < first + len(self.encoder.categories)

    def monotone(self, wanted: Mapping[str, int]) -> list[int]:
        """A direction for each column of the matrix. Raises TrainingError for a column that has none."""
        names = [n.name for n in self.encoder.numbers]
        for name in wanted:
            if name not in names:
                raise TrainingError(
                    f"monotone.{name} is no number, boolean or time feature; {did_you_mean(name, names)}"
                )
        if any(wanted.values()) and self.task == "multiclass":
            raise TrainingError("monotone means nothing with more than two classes")
        return [wanted.get(name, 0) for name in names] + [0] * (self.width - len(names))


def read(options: Boosting, dataset: Dataset) -> Table:
    from mlops_core import Encoder, read_split

    encoder = Encoder.fit(dataset, layout="onehot" if options.layout == "onehot" else "ordinal")
    columns, target = read_split(dataset, "train")
    held_columns, held_target = read_split(dataset, "validation")
    return Table(
        task=dataset.task,
        classes=len(dataset.classes),
        encoder=encoder,
        native=options.layout == "native",
        train=_matrix(encoder, columns),
        target=target,
        weight=_weights(dataset, target, balanced=options.class_weight == "balanced"),
        held=_matrix(encoder, held_columns),
        held_target=held_target,
        held_columns=held_columns,
    )


def _matrix(encoder: Encoder, columns: Columns) -> Any:
    import numpy as np

    with np.errstate(over="ignore"):  # told below
        inputs = encoder.encode(columns)
    parts = [inputs["matrix"]] if "matrix" in inputs else []
    parts += [inputs[a.name].reshape(len(inputs[a.name]), -1) for a in encoder.arrays]
    matrix = np.concatenate(parts, 1)
    beyond = np.flatnonzero(np.isinf(matrix).any(0))
    if len(beyond):
        names = [n.name for n in encoder.numbers]
        where = f"column {names[beyond[0]]!r}" if beyond[0] < len(names) else "an array"
        raise TrainingError(
            f"{where} holds a number that is infinite, or beyond what 32 bits hold; scale it, "
            "or forbid it in the contract"
        )
    return matrix


def _weights(dataset: Dataset, target: Any, *, balanced: bool) -> Any:
    """The column of role weight, times what balances the classes; None where all rows weigh the same."""
    import numpy as np
    import polars as pl

    names = [c.name for c in dataset.having("weight")]
    weight = None
    if names:
        found = pl.read_parquet(dataset.split("train"), columns=names)[names[0]]
        weight = found.fill_null(0).cast(pl.Float64).to_numpy()
        if not (weight >= 0).all():
            raise TrainingError(f"column {names[0]!r} has role weight and holds a number below 0, or none at all")
    if dataset.task == "regression":
        return weight
    counts = np.bincount(target, weights=weight, minlength=len(dataset.classes))
    if not counts.all():
        absent = dataset.classes[int(counts.argmin())]
        raise TrainingError(f"the train split holds no row of class {absent!r} that weighs something")
    if not balanced:
        return weight
    share = counts.sum() / (len(counts) * counts)
    return share[target] * (1.0 if weight is None else weight)
