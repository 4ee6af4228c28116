"""One arm by itself: the interval of its mean."""

from __future__ import annotations

import numpy as np

from mlops_core.evidence.bets import Sums, last, over, under


def interval(sums: Sums, alpha: float) -> tuple[float, float]:
    """The means that are refused neither as too high nor as too low: a confidence sequence at level 1 - `alpha`."""
    mean, need = float(sums.mean), np.log(2 / alpha)
    if not sums.count:
        return 0.0, 1.0
    low = last(lambda tried: over(sums, tried) >= need, 0.0, mean, 1e-5)
    return low, -last(lambda tried: under(sums, -tried) >= need, -1.0, -mean, 1e-5)
