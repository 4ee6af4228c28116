"""Is this model good enough? Scores with intervals on the test split, and gates against bounds and champions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mlops_core import metrics
from mlops_core.contracts import Check, Column, Columns, Dataset, Evaluation, GateRule, Predict, Score, Signature
from mlops_core.errors import DataError, UsageError, did_you_mean
from mlops_core.features import target_values, to_columns

SMALLEST_SLICE = 20
Other = Callable[[str], Evaluation | str | None]


def evaluate(
    predict: Predict,
    dataset: Dataset,
    slices: Sequence[str] = (),
    *,
    metric: str = "",
    seed: int = 0,
    batch: int = 8192,
    inputs: Sequence[Column] | None = None,
) -> Evaluation:
    """Every metric of the task on the test split with 95 % bootstrap intervals, overall and per slice.

    A slice is one value of a declared column ('sex=female'); those under 20 rows are left out, since their
    intervals say nothing. Predictions are made in batches, so that a large split needs little memory. Rows whose
    weight is missing or zero do not count. `inputs`: what the model takes, by default the data set's features.
    """
    import polars as pl

    weights = [c.name for c in dataset.having("weight")]
    taken = tuple(dataset.having("feature") if inputs is None else inputs)
    names = sorted({c.name for c in taken} | {dataset.target, *slices, *weights})
    _refuse_unknown(slices, dataset)
    table = pl.scan_parquet(dataset.split("test")).select(names)
    if weights:
        table = table.filter(pl.col(weights[0]).cast(pl.Float64).fill_nan(0) > 0)
    targets: list[Any] = []
    answers: list[Columns] = []
    groups: list[pl.DataFrame] = []
    rows = table.select(pl.len()).collect().item()
    if not rows:
        raise DataError(
            "no row of the test split can be scored: " + ("all weigh nothing" if weights else "it is empty")
        )
    for start in range(0, rows, batch):
        frame = table.slice(start, batch).collect()
        targets.append(target_values(frame, dataset))
        answers.append(predict(to_columns(frame, taken)))
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


def unfit(signature: Signature, dataset: Dataset) -> str:
    """Why a model with that signature cannot be scored on that data set, in words; '' where it can."""
    there = {c.name: c.kind for c in dataset.columns}
    for column in signature.inputs:
        if column.name not in there:
            return f"it has no column {column.name!r}"
        if there[column.name] != column.kind:
            return f"column {column.name!r} is {there[column.name]}, and was {column.kind}"
    if (signature.task, signature.target) != (dataset.task, dataset.target):
        return f"its target is {dataset.target!r} ({dataset.task}), and was {signature.target!r} ({signature.task})"
    if signature.classes != dataset.classes:
        return f"its classes are {', '.join(dataset.classes)}, and were {', '.join(signature.classes)}"
    return ""


def judge(rules: Sequence[GateRule], model: Evaluation, other: Other) -> tuple[Check, ...]:
    """How each rule came out. `other(alias)` gives the evaluation of that alias on the same test split, None
    where there is no such version, `model` itself where that is the one, or in words why it cannot be scored:
    then the rule is not met."""
    return tuple(_judge(rule, model, other) for rule in rules)


def _judge(rule: GateRule, model: Evaluation, other: Other) -> Check:
    score = _score(rule, model)
    if score is None:
        why = f"under {SMALLEST_SLICE} rows of that slice are in the test split"
        return Check(rule=rule, passed=False, reason=f"{_name(rule)} could not be computed: {why}")
    value, shown = score.value, f"{_name(rule)} {score.value:.4f} [{score.low:.4f}, {score.high:.4f}]"
    if rule.versus:
        base = other(rule.versus)
        if base is None:
            return Check(rule=rule, passed=True, reason=f"{shown}: there is no {rule.versus} yet")
        if base is model:
            return Check(rule=rule, passed=True, reason=f"{shown}: it is the {rule.versus} itself")
        if isinstance(base, str):
            hint = "leave this rule out of one run to start a new line of champions"
            return Check(rule=rule, passed=False, reason=f"{shown}: {rule.versus} {base}; {hint}")
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
    import polars as pl

    for column in slices:
        values = side[column].cast(str).fill_null("missing").alias("value")
        large = values.value_counts().filter(pl.col("count") >= SMALLEST_SLICE)
        for value in large["value"].sort():
            yield f"{column}={value}", (values == value).to_numpy()


def _refuse_unknown(slices: Sequence[str], dataset: Dataset) -> None:
    there = [c.name for c in dataset.columns]
    unknown = [s for s in slices if s not in there]
    if unknown:
        raise UsageError(
            f"slices: the data set holds no column {unknown[0]!r} (an ignored column is not kept); "
            + did_you_mean(unknown[0], there)
        )


def _rows(answer: Columns, mask: Any) -> Columns:
    return {name: np.asarray(values)[mask] for name, values in answer.items()}
