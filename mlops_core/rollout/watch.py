"""What the prediction log says of a step: requests, failures, latencies, predictions, and labels as they come."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_core.contracts import Rollout, field, record
from mlops_core.evidence import Contest, Evidence, Finding, Guard, Standing
from mlops_core.rollout.plan import RolloutKeys, planned
from mlops_core.rollout.reading import Tail
from mlops_core.rollout.shares import CANDIDATE, STABLE, arms, shares

KEPT = 200_000  # rows that wait for their label at most
BEFORE = 3600.0  # seconds before a blue/green switch in which the old version's answers are what the new is held to


@record
class Look:
    """A step as it stands: requests and failures by arm, findings by candidate arm, and how an A/B stands.

    `steps` is how many the strategy has, `weights` the shares in percent by arm.
    """

    seconds: float
    requests: Mapping[str, int]
    failures: Mapping[str, int]
    findings: Mapping[str, tuple[Finding, ...]]
    standings: tuple[Standing, ...] = ()
    winner: str = ""
    labels: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    steps: int = 1


class Watch:
    """Reads on at each `look`. `metric` is the declared one, `scale` the error that counts as a whole loss of a
    regression."""

    def __init__(self, rollout: Rollout, log: Path, metric: str, scale: float = 1.0) -> None:
        self.rollout, self.plan = rollout, planned(rollout.plan)
        self.arms = arms(rollout)
        self._loss = Loss(metric, scale)
        self._before = BEFORE if rollout.strategy == "blue_green" else 0.0
        self._lines = Tail(log, rollout.since - self._before)
        self._labels = Tail(log / "labels", rollout.since, timed=False)  # a label's time is when it was true
        self.requests = dict.fromkeys(self.arms.values(), 0)
        self.failures = dict.fromkeys(self.arms.values(), 0)
        rivals = [a for a in self.arms.values() if a != STABLE] if not rollout.arms else _rivals(rollout)
        self.stable = next(a for v, a in self.arms.items() if v == rollout.stable)
        share = self.plan.alpha / _looks(self.plan) / len(rivals)
        self.evidence = {arm: Evidence(guards(self.plan), share) for arm in rivals}
        self.contest = Contest(list(self.arms.values()), self.plan.alpha / 2) if rollout.arms else None
        self._waiting: dict[str, tuple[str, Any]] = {}
        self._told: dict[str, Any] = {}
        self.labels = 0

    def look(self, now: float | None = None) -> Look:
        """Everything that is known now."""
        seen: dict[str, tuple[list[float], list[Any], list[int]]] = {a: ([], [], [0]) for a in self.requests}
        for line in self._lines.lines():
            self._line(line, seen)
        for arm, (seconds, predictions, failed) in seen.items():
            self._feed(arm, seconds, predictions, failed[0])
        self._label()
        return Look(
            seconds=max(0.0, (time.time() if now is None else now) - self.rollout.since),
            requests=dict(self.requests),
            failures=dict(self.failures),
            findings={arm: evidence.findings() for arm, evidence in self.evidence.items()},
            standings=self.contest.report() if self.contest else (),
            winner=(self.contest.winner() or "") if self.contest else "",
            labels=self.labels,
            weights={self.arms[s.version]: s.weight for s in shares(self.rollout)},
            steps=len(self.plan.steps) if self.plan.strategy == "canary" else 1,
        )

    def _line(self, line: dict[str, Any], seen: dict[str, tuple[list[float], list[Any], list[int]]]) -> None:
        arm = self.arms.get(line.get("version", 0))
        early = line["time"] < self.rollout.since
        # An answer in a candidate's place would count its requests twice, and choose them by its failures.
        if arm is None or line.get("instead") or (early and arm != self.stable):
            return
        self.requests[arm] += not early
        if "error" in line:
            self.failures[arm] += not early
            seen[arm][2][0] += 1
            return
        answer = line.get("answer") or {}
        if not answer.get("prediction"):
            return
        seen[arm][0].append(float(line.get("seconds", 0.0)))
        seen[arm][1].append(_observed(answer))
        if any(g.kind == "metric" for g in guards(self.plan)) or self.contest:
            self._keep(str(line["id"]), arm, answer)

    def _keep(self, id: str, arm: str, answer: Mapping[str, Any]) -> None:
        rows = len(answer["prediction"])
        shares_ = answer.get("probability") or itertools.repeat(None)
        for i, (value, share) in enumerate(zip(answer["prediction"], shares_, strict=False)):
            self._waiting[f"{id}-{i}"] = (arm, (value, share))
        if rows == 1:
            self._waiting[id] = self._waiting.pop(f"{id}-0")
        while len(self._waiting) > KEPT:
            del self._waiting[next(iter(self._waiting))]

    def _feed(self, arm: str, seconds: list[float], predictions: list[Any], failed: int) -> None:
        for rival, evidence in self.evidence.items():
            side: Any = STABLE if arm == self.stable else CANDIDATE
            if side == STABLE or rival == arm:
                evidence.answered(side, seconds, predictions)
                evidence.failed(side, failed)

    def _label(self) -> None:
        """Scores what has a label now. A label may come before its line is read, and be corrected until then."""
        for line in self._labels.lines():
            if "id" in line and "label" in line:
                self._told[str(line["id"])] = line["label"]
        scored: dict[str, list[float]] = {}
        for id in [i for i in self._told if i in self._waiting or i.removesuffix("-0") in self._waiting]:
            key = id if id in self._waiting else id.removesuffix("-0")
            arm, given = self._waiting.pop(key)
            loss = self._loss(given, self._told.pop(id))
            if loss is not None:
                scored.setdefault(arm, []).append(loss)
        while len(self._told) > KEPT:
            del self._told[next(iter(self._told))]
        for arm, losses in scored.items():
            self.labels += len(losses)
            if self.contest:
                self.contest.scored(arm, losses)
            for rival, evidence in self.evidence.items() if not self.contest else ():
                side: Any = STABLE if arm == self.stable else CANDIDATE
                if side == STABLE or rival == arm:
                    evidence.scored(side, losses)


class Loss:
    """The loss of one labelled row in [0, 1].

    Classes: wrong or right; of two, half the Brier score (Brier, 1950) unless accuracy or f1 is declared. Numbers:
    the error as a share of `scale`, squared where a squared measure is declared.
    """

    def __init__(self, metric: str, scale: float) -> None:
        self.decides = metric in ("accuracy", "balanced_accuracy", "f1")
        self.squares = metric in ("rmse", "r2")
        self.scale = scale if scale > 0 else 1.0

    def __call__(self, given: tuple[Any, Any], label: Any) -> float | None:
        value, probability = given
        if probability is None:
            try:
                far = abs(float(value) - float(label)) / self.scale
            except (TypeError, ValueError):
                return None
            return min(1.0, far * far if self.squares else far)
        right = _name(value) == _name(label)
        if self.decides or len(probability) != 2:
            return 0.0 if right else 1.0
        top = max(probability)
        return float((1 - (top if right else 1 - top)) ** 2)


def guards(plan: RolloutKeys) -> tuple[Guard, ...]:
    """What is watched. The arms of an experiment may differ in what they predict, and its metric decides it."""
    declared, found = plan.guards, []
    if declared.errors is not None:
        found.append(Guard(kind="errors", tolerance=declared.errors))
    if declared.latency is not None:
        found.append(Guard(kind="latency", tolerance=declared.latency.factor, quantile=declared.latency.quantile))
    if declared.predictions is not None and plan.strategy != "ab":
        found.append(Guard(kind="predictions", tolerance=declared.predictions))
    if declared.metric is not None and plan.strategy != "ab":
        found.append(Guard(kind="metric", tolerance=declared.metric))
    return tuple(found)


def _looks(plan: RolloutKeys) -> int:
    """By how much alpha is divided: a canary's step begins its evidence anew, an A/B spends half on its winner."""
    return {"canary": len(plan.steps), "ab": 2}.get(plan.strategy, 1)


def _rivals(rollout: Rollout) -> list[str]:
    return [name for name, version in rollout.arms.items() if version != rollout.stable]


def _observed(answer: Mapping[str, Any]) -> Any:
    """One prediction of a request, since its rows are no independent ones: the positive class's probability of two,
    else the class, else the number."""
    probability = answer.get("probability")
    if probability and len(probability[0]) == 2:
        return float(probability[0][1])
    value = answer["prediction"][0]
    return _name(value) if probability or isinstance(value, str | bool) else float(value)


def _name(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
