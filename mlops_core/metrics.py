"""Metrics by name, and their bootstrap intervals. NumPy only; tested against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_core.contracts import Columns, Mode, Score, Task, record
from mlops_core.errors import TrainingError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array = Any
EPSILON = 1e-15


@record
class Metric:
    """A named measure. `compute(target, answer, weight)` where `target` is class indices (int64) or values
    (float64), `answer` is probabilities [n, k] for classification or values [n] for regression."""

    name: str
    mode: Mode
    tasks: tuple[Task, ...]
    compute: Callable[[Array, Array, Array], float]
    summary: str


def auroc(target: Array, answer: Array, weight: Array) -> float:
    """Area under the ROC curve, ties counted half (Hanley and McNeil, 1982); macro one-vs-rest for many
    classes; NaN where a class is absent."""
    if answer.shape[1] > 2:
        return float(np.mean([_auc(target == k, answer[:, k], weight) for k in range(answer.shape[1])]))
    return _auc(target == 1, answer[:, 1], weight)


def _auc(positive: Array, score: Array, weight: Array) -> float:
    order = np.argsort(score, kind="stable")
    score, up = score[order], np.where(positive, weight, 0.0)[order]
    down = weight[order] - up
    starts = np.flatnonzero(np.r_[True, np.diff(score) != 0])
    up, down = np.add.reduceat(up, starts), np.add.reduceat(down, starts)
    pairs = up.sum() * down.sum()
    return float(np.sum(up * (np.cumsum(down) - 0.5 * down)) / pairs) if pairs else float("nan")


def auprc(target: Array, answer: Array, weight: Array) -> float:
    """Average precision (step interpolation) of the positive class; macro for many classes."""
    if answer.shape[1] > 2:
        return float(np.mean([_ap(target == k, answer[:, k], weight) for k in range(answer.shape[1])]))
    return _ap(target == 1, answer[:, 1], weight)


def _ap(positive: Array, score: Array, weight: Array) -> float:
    order = np.argsort(-score, kind="stable")
    score, hit = score[order], np.where(positive, weight, 0.0)[order]
    ends = np.flatnonzero(np.r_[np.diff(score) != 0, True])
    found, seen = np.cumsum(hit)[ends], np.cumsum(weight[order])[ends]
    if not found[-1]:
        return float("nan")
    return float(np.sum(np.diff(np.r_[0.0, found]) / found[-1] * found / seen))


def accuracy(target: Array, answer: Array, weight: Array) -> float:
    return float(np.average(answer.argmax(1) == target, weights=weight))


def balanced_accuracy(target: Array, answer: Array, weight: Array) -> float:
    """Mean recall over the classes that are present."""
    guess = answer.argmax(1)
    right = [np.average(guess[target == k] == k, weights=weight[target == k]) for k in np.unique(target)]
    return float(np.mean(right))


def f1(target: Array, answer: Array, weight: Array) -> float:
    """F1 of the positive class at 0.5; macro over classes for many."""
    guess = answer.argmax(1)
    classes = range(answer.shape[1]) if answer.shape[1] > 2 else (1,)
    return float(np.mean([_f1(target == k, guess == k, weight) for k in classes]))


def _f1(real: Array, guess: Array, weight: Array) -> float:
    both = weight[real & guess].sum()
    total = weight[real].sum() + weight[guess].sum()
    return float(2 * both / total) if total else 0.0


def log_loss(target: Array, answer: Array, weight: Array) -> float:
    chosen = np.clip(answer[np.arange(len(target)), target].astype(np.float64), EPSILON, 1.0)
    return float(np.average(-np.log(chosen), weights=weight))


def brier(target: Array, answer: Array, weight: Array) -> float:
    """Mean squared error of the positive class's probability; for many classes summed over classes."""
    if answer.shape[1] == 2:
        return float(np.average((answer[:, 1] - target) ** 2, weights=weight))
    wanted = np.eye(answer.shape[1])[target]
    return float(np.average(((answer - wanted) ** 2).sum(1), weights=weight))


def rmse(target: Array, answer: Array, weight: Array) -> float:
    return float(np.sqrt(np.average((target - answer) ** 2, weights=weight)))


def mae(target: Array, answer: Array, weight: Array) -> float:
    return float(np.average(np.abs(target - answer), weights=weight))


def r2(target: Array, answer: Array, weight: Array) -> float:
    """1 - residual / total sum of squares; NaN where the target is constant."""
    total = np.average((target - np.average(target, weights=weight)) ** 2, weights=weight)
    return float(1 - np.average((target - answer) ** 2, weights=weight) / total) if total else float("nan")


_BOTH: tuple[Task, ...] = ("binary", "multiclass")
_REAL: tuple[Task, ...] = ("regression",)
METRICS: Mapping[str, Metric] = {
    m.name: m
    for m in (
        Metric(name="auroc", mode="max", tasks=_BOTH, compute=auroc, summary="area under the ROC curve"),
        Metric(name="auprc", mode="max", tasks=_BOTH, compute=auprc, summary="average precision"),
        Metric(name="accuracy", mode="max", tasks=_BOTH, compute=accuracy, summary="share of right answers"),
        Metric(name="balanced_accuracy", mode="max", tasks=_BOTH, compute=balanced_accuracy, summary="mean recall"),
        Metric(name="f1", mode="max", tasks=_BOTH, compute=f1, summary="harmonic mean of precision and recall"),
        Metric(name="log_loss", mode="min", tasks=_BOTH, compute=log_loss, summary="mean negative log likelihood"),
        Metric(name="brier", mode="min", tasks=_BOTH, compute=brier, summary="squared error of the probability"),
        Metric(name="rmse", mode="min", tasks=_REAL, compute=rmse, summary="root mean squared error"),
        Metric(name="mae", mode="min", tasks=_REAL, compute=mae, summary="mean absolute error"),
        Metric(name="r2", mode="max", tasks=_REAL, compute=r2, summary="share of variance explained"),
    )
}


def names(task: Task) -> tuple[str, ...]:
    """The metrics that mean something for `task`."""
    return tuple(n for n, m in METRICS.items() if task in m.tasks)


def refuse_metric(metric: str, task: Task) -> None:
    """Raises TrainingError for what is no metric of `task`."""
    if metric not in names(task):
        raise TrainingError(f"metric {metric!r} is none of a {task} task; {did_you_mean(metric, names(task))}")


def score(
    task: Task, target: Array, answer: Columns, wanted: Iterable[str] | None = None, weight: Array | None = None
) -> dict[str, float]:
    """Every wanted metric (default: all of the task).

    `target`: class indices or values, see `features.target_values`. `answer`: what a predictor gives.
    """
    given = _given(task, answer)
    weight = np.ones(len(target)) if weight is None else np.asarray(weight, float)
    return {n: METRICS[n].compute(target, given, weight) for n in (wanted or names(task))}


def intervals(
    task: Task,
    target: Array,
    answer: Columns,
    wanted: Iterable[str] | None = None,
    *,
    weight: Array | None = None,
    draws: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Score]:
    """Every wanted metric with its percentile bootstrap interval (Efron, 1979), rows resampled `draws` times."""
    wanted = tuple(wanted or names(task))
    given, rows = _given(task, answer), len(target)
    weight = np.ones(rows) if weight is None else np.asarray(weight, float)
    whole = {n: METRICS[n].compute(target, given, weight) for n in wanted}
    rng = np.random.default_rng(seed)
    drawn: NDArray[np.float64] = np.full((draws, len(wanted)), np.nan)
    for i in range(draws):
        rows_drawn = rng.integers(0, rows, rows)
        t, g, w = target[rows_drawn], given[rows_drawn], weight[rows_drawn]
        drawn[i] = [METRICS[n].compute(t, g, w) for n in wanted]
    edges = (1 - confidence) / 2
    found = {}
    for j, name in enumerate(wanted):
        kept = drawn[:, j][np.isfinite(drawn[:, j])]
        low, high = np.quantile(kept, [edges, 1 - edges]) if len(kept) else (np.nan, np.nan)
        found[name] = Score(value=whole[name], low=float(low), high=float(high), rows=rows)
    return found


def _given(task: Task, answer: Columns) -> Array:
    return (
        np.asarray(answer["prediction"], float).reshape(-1)
        if task == "regression"
        else np.asarray(answer["probability"])
    )
