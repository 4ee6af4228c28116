"""Wealth of a bettor against a claim about a mean, as a logarithm: an e-process in closed form.

If the claim is true, the wealth ever reaches 1 / alpha with a probability of at most alpha (Ville, 1939), however often
and at whatever times one looks. It depends on counts and sums only. All functions take arrays and broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any
LEAST = 1e-300  # in place of 0 under a logarithm
SHARES = 0.99 * 2.0 ** -np.arange(12.0)  # of what may be bet at most: 99 % to 0.05 %
STAKES = 0.5 * 2.0 ** -np.arange(8.0)  # at most a half: then the wealth is monotone in the bound


class Sums(NamedTuple):
    """What is kept of values in [0, 1]: how many, their sum, the sum of their squares (None: all are 0 or 1).

    `kept` is the share of the wealth that is never bet: an arm with plenty of values only has to be known, and what
    is kept bounds what learning its mean costs.
    """

    count: Array
    total: Array
    squares: Array | None = None
    kept: float = 0.0

    def each(self, change: Callable[[Array], Array]) -> Sums:
        """With its arrays changed alike."""
        squares = None if self.squares is None else change(np.asarray(self.squares, float))
        return Sums(change(np.asarray(self.count, float)), change(np.asarray(self.total, float)), squares, self.kept)

    @property
    def mean(self) -> Array:
        return np.asarray(self.total, float) / np.maximum(self.count, 1)


def over(sums: Sums, bound: Array) -> Array:
    """Log wealth against 'the mean is at most `bound`'. Falls as `bound` grows.

    Who bets the share r of the most that may be bet multiplies the wealth by 1 + r (x / bound - 1) with each value x;
    this is the likelihood ratio of a rate of bound + r (1 - bound). The wealth is averaged over shares (the grid Kelly
    bet of Waudby-Smith and Ramdas, 2024). Values between 0 and 1 count as the mixture of a 0 and a 1 that they are,
    which can only lower it (the sub-Bernoulli case of Howard, Ramdas, McAuliffe and Sekhon, 2021).
    """
    n, k, within = np.asarray(sums.count, float), np.asarray(sums.total, float), np.clip(bound, LEAST, 1.0)
    share = _first(SHARES, np.broadcast(n, k, within).ndim)
    wealth = _mean_of(k * np.log(1.0 + share * (1.0 / within - 1.0)) + (n - k) * np.log1p(-share))
    if sums.squares is not None:
        wealth = np.logaddexp(wealth, _empirical(sums, bound)) - np.log(2.0)
    if sums.kept:
        wealth = np.logaddexp(np.log(sums.kept), wealth + np.log1p(-sums.kept))
    return np.where(np.asarray(bound) < 0, np.inf, wealth)


def under(sums: Sums, bound: Array) -> Array:
    """Log wealth against 'the mean is at least `bound`'. Grows with `bound`."""
    count, total, squares, kept = sums
    mirrored = None if squares is None else count - 2.0 * total + squares
    return over(Sums(count, np.subtract(count, total), mirrored, kept), 1.0 - np.asarray(bound))


def last(refused: Callable[[Array], Array], low: float, high: float, to: float, at_once: int = 18) -> float:
    """The greatest number that is refused, to the precision `to`: all under it are, too. `low` where none is."""
    while high - low > to:
        tried = np.linspace(low, high, at_once + 2)
        passed = int(np.argmin(np.append(refused(tried[1:-1]), False)))
        low, high = float(tried[passed]), float(tried[passed + 1])
    return low


def _empirical(sums: Sums, bound: Array) -> Array:
    """Log wealth that grows with the variance seen instead of the worst: exp(s d - psi(s) d^2) <= 1 + s d for d >= -1,
    psi(s) = -log(1 - s) - s (Fan, Grama and Liu, 2015; Waudby-Smith and Ramdas, 2024), averaged over stakes s."""
    n, total, squares = (np.asarray(v, float) for v in sums[:3])
    off = squares - 2 * np.asarray(bound) * total + n * np.square(bound)
    stake = _first(STAKES, off.ndim)
    return _mean_of(stake * (total - n * bound) + (np.log1p(-stake) + stake) * off)


def _first(values: Array, axes: int) -> Array:
    """`values` on a first axis, before `axes` others."""
    return values.reshape(-1, *[1] * axes)


def _mean_of(logs: Array) -> Array:
    """The logarithm of the mean over the first axis."""
    most = logs.max(axis=0)
    return most + np.log(np.exp(logs - most).mean(axis=0))
