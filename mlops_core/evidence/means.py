"""Two arms compared by a mean in [0, 1]: an error rate, a share, a loss."""

from __future__ import annotations

import numpy as np

from mlops_core.evidence.bets import Array, Sums, last, over, under
from mlops_core.evidence.guards import ARMS, KEPT, Arm, Judgement

STEPS, COARSE = 64, 32  # for the judgement; for an interval that is shown


class Means:
    """Counts values in [0, 1] of both arms; the difference of their means is judged."""

    def __init__(self, tolerance: float, binary: bool) -> None:
        self.tolerance = tolerance
        self.binary = binary
        self._sums = {arm: np.zeros(3) for arm in ARMS}

    def add(self, arm: Arm, count: int, total: float, squares: float) -> None:
        self._sums[arm] += count, total, squares

    def judge(self, harm: float, safe: float) -> Judgement:
        stable, candidate = self.sums("stable"), self.sums("candidate")
        return Judgement(
            harm=float(exceeds(candidate, stable, self.tolerance)),
            safe=float(exceeds(stable, candidate, -self.tolerance)),
            low=lowest(candidate, stable, harm),
            high=-lowest(stable, candidate, safe),
            stable=float(stable.mean),
            candidate=float(candidate.mean),
            requests=int(candidate.count),
        )

    def sums(self, arm: Arm) -> Sums:
        count, total, squares = self._sums[arm]
        return Sums(count, total, None if self.binary else squares, KEPT[arm])


def exceeds(first: Sums, second: Sums, difference: Array, steps: int = STEPS) -> Array:
    """Log wealth against 'the mean of `first` is at most that of `second` plus `difference`'. Falls as it grows.

    Each arm's wealth is an e-process in its own observations, whatever the shares, batches and looks; so is their
    product, for each pair of means. The smallest product over all pairs that the claim allows is an e-process against
    the whole claim (universal inference: Wasserman, Ramdas and Balakrishnan, 2020), and its smallest lies where the
    means differ by just `difference`. Between two grid points it is bounded from below: the grid costs power (1.5 %
    of the difference), never validity. Where the means seen agree with the claim it is -inf.
    """
    shape = np.broadcast_shapes(np.shape(first.count), np.shape(second.count), np.shape(difference))
    difference = np.broadcast_to(difference, shape)
    wealth = np.full(shape, -np.inf)
    open_ = np.asarray(first.mean - second.mean > difference)
    if open_.any():
        first, second = (arm.each(lambda v: np.broadcast_to(v, shape)[open_][:, None]) for arm in (first, second))
        wealth[open_] = _least(first, second, difference[open_][:, None], steps)
    return wealth


def _least(first: Sums, second: Sums, difference: Array, steps: int) -> Array:
    low, high = second.mean, first.mean - difference
    grid = low + (high - low) * np.linspace(0.0, 1.0, steps)
    ends = np.zeros_like(low)
    below, above = np.concatenate([ends, grid], axis=-1), np.concatenate([grid, ends + 1.0], axis=-1)
    return np.min(under(second, below) + over(first, above + difference), axis=-1)


def lowest(first: Sums, second: Sums, alpha: float) -> float:
    """The greatest difference of means that is refused as too small, to 0.0003: the true one is never below, but for
    `alpha`."""
    most = max(0.0, float(first.mean - second.mean))
    return last(lambda tried: exceeds(first, second, tried, COARSE) >= -np.log(alpha), -1.0, most, 3e-4)
