"""What is watched during a rollout, and what was found."""

from __future__ import annotations

from typing import Literal

from mlops_core.errors import UsageError
from mlops_core.records import record

Arm = Literal["stable", "candidate"]
ARMS: tuple[Arm, Arm] = ("stable", "candidate")
State = Literal["open", "harm", "safe"]
KEPT: dict[Arm, float] = {
    "stable": 1 / 3,
    "candidate": 0.0,
}  # share of wealth never bet, see bets.Sums; measured at 5 to 50 % traffic
ALLOWANCE = 0.005  # seconds by which a latency may differ whatever the factor: scheduling noise is no harm


@record
class Guard:
    """How much worse than the stable version a candidate may be, before it is harm.

    errors: its error rate less the stable one's, up to `tolerance` (0.01 is one point). latency: its `quantile` up to
    `tolerance` (a factor) times the stable one's plus 5 ms. predictions: the greatest distance between the two
    distributions of predictions (Kolmogorov-Smirnov for numbers, of shares for classes). metric: its mean loss per
    row, in [0, 1], less the stable one's.
    """

    kind: Literal["errors", "latency", "predictions", "metric"]
    tolerance: float
    quantile: float = 0.95

    def __post_init__(self) -> None:
        low, high = (0.1, 100.0) if self.kind == "latency" else (0.0, 1.0)
        if not low <= self.tolerance < high:
            raise UsageError(f"tolerance of {self.kind}: expected {low:g} to under {high:g}, not {self.tolerance!r}")
        if not 0.0 < self.quantile < 1.0:
            raise UsageError(f"quantile of {self.kind}: expected a number between 0 and 1, not {self.quantile!r}")


@record
class Finding:
    """What one guard says now.

    `low` and `high` bound the true difference at all times together (candidate less stable; for latency the factor
    between the quantiles, 5 ms forgiven, from 0 to 1000): it is under `low` at most with the guard's share of
    alpha, over `high` at most with alpha. `stable` and `candidate` are the estimates (rate, seconds, share where
    the distance is greatest, loss), 0 before there is one. `requests` counts the candidate's (for metric its
    labelled rows). `error` bounds the probability that data as telling as these ever come up although the call is
    wrong (open: the nearer one).
    """

    guard: Guard
    state: State
    low: float
    high: float
    stable: float
    candidate: float
    requests: int
    error: float
    words: str


@record
class Judgement:
    """What the counts of one guard say: log wealth against 'no harm' and 'no safety', and the Finding's numbers."""

    harm: float
    safe: float
    low: float
    high: float
    stable: float
    candidate: float
    requests: int
