"""Evaluation with intervals and slices, and how gate rules come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_core.contracts import Artifact, Column, Dataset, Evaluation, GateRule, Score
from mlops_core.errors import UsageError
from mlops_core.promotion import evaluate, judge


def evaluation(value: float, **slices: float) -> Evaluation:
    made = lambda v: {"auroc": Score(value=v, low=v - 0.1, high=v + 0.1, rows=100)}  # noqa: E731
    return Evaluation(metrics=made(value), slices={f"sex={k}": made(v) for k, v in slices.items()}, rows=100)


def passed(rule: GateRule, value: float, champion: float | None = None, **slices: float) -> bool:
    other = None if champion is None else evaluation(champion)
    return judge([rule], evaluation(value, **slices), lambda alias: other)[0].passed


def test_absolute_bounds() -> None:
    assert passed(GateRule(metric="auroc", at_least=0.8), 0.8)
    assert not passed(GateRule(metric="auroc", at_least=0.8), 0.79)
    assert not passed(GateRule(metric="auroc", at_most=0.5), 0.6)
    assert not passed(GateRule(metric="auroc", at_least=0.0), float("nan"))


def test_against_the_champion() -> None:
    rule = GateRule(metric="auroc", versus="champion", at_least=-0.005)
    assert passed(rule, 0.5), "the first version has nobody to beat"
    assert passed(rule, 0.796, champion=0.8)
    assert not passed(rule, 0.79, champion=0.8)


def test_slices() -> None:
    rule = GateRule(metric="auroc", at_least=0.7, slice="sex=f")
    assert passed(rule, 0.1, f=0.75)
    missing = judge([rule], evaluation(0.9), lambda alias: None)[0]
    assert not missing.passed
    assert missing.reason == "auroc where sex=f could not be computed: no row of that slice is in the test split"


def test_reason_is_for_people() -> None:
    check = judge([GateRule(metric="auroc", at_least=0.9)], evaluation(0.85), lambda alias: None)[0]
    assert check.reason == "auroc 0.8500 [0.7500, 0.9500], at least 0.9 declared"


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(UsageError, match="gate: metric 'recall' is not one of auroc"):
        judge([GateRule(metric="recall", at_least=0.5)], evaluation(0.9), lambda alias: None)


def test_evaluate_scores_all_rows_in_batches_and_by_slice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = 500
    x = rng.normal(size=rows)
    sex = np.where(np.arange(rows) < 490, "m", "f")
    frame = pl.DataFrame({"x": x, "sex": sex, "y": np.where(x + rng.normal(size=rows) > 0, "b", "a")})
    frame.write_parquet(tmp_path / "test.parquet")
    columns = (Column(name="x", kind="number", dtype="float64"),)
    dataset = Dataset(
        name="d", artifact=Artifact(address="", sha256="", size=0, files=0), path=tmp_path, columns=columns,
        rows={"test": rows}, task="binary", target="y", classes=("a", "b"),
    )  # fmt: skip

    def predict(given):
        p = 1 / (1 + np.exp(-given["x"]))
        return {"prediction": np.where(p > 0.5, "b", "a"), "probability": np.stack([1 - p, p], 1)}

    found = evaluate(predict, dataset, ["sex"], batch=64)
    assert found.rows == rows and 0.7 < found.metrics["auroc"].value < 0.95
    assert found.metrics["auroc"].low < found.metrics["auroc"].value < found.metrics["auroc"].high
    assert list(found.slices) == ["sex=m"], "ten rows say nothing"
    assert evaluate(predict, dataset, ["sex"], batch=1000) == found
