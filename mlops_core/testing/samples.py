"""Small data sets and a small model, made when they are asked for."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_core.bundle import open_bundle, seal
from mlops_core.contracts import SPLITS, Artifact, Choice, Column, Dataset, Route, Signature, Task
from mlops_core.features import Encoder, ModelFile, NumberFeature, save_onnx
from mlops_core.hashing import FileDigests
from mlops_core.objects import tree_digest

if TYPE_CHECKING:
    import polars as pl

ROWS = {"train": 160, "validation": 60, "test": 40}
INPUTS = (
    Column(name="size", kind="number", dtype="float64", nullable=True),
    Column(name="count", kind="number", dtype="int64", nullable=False),
    Column(name="colour", kind="category", dtype="string", nullable=True, categories=("red", "green", "blue")),
    Column(name="sold", kind="boolean", dtype="boolean", nullable=False),
)
CLASSES: dict[Task, tuple[str, ...]] = {"binary": ("no", "yes"), "multiclass": ("low", "mid", "top"), "regression": ()}

# An ONNX graph of opset 17 with input `numbers` float32 [n, 1] and output `probability` [n, 2]:
# Softmax(MatMul(numbers, [[-1, 1]]), axis=1), written by onnx.helper.
GRAPH = (
    "CAgSCm1sb3BzX2NvcmU6oQEKHAoHbnVtYmVycwoBdxIGbG9naXRzIgZNYXRNdWwKKwoGbG9naXRzEgtwcm9iYWJpbGl0eSIHU29m"
    "dG1heCoLCgRheGlzGAGgAQISA2tpdCoTCAEIAhABQgF3SggAAIC/AACAP1oaCgdudW1iZXJzEg8KDQgBEgkKAxIBbgoCCAFiHgoL"
    "cHJvYmFiaWxpdHkSDwoNCAESCQoDEgFuCgIIAkIECgAQEQ=="
)


def make_frame(task: Task, rows: int, seed: int = 0) -> pl.DataFrame:
    """Numbers and a category with missing values, a boolean, and a target that follows from them."""
    import polars as pl

    rng = np.random.default_rng(seed)
    size, count, colour = rng.normal(size=rows), rng.integers(0, 5, rows), rng.integers(0, 3, rows)
    signal = 1.5 * size + 0.5 * count + colour - 2 + rng.normal(0, 0.3, rows)
    target: Any = signal
    if task != "regression":
        classes = CLASSES[task]
        edges = (0.0,) if task == "binary" else (-0.7, 0.7)
        target = [classes[i] for i in np.searchsorted(edges, signal)]
    names = [None if rng.random() < 0.05 else str(INPUTS[2].categories[c]) for c in colour]
    columns = {"size": size, "count": count, "colour": names, "sold": rng.random(rows) < 0.5, "target": target}
    holes = pl.Series(rng.random(rows) < 0.05)
    return pl.DataFrame(columns).with_columns(pl.when(holes).then(None).otherwise(pl.col("size")).alias("size"))


def make_dataset(folder: Path, task: Task, seed: int = 0) -> Dataset:
    """A frozen data set of 260 rows in `folder`, easy to learn."""
    folder.mkdir(parents=True)
    for index, split in enumerate(SPLITS):
        make_frame(task, ROWS[split], seed * 10 + index).write_parquet(folder / f"{split}.parquet")
    digests = FileDigests(None)
    artifact: Artifact = tree_digest(folder, digests)
    digests.close()
    kind, dtype = ("number", "float64") if task == "regression" else ("category", "string")
    target = Column(name="target", kind=kind, dtype=dtype, roles=("target",), nullable=False)  # type: ignore[arg-type]
    return Dataset(
        name="kit",
        artifact=artifact,
        path=folder,
        columns=(*INPUTS, target),
        rows=ROWS,
        task=task,
        target="target",
        classes=CLASSES[task],
    )


def make_bundle(folder: Path, middle: float = 0.0) -> Path:
    """A sealed bundle whose class is `yes` where the one input `size` is above `middle`."""
    model = folder.with_name(f"{folder.name}-model")
    model.mkdir(parents=True)
    (model / "model.onnx").write_bytes(base64.b64decode(GRAPH))
    encoder = Encoder(numbers=(NumberFeature(name="size", mean=middle),))
    save_onnx(model, encoder, ModelFile(format="onnx", task="binary", target="target", classes=CLASSES["binary"]))
    signature = Signature(inputs=INPUTS[:1], task="binary", target="target", classes=CLASSES["binary"])
    lineage = {"name": "kit", "middle": middle}
    return seal(
        model, folder, signature=signature, trainer=Choice(plugin="kit"), lineage=lineage, profile=None, samples=None
    )


def make_route(version: int, bundle: Path) -> Route:
    return Route(version=version, bundle=bundle, sha256=open_bundle(bundle).sha256)


def is_json(value: Any) -> bool:
    """Whether `value` is plain data that JSON gives back as it was."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False
