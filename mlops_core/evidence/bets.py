"""Wealth of a bettor against a claim about a mean, as a logarithm: an e-process in closed form.

If the claim is true, the wealth ever reaches 1 / alpha with a probability of at most alpha (Ville, 1939), however often
and at whatever times one looks. All functions take arrays and broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any
PRIORS = ((0.5, 0.5), (1.0, 10.0), (1.0, 100.0))  # Beta: any rate (Jeffreys); some percent; some per mille
STAKES = 0.5 * 2.0 ** -np.arange(8.0)  # at most a half: then the wealth is monotone in the bound
LEAST = 1e-300  # in place of 0 under a logarithm


class Sums(NamedTuple):
    """What is kept of values in [0, 1]: how many, their sum, the sum of their squares (None: all are 0 or 1).

    `kept` is the share of the wealth that is never bet: an arm with plenty of values only has to be known, and what
    is kept bounds what learning its mean costs.
    """

    count: Array
    total: Array
    squares: Array | None = None
    kept: float = 0.0

    def wide(self) -> Sums:
        """With an axis more, to broadcast against a grid."""
        count, total = np.asarray(self.count, float)[..., None], np.asarray(self.total, float)[..., None]
        return Sums(
            count, total, None if self.squares is None else np.asarray(self.squares, float)[..., None], self.kept
        )

    @property
    def mean(self) -> Array:
        return np.asarray(self.total, float) / np.maximum(self.count, 1)


def over(sums: Sums, bound: Array) -> Array:
    """Log wealth against 'the mean is at most `bound`'. Falls as `bound` grows."""
    wealth = _mixed(sums) - _likelihood(sums, np.minimum(np.clip(bound, 0.0, 1.0), sums.mean))
    return np.where(np.asarray(bound) < 0, np.inf, _spread(sums, wealth, bound, 1.0))


def under(sums: Sums, bound: Array) -> Array:
    """Log wealth against 'the mean is at least `bound`'. Grows with `bound`."""
    wealth = _mixed(sums) - _likelihood(sums, np.maximum(np.clip(bound, 0.0, 1.0), sums.mean))
    return np.where(np.asarray(bound) > 1, np.inf, _spread(sums, wealth, bound, -1.0))


def last(refused: Callable[[Array], Array], low: float, high: float, to: float) -> float:
    """The greatest number that is refused, to the precision `to`: all under it are, too. `low` where none is."""
    while high - low > to:
        tried = np.linspace(low, high, 20)
        passed = int(np.argmin(np.append(refused(tried[1:-1]), False)))
        low, high = float(tried[passed]), float(tried[passed + 1])
    return low


def _spread(sums: Sums, wealth: Array, bound: Array, sign: float) -> Array:
    """The wealth of one who bets by two methods, half each, and keeps a share."""
    if sums.squares is not None:
        wealth = np.logaddexp(wealth, _empirical(sums, bound, sign)) - np.log(2.0)
    return np.logaddexp(np.log(sums.kept), wealth + np.log1p(-sums.kept)) if sums.kept else wealth


def _mixed(sums: Sums) -> Array:
    """Log of the Bernoulli likelihood averaged over Beta priors (Robbins, 1970; the beta-binomial mixture of Howard,
    Ramdas, McAuliffe and Sekhon, 2021). Over the likelihood at the true mean it is a nonnegative martingale for 0 or 1,
    and a supermartingale for any values in [0, 1], since the likelihood is convex in them."""
    n, k = np.asarray(sums.count, float), np.asarray(sums.total, float)
    parts = [_log_beta(k + a, n - k + b) - float(_log_beta(a, b)) for a, b in PRIORS]
    return np.logaddexp.reduce(parts, axis=0) - np.log(len(PRIORS))


def _likelihood(sums: Sums, mean: Array) -> Array:
    n, k = np.asarray(sums.count, float), np.asarray(sums.total, float)
    return k * np.log(np.maximum(mean, LEAST)) + (n - k) * np.log(np.maximum(1.0 - mean, LEAST))


def _empirical(sums: Sums, bound: Array, sign: float) -> Array:
    """Log wealth that grows with the variance seen instead of the worst: exp(s d - psi(s) d^2) <= 1 + s d for d >= -1,
    psi(s) = -log(1 - s) - s (Fan, Grama and Liu, 2015; Waudby-Smith and Ramdas, 2024), averaged over stakes s."""
    n, total, squares = (np.asarray(v, float)[..., None] for v in sums[:3])
    bound = np.asarray(bound, float)[..., None]
    gain = STAKES * (sign * (total - n * bound))
    cost = (-np.log1p(-STAKES) - STAKES) * (squares - 2 * bound * total + n * bound**2)
    logs = gain - cost
    most = logs.max(axis=-1, keepdims=True)
    return most[..., 0] + np.log(np.exp(logs - most).mean(axis=-1))


def _log_beta(a: Array, b: Array) -> Array:
    return _log_gamma(a) + _log_gamma(b) - _log_gamma(np.add(a, b))


def _log_gamma(x: Array) -> Array:
    """Stirling's series after a shift by eight (DLMF 5.11.1); error under 1e-9 for x > 0."""
    x = np.asarray(x, float)
    y = x + 8
    shift = np.log(x * (x + 1) * (x + 2) * (x + 3) * (x + 4) * (x + 5) * (x + 6) * (x + 7))
    return (
        (y - 0.5) * np.log(y) - y + 0.9189385332046727 + (1 / 12 - (1 / 360 - 1 / (1260 * y * y)) / (y * y)) / y - shift
    )
