"""Evaluation with intervals and slices, and how gate rules come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_core.contracts import Artifact, Column, Dataset, Evaluation, GateRule, Score, Signature
from mlops_core.errors import DataError, UsageError
from mlops_core.promotion import evaluate, judge, unfit


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
    why = "under 20 rows of that slice are in the test split"
    assert missing.reason == f"auroc where sex=f could not be computed: {why}"


def test_reason_is_for_people() -> None:
    check = judge([GateRule(metric="auroc", at_least=0.9)], evaluation(0.85), lambda alias: None)[0]
    assert check.reason == "auroc 0.8500 [0.7500, 0.9500], at least 0.9 declared"


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(UsageError, match="gate: metric 'recall' is not one of auroc"):
        judge([GateRule(metric="recall", at_least=0.5)], evaluation(0.9), lambda alias: None)


def dataset_at(path: Path, rows: int, *more: Column) -> Dataset:
    columns = (
        Column(name="x", kind="number", dtype="float64"),
        Column(name="sex", kind="category", dtype="string", roles=("protected",)),
        *more,
    )
    return Dataset(
        name="d", artifact=Artifact(address="", sha256="", size=0, files=0), path=path, columns=columns,
        rows={"test": rows}, task="binary", target="y", classes=("a", "b"),
    )  # fmt: skip


def predict(given):
    p = 1 / (1 + np.exp(-given["x"]))
    return {"prediction": np.where(p > 0.5, "b", "a"), "probability": np.stack([1 - p, p], 1)}


def test_evaluate_scores_all_rows_in_batches_and_by_slice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = 500
    x = rng.normal(size=rows)
    sex = np.where(np.arange(rows) < 490, "m", "f")
    frame = pl.DataFrame({"x": x, "sex": sex, "y": np.where(x + rng.normal(size=rows) > 0, "b", "a")})
    frame.write_parquet(tmp_path / "test.parquet")
    dataset = dataset_at(tmp_path, rows)
    found = evaluate(predict, dataset, ["sex"], batch=64)
    assert found.rows == rows and 0.7 < found.metrics["auroc"].value < 0.95
    assert found.metrics["auroc"].low < found.metrics["auroc"].value < found.metrics["auroc"].high
    assert list(found.slices) == ["sex=m"], "ten rows say nothing"
    assert evaluate(predict, dataset, ["sex"], batch=1000) == found


def test_rows_without_weight_do_not_count(tmp_path: Path) -> None:
    weight = Column(name="w", kind="number", dtype="float64", roles=("weight",))
    frame = pl.DataFrame(
        {"x": [1.0, -1.0, 1.0, -1.0] * 20, "sex": "m", "y": ["b", "a", "a", "b"] * 20, "w": [2.0, 1.0, None, 0.0] * 20}
    )
    frame.write_parquet(tmp_path / "test.parquet")
    found = evaluate(predict, dataset_at(tmp_path, 80, weight), ["sex"])
    assert found.rows == 40 and found.metrics["accuracy"].value == 1.0
    assert found.slices["sex=m"]["accuracy"].low == 1.0
    frame.with_columns(w=pl.lit(None, pl.Float64)).write_parquet(tmp_path / "test.parquet")
    with pytest.raises(DataError, match="no row of the test split can be scored: all weigh nothing"):
        evaluate(predict, dataset_at(tmp_path, 80, weight), ["sex"])


def test_a_slice_that_the_data_does_not_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"slices: the data set holds no column 'sexx'.*did you mean 'sex'"):
        evaluate(predict, dataset_at(tmp_path, 1), ["sexx"])


def test_a_model_that_the_data_cannot_feed_is_not_scored(tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path, 1)
    fit = Signature(inputs=dataset.columns[:1], task="binary", target="y", classes=("a", "b"))
    assert unfit(fit, dataset) == ""
    lost = Column(name="z", kind="number", dtype="float64")
    other = Column(name="x", kind="category", dtype="string")
    assert unfit(replace(fit, inputs=(lost,)), dataset) == "it has no column 'z'"
    assert unfit(replace(fit, inputs=(other,)), dataset) == "column 'x' is number, and was category"
    assert unfit(replace(fit, classes=("b", "a")), dataset) == "its classes are a, b, and were b, a"
    assert unfit(replace(fit, task="regression"), dataset) == "its target is 'y' (binary), and was 'y' (regression)"


def test_a_rule_against_what_cannot_be_scored_is_not_met() -> None:
    rule = GateRule(metric="auroc", versus="champion", at_least=-1)
    check = judge([rule], evaluation(0.9), lambda alias: "version 1 cannot be scored on this data: no column")[0]
    assert not check.passed
    assert "champion version 1 cannot be scored on this data: no column; leave this rule out" in check.reason


def test_a_slice_may_be_named_count_and_a_weight_be_true_or_false(tmp_path: Path) -> None:
    columns = (
        Column(name="count", kind="category", dtype="string", roles=("protected",)),
        Column(name="w", kind="boolean", dtype="boolean", roles=("weight",)),
    )
    frame = pl.DataFrame({"x": [1.0, -1.0] * 40, "sex": "m", "count": "one", "y": ["b", "a"] * 40, "w": [True] * 80})
    frame.write_parquet(tmp_path / "test.parquet")
    assert list(evaluate(predict, dataset_at(tmp_path, 80, *columns), ["count"]).slices) == ["count=one"]
