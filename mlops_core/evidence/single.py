"""One arm by itself: the interval of its mean."""

from __future__ import annotations

import numpy as np

from mlops_core.evidence.bets import Sums, over, under


def interval(sums: Sums, alpha: float) -> tuple[float, float]:
    """The means that are refused neither as too high nor as too low: a confidence sequence at level 1 - `alpha`."""
    low, high, need = [0.0, float(sums.mean)], [float(sums.mean), 1.0], np.log(2 / alpha)
    for _ in range(30):
        middle = sum(low) / 2
        low = [middle, low[1]] if over(sums, middle) >= need else [low[0], middle]
        middle = sum(high) / 2
        high = [high[0], middle] if under(sums, middle) >= need else [middle, high[1]]
    return (low[0], high[1]) if sums.count else (0.0, 1.0)
