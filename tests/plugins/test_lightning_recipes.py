"""The shipped recipes: their data is what its notice says, and the built-in network is as good as boosted trees."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightning_kit import job

from mlops_core import load_onnx, read_split, score
from mlops_core.config import declare
from mlops_core.contracts import Artifact, Dataset, SplitName
from mlops_core.plugins import Plugins
from mlops_core.shipped import shipped
from mlops_core.validation import freeze

RECIPES = ("credit", "digits")


@pytest.mark.parametrize("name", RECIPES)
def test_the_data_is_what_its_notice_says(name: str) -> None:
    folder = shipped("recipes") / name / "data"
    said = re.findall(r"^sha256  ([0-9a-f]{64})$", (folder / "NOTICE").read_text(), re.M)
    assert said == [hashlib.sha256((folder / f"{name}.parquet").read_bytes()).hexdigest()]


def test_the_credit_records_are_whole() -> None:
    frame = pl.read_parquet(shipped("recipes") / "credit" / "data" / "credit.parquet")
    assert frame.shape == (4454, 14)
    assert sum(frame.null_count().row(0)) == 455
    assert frame["status"].value_counts().sort("status").rows() == [("bad", 1254), ("good", 3200)]


def test_the_network_of_digits_knows_nothing_of_mlops() -> None:
    code = (shipped("recipes") / "digits" / "digits_net.py").read_text()
    assert re.findall(r"^(?:import|from) ([\w.]+)", code, re.M) == ["pytorch_lightning", "torch", "torch", "torch.nn"]


def frozen_recipe(name: str, tmp_path: Path) -> tuple[Any, Dataset]:
    """The declaration of a recipe and its data, frozen as `mlops run` freezes it."""
    declaration = declare(shipped("recipes") / name)
    source = Plugins().build("data", declaration.data)
    (tmp_path / "data").mkdir()
    left = freeze(source.read(), declaration, tmp_path / "data", tmp_path / "quarantine.parquet")
    assert left.rejected == 0
    dataset = Dataset(
        name=name, artifact=Artifact(address="", sha256="", size=0, files=3), path=tmp_path / "data",
        columns=left.columns, rows=left.rows, task=left.task, target=left.target, classes=left.classes,
    )  # fmt: skip
    return declaration, dataset


def boosted_trees(dataset: Dataset, split: SplitName) -> dict[str, float]:
    """scikit-learn's HistGradientBoosting with its own settings, on the same rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    known, target = read_split(dataset, "train")
    features = dataset.having("feature")
    names = {
        c.name: {v: i for i, v in enumerate(sorted({v for v in known[c.name] if v is not None}))}
        for c in features
        if c.kind == "category"
    }

    def matrix(columns: Any) -> Any:
        coded = [
            np.array([names[c.name].get(v, np.nan) for v in columns[c.name]]) if c.name in names else columns[c.name]
            for c in features
        ]
        return np.column_stack(coded)

    trees = HistGradientBoostingClassifier(random_state=0, categorical_features=[c.name in names for c in features])
    trees.fit(matrix(known), target)
    columns, held = read_split(dataset, split)
    return score("binary", held, {"probability": trees.predict_proba(matrix(columns))})


def test_the_network_keeps_up_with_boosted_trees_on_credit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declaration, dataset = frozen_recipe("credit", tmp_path)
    assert dataset.classes == ("good", "bad")
    trees = boosted_trees(dataset, "test")["auroc"]
    trainer = Plugins().build("trainer", declaration.trainer)
    work = job(tmp_path, seed=declaration.seed)
    dataclasses.replace(trainer, threads=1).fit(dataset, work)
    columns, target = read_split(dataset, "test")
    network = score("binary", target, load_onnx(work.out)(columns))["auroc"]
    with capsys.disabled():
        print(f"\ncredit, AUROC on the test split: network {network:.4f}, boosted trees {trees:.4f}")
    assert network >= trees - 0.01
