"""Two arms compared by a quantile of their latency, counted on a fixed grid of 2 % steps from 10 us to 1,000 s."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlops_core.evidence.bets import Array, Sums, over, under
from mlops_core.evidence.guards import ALLOWANCE, Arm, Judgement

FASTEST, SLOWEST, STEP = 1.00001e-5, 1e3, np.log(1.02)


class Quantiles:
    """Counts latencies per grid cell; the factor between the arms' quantiles is judged.

    A quantile is over x just if more than 1 - q of all requests take longer than x, which is a claim about a rate: so
    each grid point has its e-process (quantile confidence sequences: Howard and Ramdas, 2022). 'The candidate's
    quantile is at most f times the stable one's' means that for some x the stable one is x and the candidate's at most
    f x: the smallest product over all x is an e-process against it. The grid is laid so that the tolerated factor is a
    whole number of steps; the cell in which x may lie (2 %) is conceded.
    """

    def __init__(self, factor: float, quantile: float) -> None:
        steps = float(np.log(factor) / STEP)
        self.step = float(STEP * abs(steps) / np.ceil(abs(steps))) if abs(steps) >= 1 else float(STEP)
        steps = round(np.log(factor) / self.step, 6)
        # For harm and for safe: the same, but for factors within 2 % of 1.
        self.tolerated = int(np.ceil(steps)), int(np.floor(steps))
        self.tail = 1.0 - quantile
        self.edges = np.exp(np.arange(np.log(FASTEST), np.log(SLOWEST), self.step))
        self._cells = {arm: np.zeros(len(self.edges) + 1, np.int64) for arm in ("stable", "candidate")}

    def add(self, arm: Arm, seconds: Array) -> None:
        shifted = seconds - ALLOWANCE if arm == "candidate" else seconds
        self._cells[arm] += np.bincount(np.searchsorted(self.edges, shifted), minlength=len(self.edges) + 1)

    def judge(self, harm: float, safe: float) -> Judgement:
        stable, candidate = self._longer("stable"), self._longer("candidate")
        slower, faster = _Product(stable, candidate, self.tail), _Product(candidate, stable, self.tail)
        reach = len(self.edges)
        low = _last(lambda m: slower(m) >= -np.log(harm), -reach, reach)
        high = -_last(lambda m: faster(m) >= -np.log(safe), -reach, reach)
        return Judgement(
            harm=slower(self.tolerated[0]),
            safe=faster(-self.tolerated[1]),
            low=0.0 if low == -reach else float(np.exp(low * self.step)),
            high=min(1e3, float(np.exp(high * self.step))),
            stable=self._at(stable),
            candidate=self._at(candidate) + ALLOWANCE * bool(candidate.count),
            requests=int(candidate.count),
        )

    def _longer(self, arm: Arm) -> Sums:
        """How many took longer than each edge."""
        cells = self._cells[arm]
        return Sums(cells.sum(), cells.sum() - np.cumsum(cells)[:-1])

    def _at(self, longer: Sums) -> float:
        """The quantile seen, rounded up to the grid."""
        reached = np.append(longer.total <= self.tail * longer.count, True)
        return float(np.append(self.edges, SLOWEST)[np.argmax(reached)]) if longer.count else 0.0


class _Product:
    """Log wealth against 'the quantile of `other` is at most that of `base`, `steps` grid steps further'."""

    def __init__(self, base: Sums, other: Sums, tail: float) -> None:
        # Base: half is kept unbet, so that not knowing its quantile costs at most log 2.
        at_least = np.logaddexp(0.0, under(base, tail)) - np.log(2.0)
        self.base = np.append(0.0, at_least)
        self.other = over(other, tail)

    def __call__(self, steps: int) -> float:
        at = np.arange(len(self.base)) + steps
        known = np.where(at < len(self.other), self.other[np.clip(at, 0, len(self.other) - 1)], 0.0)
        return float(np.min(self.base + known))


def _last(refused: Callable[[int], bool], low: int, high: int) -> int:
    """The greatest step that is refused; `low` if none is."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refused(middle) else (low, middle)
    return low
