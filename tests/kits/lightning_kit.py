"""Small frozen data sets and jobs for the tests of `trainer: lightning`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_core.contracts import Artifact, Column, ColumnKind, Dataset, Job, Scores, SplitName, Task

KINDS: dict[Any, ColumnKind] = {
    pl.Int64: "number", pl.Float64: "number", pl.String: "category", pl.Boolean: "boolean", pl.Datetime: "time",
    pl.Int32: "number", pl.Array: "array",
}  # fmt: skip


def frozen(
    path: Path, frame: pl.DataFrame, target: str, task: Task, *, seed: int = 0, roles: dict[str, str] | None = None
) -> Dataset:
    """The frame as a frozen data set, split 70/15/15, stratified where the target is a class."""
    path.mkdir(parents=True, exist_ok=True)
    part = _parts(frame, target, task, seed)
    rows = {}
    for number, split in enumerate(("train", "validation", "test")):
        chosen = frame.filter(pl.Series(part == number))
        chosen.write_parquet(path / f"{split}.parquet")
        rows[split] = len(chosen)
    columns = tuple(_column(name, dtype, target, roles or {}) for name, dtype in frame.schema.items())
    labels = [] if task == "regression" else frame[target].cast(pl.String).unique().sort().to_list()
    classes = tuple(reversed(labels) if "bad" in labels else labels)  # the positive class comes second
    return Dataset(
        name="tiny", artifact=Artifact(address="", sha256="", size=0, files=3), path=path, columns=columns,
        rows=rows, task=task, target=target, classes=classes,
    )  # fmt: skip


def _parts(frame: pl.DataFrame, target: str, task: Task, seed: int) -> Any:
    """0, 1 or 2 for each row: train, validation, test."""
    rng = np.random.default_rng(seed)
    part = np.zeros(len(frame), int)
    groups = [np.arange(len(frame))]
    if task != "regression":
        labels = frame[target].cast(pl.String).to_numpy()
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for rows in groups:
        shuffled = rng.permutation(rows)
        held = round(0.15 * len(rows))
        part[shuffled[:held]], part[shuffled[held : 2 * held]] = 1, 2
    return part


def _column(name: str, dtype: Any, target: str, roles: dict[str, str]) -> Column:
    role: Any = "target" if name == target else roles.get(name, "feature")
    shape = tuple(dtype.shape) if isinstance(dtype, pl.Array) else ()
    stored = "array" if shape else str(dtype).lower().partition("(")[0]
    return Column(
        name=name,
        kind=KINDS[type(dtype) if not isinstance(dtype, type) else dtype],
        dtype=stored,
        roles=(role,),
        shape=shape,
    )


def job(
    folder: Path,
    *,
    metric: str = "auroc",
    seed: int = 0,
    project: Path | None = None,
    report: Callable[[int, Scores], None] | None = None,
    mode: Any = "max",
    **more: Any,
) -> Job:
    """A job with fresh folders under `folder`; what it reports goes to `report`."""
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Job(
        out=folder / "out", scratch=folder / "scratch", project=project or folder, seed=seed, metric=metric, mode=mode,
        report=report or (lambda step, scores: None), **more,
    )  # fmt: skip


def table(task: Task, rows: int = 240, seed: int = 0) -> pl.DataFrame:
    """Numbers, a category, a boolean and a time that tell something of the target `y`; with missing values."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(50, 10, rows), rng.exponential(1000, rows)
    home = rng.choice(["rent", "own", "parents"], rows)
    married = rng.random(rows) < 0.5
    signal = (a - 50) / 10 + np.log1p(b) - 6 + 1.5 * (home == "rent") + 0.3 * rng.normal(size=rows)
    y: Any = signal * 100
    if task == "binary":
        y = np.where(signal > np.quantile(signal, 0.7), "yes", "no")
    elif task == "multiclass":
        y = np.digitize(signal, np.quantile(signal, [1 / 3, 2 / 3]))
    return pl.DataFrame(
        {
            "a": np.where(rng.random(rows) < 0.1, np.nan, a),
            "b": b,
            "home": [None if r < 0.1 else h for r, h in zip(rng.random(rows), home.tolist(), strict=True)],
            "married": married,
            "since": (1.5e15 + rng.integers(0, 10**14, rows)).astype("datetime64[us]"),
            "y": y,
        }
    ).with_columns(pl.col("a").fill_nan(None))


def split_columns(dataset: Dataset, split: SplitName) -> Any:
    """Feature columns and target of a split, as the core reads them."""
    from mlops_core import read_split

    return read_split(dataset, split)
