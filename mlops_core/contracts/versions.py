"""A model that was judged, and the version it became."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mlops_core.contracts.training import Model
from mlops_core.records import field, record


@record
class Score:
    """A metric on a split with its bootstrap interval."""

    value: float
    low: float
    high: float
    rows: int


@record
class Evaluation:
    """Scores on the test split: overall, and per slice ('sex=female'). `metric` is the one declared."""

    metrics: Mapping[str, Score]
    slices: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    rows: int = 0
    metric: str = ""

    def told(self, count: int = 3) -> str:
        """The first scores in words, the declared metric before the others."""
        names = sorted(self.metrics, key=lambda name: (name != self.metric, name))
        return ", ".join(f"{name} {self.metrics[name].value:.4f}" for name in names[:count])


@record
class GateRule:
    """One condition for promotion: a bound on a metric, absolute or against another alias."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    versus: str = ""
    slice: str = ""


@record
class Check:
    """How one gate rule came out, in words and numbers."""

    rule: GateRule
    passed: bool
    reason: str


@record
class ModelVersion:
    """A numbered model with its lineage. `status` is accepted or rejected; `reasons` say why.

    `signature` is that of its bundle, as `model_signing` writes and verifies it (JSON); '' where nobody signed it.
    """

    name: str
    number: int
    model: Model
    status: Literal["accepted", "rejected"]
    reasons: tuple[str, ...]
    evaluation: Evaluation
    created: str
    code: Mapping[str, Any]
    config: Mapping[str, Any]
    run: str = ""
    signature: str = ""
