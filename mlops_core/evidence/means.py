"""Two arms compared by a mean in [0, 1]: an error rate, a share, a loss."""

from __future__ import annotations

import numpy as np

from mlops_core.evidence.bets import Array, Sums, over, under
from mlops_core.evidence.guards import Arm, Judgement

STEPS = 128


class Means:
    """Counts values in [0, 1] of both arms; the difference of their means is judged."""

    def __init__(self, tolerance: float, binary: bool) -> None:
        self.tolerance = tolerance
        self.binary = binary
        self._sums = {"stable": np.zeros(3), "candidate": np.zeros(3)}

    def add(self, arm: Arm, count: int, total: float, squares: float) -> None:
        self._sums[arm] += count, total, squares

    def judge(self, harm: float, safe: float) -> Judgement:
        stable, candidate = (Sums(*self._sums[arm][: 2 if self.binary else 3]) for arm in ("stable", "candidate"))
        return Judgement(
            harm=float(exceeds(candidate, stable, self.tolerance)),
            safe=float(exceeds(stable, candidate, -self.tolerance)),
            low=lowest(candidate, stable, harm),
            high=-lowest(stable, candidate, safe),
            stable=float(stable.mean),
            candidate=float(candidate.mean),
            requests=int(candidate.count),
        )


def exceeds(first: Sums, second: Sums, difference: Array) -> Array:
    """Log wealth against 'the mean of `first` is at most that of `second` plus `difference`'. Falls as it grows.

    Each arm's wealth is an e-process in its own observations, whatever the shares, batches and looks; so is their
    product, for each pair of means. The smallest product over all pairs that the claim allows is an e-process against
    the whole claim (universal inference: Wasserman, Ramdas and Balakrishnan, 2020). The smallest lies where the means
    differ by just `difference`; between two grid points it is bounded from below, so the grid costs power (about 1 %
    of the difference), never validity.
    """
    first, second = first.wide(), second.wide()
    difference = np.asarray(difference, float)[..., None]
    low = second.mean
    high = np.maximum(low, first.mean - difference)
    grid = low + (high - low) * np.linspace(0.0, 1.0, STEPS)
    return np.min(under(second, grid[..., :-1]) + over(first, grid[..., 1:] + difference), axis=-1)


def lowest(first: Sums, second: Sums, alpha: float) -> float:
    """The greatest difference of means that is refused as too small: the true one is never below, but for `alpha`."""
    low, high, need = -1.0, 1.0, -np.log(alpha)
    for _ in range(4):
        tried = np.linspace(low, high, 16)
        step = int(np.argmax(np.append(exceeds(first, second, tried) < need, True)))
        low, high = tried[max(step - 1, 0)], tried[min(step, 15)]
        if step == 0:
            break
    return float(low)
