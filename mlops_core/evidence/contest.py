"""An A/B test of two or more arms: standings at any time, a winner only when earned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlops_core.errors import UsageError, did_you_mean
from mlops_core.evidence.bets import Sums
from mlops_core.evidence.means import exceeds
from mlops_core.evidence.rollout import bounded, chance
from mlops_core.evidence.single import interval
from mlops_core.records import record


@record
class Standing:
    """How one arm stands: its mean loss, and the interval of the true one, but for alpha over all arms and looks.

    `error` bounds the probability that data as telling as these ever come up although the arm is not the best.
    """

    arm: str
    rows: int
    loss: float
    low: float
    high: float
    error: float


class Contest:
    """Arms compared on a loss in [0, 1] per row (0 is best), with `alpha` for all arms and all looks together."""

    def __init__(self, arms: Sequence[str], alpha: float) -> None:
        if len(set(arms)) < 2 or len(set(arms)) < len(arms):
            raise UsageError(f"a contest needs two or more different arms, not {', '.join(arms) or 'none'}")
        if not 0.0 < alpha < 1.0:
            raise UsageError(f"alpha: expected a number between 0 and 1, not {alpha!r}")
        self.alpha = alpha
        self._sums = {arm: np.zeros(3) for arm in arms}

    def scored(self, arm: str, losses: Sequence[float]) -> None:
        """Counts the losses of labelled rows that `arm` answered."""
        if arm not in self._sums:
            raise UsageError(f"arm {arm!r} is not in this contest; {did_you_mean(arm, self._sums)}")
        values = bounded(losses, f"losses of arm {arm!r}")
        self._sums[arm] += len(values), values.sum(), values @ values

    def report(self) -> tuple[Standing, ...]:
        """Every arm's standing, in the order of the arms."""
        return tuple(self._standing(arm) for arm in self._sums)

    def winner(self) -> str | None:
        """The arm that is better than every other. With k arms each has alpha / k to be called so wrongly."""
        return next((arm for arm in self._sums if self._error(arm) <= self.alpha), None)

    def _error(self, arm: str) -> float:
        mine = Sums(*self._sums[arm])
        wealth = min(float(exceeds(Sums(*other), mine, 0.0)) for name, other in self._sums.items() if name != arm)
        return min(1.0, len(self._sums) * chance(wealth))

    def _standing(self, arm: str) -> Standing:
        sums = Sums(*self._sums[arm])
        low, high = interval(sums, self.alpha / len(self._sums))
        return Standing(
            arm=arm, rows=int(sums.count), loss=float(sums.mean), low=low, high=high, error=self._error(arm)
        )
