"""Is this model good enough? Scores with intervals on the test split, and gates against bounds and champions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mlops_core import metrics
from mlops_core.contracts import Check, Columns, Dataset, Evaluation, GateRule, Predict, Score
from mlops_core.errors import UsageError
from mlops_core.features import target_values, to_columns

SMALLEST_SLICE = 20


def evaluate(
    predict: Predict,
    dataset: Dataset,
    slices: Sequence[str] = (),
    *,
    metric: str = "",
    seed: int = 0,
    batch: int = 8192,
) -> Evaluation:
    """Every metric of the task on the test split with 95 % bootstrap intervals, overall and per slice.

    A slice is one value of a declared column ('sex=female'); those under 20 rows are left out, since their
    intervals say nothing. Predictions are made in batches, so that a large split needs little memory.
    """
    import polars as pl

    path = dataset.split("test")
    weights = [c.name for c in dataset.having("weight")]
    names = sorted({c.name for c in dataset.having("feature")} | {dataset.target, *slices, *weights})
    targets: list[Any] = []
    answers: list[Columns] = []
    groups: list[pl.DataFrame] = []
    rows = pl.scan_parquet(path).select(pl.len()).collect().item()
    for start in range(0, rows, batch):
        frame = pl.scan_parquet(path).select(names).slice(start, batch).collect()
        targets.append(target_values(frame, dataset))
        answers.append(predict(to_columns(frame, dataset.having("feature"))))
        groups.append(frame.select([*slices, *weights]))
    target = np.concatenate(targets)
    answer = {k: np.concatenate([np.asarray(a[k]) for a in answers]) for k in answers[0]}
    side = pl.concat(groups)
    weight = side[weights[0]].to_numpy() if weights else None
    found = {
        name: metrics.intervals(
            dataset.task, target[mask], _rows(answer, mask), weight=None if weight is None else weight[mask], seed=seed
        )
        for name, mask in _masks(side, slices)
    }
    return Evaluation(
        metrics=metrics.intervals(dataset.task, target, answer, weight=weight, seed=seed),
        slices=found,
        metric=metric,
        rows=rows,
    )


def judge(rules: Sequence[GateRule], model: Evaluation, other: Callable[[str], Evaluation | None]) -> tuple[Check, ...]:
    """How each rule came out. `other(alias)` gives the evaluation of that alias on the same test split, or None."""
    return tuple(_judge(rule, model, other) for rule in rules)


def _judge(rule: GateRule, model: Evaluation, other: Callable[[str], Evaluation | None]) -> Check:
    score = _score(rule, model)
    if score is None:
        return Check(
            rule=rule,
            passed=False,
            reason=f"{_name(rule)} could not be computed: no row of that slice is in the test split",
        )
    value, shown = score.value, f"{_name(rule)} {score.value:.4f} [{score.low:.4f}, {score.high:.4f}]"
    if rule.versus:
        base = other(rule.versus)
        if base is None:
            return Check(rule=rule, passed=True, reason=f"{shown}: there is no {rule.versus} yet")
        reference = _score(rule, base)
        if reference is None:
            return Check(rule=rule, passed=True, reason=f"{shown}: {rule.versus} has no such slice")
        value = score.value - reference.value
        shown = f"{shown} against {rule.versus} {reference.value:.4f}: difference {value:+.4f}"
    bounds = []
    passed = bool(np.isfinite(value))
    if rule.at_least is not None:
        passed &= value >= rule.at_least
        bounds.append(f"at least {rule.at_least:g}")
    if rule.at_most is not None:
        passed &= value <= rule.at_most
        bounds.append(f"at most {rule.at_most:g}")
    return Check(rule=rule, passed=passed, reason=f"{shown}, {' and '.join(bounds)} declared")


def _score(rule: GateRule, evaluation: Evaluation) -> Score | None:
    found: Mapping[str, Score] | None = evaluation.slices.get(rule.slice) if rule.slice else evaluation.metrics
    if found is None:
        return None
    if rule.metric not in found:
        raise UsageError(f"gate: metric {rule.metric!r} is not one of {', '.join(sorted(found))}")
    return found[rule.metric]


def _name(rule: GateRule) -> str:
    return f"{rule.metric} where {rule.slice}" if rule.slice else rule.metric


def _masks(side: Any, slices: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for column in slices:
        values = side[column].cast(str).fill_null("missing").to_numpy()
        for value in sorted(set(values)):
            mask = values == value
            if mask.sum() >= SMALLEST_SLICE:
                yield f"{column}={value}", mask


def _rows(answer: Columns, mask: Any) -> Columns:
    return {name: np.asarray(values)[mask] for name, values in answer.items()}
