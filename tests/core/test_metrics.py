"""Metrics agree with scikit-learn: two and many classes, ties, weights, absent classes; intervals cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs
from sklearn.preprocessing import label_binarize

from mlops_core.contracts import Task
from mlops_core.metrics import METRICS, intervals, names, score


def sample(task: Task, rows: int, seed: int, ties: bool = False) -> tuple[Any, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    if task == "regression":
        target = rng.normal(size=rows)
        return target, {"prediction": target + rng.normal(size=rows)}
    k = 2 if task == "binary" else 4
    target = np.r_[np.arange(k), rng.integers(0, k, rows - k)]
    raw = rng.random((rows, k)) + 0.4 * np.eye(k)[target]
    shares = raw / raw.sum(1, keepdims=True)
    if ties:
        shares = np.round(shares, 1) + 0.05
        shares /= shares.sum(1, keepdims=True)
    return target, {"probability": shares, "prediction": shares.argmax(1)}


def reference(name: str, task: Task, target: Any, answer: dict[str, Any], weight: Any) -> float:
    """What scikit-learn says."""
    if task == "regression":
        function: Any = {
            "rmse": theirs.root_mean_squared_error, "mae": theirs.mean_absolute_error, "r2": theirs.r2_score,
        }[name]  # fmt: skip
        return float(function(target, answer["prediction"], sample_weight=weight))
    shares = answer["probability"]
    guess, classes = shares.argmax(1), range(shares.shape[1])
    two = task == "binary"
    known: Any = {"sample_weight": weight}
    if name == "auroc":
        if two:
            return float(theirs.roc_auc_score(target, shares[:, 1], **known))
        return float(np.mean([theirs.roc_auc_score(target == k, shares[:, k], **known) for k in classes]))
    if name == "auprc":
        if two:
            return float(theirs.average_precision_score(target, shares[:, 1], **known))
        return float(theirs.average_precision_score(label_binarize(target, classes=list(classes)), shares, **known))
    if name == "f1":
        return float(theirs.f1_score(target, guess, average="binary" if two else "macro", **known))
    if name == "brier":
        if two:
            return float(theirs.brier_score_loss(target, shares[:, 1], **known))
        return float(np.average(((shares - np.eye(len(classes))[target]) ** 2).sum(1), weights=weight))
    function = {
        "accuracy": theirs.accuracy_score, "balanced_accuracy": theirs.balanced_accuracy_score,
    }.get(name)  # fmt: skip
    return float(function(target, guess, **known) if function else theirs.log_loss(target, shares, **known))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_metrics_agree_with_scikit_learn(task: Task, ties: bool, weighted: bool) -> None:
    for seed in range(5):
        target, answer = sample(task, 300, seed, ties)
        weight = np.random.default_rng(seed).random(300) * 3 if weighted else None
        found = score(task, target, answer, weight=weight)
        assert set(found) == set(names(task))
        for name, value in found.items():
            assert value == pytest.approx(reference(name, task, target, answer, weight), abs=1e-9), name


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0.1, 5)), min_size=2, max_size=30
    ).filter(lambda rows: len({r[0] for r in rows}) == 2)
)
def test_ranking_metrics_with_any_ties_and_weights(rows: list[tuple[bool, float, float]]) -> None:
    target, share, weight = (np.array(column) for column in zip(*rows, strict=True))
    target = target.astype(np.int64)
    answer = {"probability": np.stack([1 - share, share], 1)}
    found = score("binary", target, answer, ["auroc", "auprc", "f1", "accuracy"], weight)
    for name, value in found.items():
        assert value == pytest.approx(reference(name, "binary", target, answer, weight), abs=1e-9), name


def test_weights_count_rows() -> None:
    """A row of weight 3 counts as three rows."""
    target, answer = sample("multiclass", 60, 1)
    times = np.random.default_rng(2).integers(1, 4, 60)
    repeated = {k: np.repeat(v, times, axis=0) for k, v in answer.items()}
    heavy, many = (
        score("multiclass", target, answer, weight=times),
        score("multiclass", np.repeat(target, times), repeated),
    )
    assert heavy == pytest.approx(many)


def test_where_a_metric_means_nothing_it_is_nan() -> None:
    one = {"probability": np.array([[0.4, 0.6], [0.3, 0.7]])}
    found = score("binary", np.array([1, 1]), one)
    assert np.isnan(found["auroc"])
    assert np.isnan(score("binary", np.array([0, 0]), one)["auprc"])
    assert np.isnan(score("regression", np.array([2.0, 2.0]), {"prediction": np.array([1.0, 2.0])})["r2"])


def test_probabilities_of_zero_are_finite() -> None:
    certain = {"probability": np.array([[1.0, 0.0], [0.0, 1.0]])}
    wrong = score("binary", np.array([1, 0]), certain)
    assert wrong["log_loss"] == pytest.approx(-np.log(1e-15))
    assert score("binary", np.array([0, 1]), certain)["log_loss"] == 0


def test_each_metric_knows_its_direction() -> None:
    better = {"binary": sample("binary", 400, 0), "regression": sample("regression", 400, 0)}
    for metric in METRICS.values():
        task = "binary" if "binary" in metric.tasks else "regression"
        target = better[task][0]
        if task == "binary":
            perfect, worse = {"probability": np.eye(2)[target]}, {"probability": np.eye(2)[1 - target]}
        else:
            perfect, worse = {"prediction": target}, {"prediction": target + 5}
        good, bad = (score(task, target, a, [metric.name])[metric.name] for a in (perfect, worse))
        assert (good > bad) == (metric.mode == "max"), metric.name
        assert metric.summary


def test_intervals_hold_the_value_and_are_repeatable() -> None:
    target, answer = sample("binary", 200, 3)
    found = intervals("binary", target, answer, draws=100, seed=4)
    assert found == intervals("binary", target, answer, draws=100, seed=4)
    assert found != intervals("binary", target, answer, draws=100, seed=5)
    for name, one in found.items():
        assert one.low <= one.value <= one.high, name
        assert one.rows == 200


def test_intervals_cover_at_the_declared_rate() -> None:
    """The accuracy of a coin is in its 90 % interval in about 90 % of samples."""
    covered, runs = 0, 150
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        target = rng.integers(0, 2, 150)
        answer = {"probability": np.eye(2)[rng.integers(0, 2, 150)]}
        found = intervals("binary", target, answer, ["accuracy"], draws=150, confidence=0.9, seed=seed)["accuracy"]
        covered += found.low <= 0.5 <= found.high
    assert 0.8 < covered / runs < 0.97, covered / runs


def test_intervals_survive_draws_without_a_class() -> None:
    target = np.array([0] * 30 + [1])
    answer = {"probability": np.stack([1 - (p := np.linspace(0, 1, 31)), p], 1)}
    found = intervals("binary", target, answer, ["auroc"], draws=50)["auroc"]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    none = intervals("binary", np.zeros(5, np.int64), {"probability": np.full((5, 2), 0.5)}, ["auroc"], draws=10)[
        "auroc"
    ]
    assert np.isnan([none.value, none.low, none.high]).all()
