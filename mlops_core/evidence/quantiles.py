"""Two arms compared by a quantile of their latency, counted on a fixed grid of 2 % steps from 10 us to 1,000 s."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlops_core.evidence.bets import Array, Sums, over, under
from mlops_core.evidence.guards import ALLOWANCE, ARMS, KEPT, Arm, Judgement

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
        self._cells = {arm: np.zeros(len(self.edges) + 1, np.int64) for arm in ARMS}

    def add(self, arm: Arm, seconds: Array) -> None:
        shifted = seconds - ALLOWANCE if arm == "candidate" else seconds
        self._cells[arm] += np.bincount(np.searchsorted(self.edges, shifted), minlength=len(self.edges) + 1)

    def judge(self, harm: float, safe: float) -> Judgement:
        stable, candidate = (longer(self._cells[arm], arm) for arm in ARMS)
        slower, faster = Product(stable, candidate, self.tail), Product(candidate, stable, self.tail)
        reach = len(self.edges)
        low = _last(lambda m: bool(slower(m) >= -np.log(harm)), -reach, reach)
        high = -_last(lambda m: bool(faster(m) >= -np.log(safe)), -reach, reach)
        return Judgement(
            harm=float(slower(self.tolerated[0])),
            safe=float(faster(-self.tolerated[1])),
            low=0.0 if low == -reach else float(np.exp(low * self.step)),
            high=min(1e3, float(np.exp(high * self.step))),
            stable=self._at(stable),
            candidate=self._at(candidate) + ALLOWANCE * bool(candidate.count[0]),
            requests=int(candidate.count[0]),
        )

    def _at(self, seen: Sums) -> float:
        """The quantile seen, rounded up to the grid."""
        reached = np.append(seen.total <= self.tail * seen.count, True)
        return float(np.append(self.edges, SLOWEST)[np.argmax(reached)]) if seen.count[0] else 0.0


def longer(cells: Array, arm: Arm) -> Sums:
    """How many took longer than each edge."""
    count = cells.sum(axis=-1, keepdims=True)
    return Sums(count, count - np.cumsum(cells, axis=-1)[..., :-1], None, KEPT[arm])


class Product:
    """Log wealth against 'the quantile of `other` is at most that of `base`, `steps` grid steps further'."""

    def __init__(self, base: Sums, other: Sums, tail: float) -> None:
        least = under(base, tail)
        self.base = np.concatenate([np.zeros_like(least[..., :1]), least], axis=-1)
        self.other = over(other, tail)

    def __call__(self, steps: int) -> Array:
        at, edges = np.arange(self.base.shape[-1]) + steps, self.other.shape[-1]
        known = np.where(at < edges, self.other[..., np.clip(at, 0, edges - 1)], 0.0)
        return np.min(self.base + known, axis=-1)


def _last(refused: Callable[[int], bool], low: int, high: int) -> int:
    """The greatest step that is refused; `low` if none is."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if refused(middle) else (low, middle)
    return low
