"""Wealth of a bettor against a claim about a mean, as a logarithm: an e-process in closed form.

If the claim is true, the wealth ever reaches 1 / alpha with a probability of at most alpha (Ville, 1939), however often
and at whatever times one looks. All functions take arrays and broadcast.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any
PRIORS = ((0.5, 0.5), (1.0, 30.0))  # Beta: any rate (Jeffreys); a rate of some percent or less
STAKES = 0.5 * 2.0 ** (-np.arange(12) / 1.5)


class Sums(NamedTuple):
    """What is kept of values in [0, 1]: how many, their sum, the sum of their squares (None: all are 0 or 1)."""

    count: Array
    total: Array
    squares: Array | None = None

    def wide(self) -> Sums:
        """With an axis more, to broadcast against a grid."""
        count, total = (np.asarray(v, float)[..., None] for v in self[:2])
        return Sums(count, total, None if self.squares is None else np.asarray(self.squares, float)[..., None])

    @property
    def mean(self) -> Array:
        return np.asarray(self.total, float) / np.maximum(self.count, 1)


def over(sums: Sums, bound: Array) -> Array:
    """Log wealth against 'the mean is at most `bound`'. Falls as `bound` grows."""
    wealth = _mixed(sums) - _likelihood(sums, np.minimum(np.clip(bound, 0, 1), sums.mean))
    wealth = wealth if sums.squares is None else _halves(wealth, _empirical(sums, bound, 1.0))
    return np.where(np.asarray(bound) < 0, np.inf, wealth)


def under(sums: Sums, bound: Array) -> Array:
    """Log wealth against 'the mean is at least `bound`'. Grows with `bound`."""
    wealth = _mixed(sums) - _likelihood(sums, np.maximum(np.clip(bound, 0, 1), sums.mean))
    wealth = wealth if sums.squares is None else _halves(wealth, _empirical(sums, bound, -1.0))
    return np.where(np.asarray(bound) > 1, np.inf, wealth)


def _mixed(sums: Sums) -> Array:
    """Log of the Bernoulli likelihood averaged over Beta priors (Robbins, 1970; the beta-binomial mixture of Howard,
    Ramdas, McAuliffe and Sekhon, 2021). Over the likelihood at the true mean it is a nonnegative martingale for 0 or 1,
    and a supermartingale for any values in [0, 1], since the likelihood is convex in them."""
    n, k = np.asarray(sums.count, float), np.asarray(sums.total, float)
    parts = [_log_beta(k + a, n - k + b) - float(_log_beta(a, b)) for a, b in PRIORS]
    return np.logaddexp.reduce(parts, axis=0) - np.log(len(PRIORS))


def _likelihood(sums: Sums, mean: Array) -> Array:
    n, k = np.asarray(sums.count, float), np.asarray(sums.total, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(k > 0, k * np.log(mean), 0.0) + np.where(n > k, (n - k) * np.log1p(-mean), 0.0)


def _empirical(sums: Sums, bound: Array, sign: float) -> Array:
    """Log wealth that grows with the variance seen instead of the worst: exp(s d - psi(s) d^2) <= 1 + s d for d >= -1,
    psi(s) = -log(1 - s) - s (Fan, Grama and Liu, 2015; Waudby-Smith and Ramdas, 2024), averaged over stakes s."""
    n, total, squares = (np.asarray(v, float)[..., None] for v in sums)
    bound = np.asarray(bound, float)[..., None]
    gain = STAKES * sign * (total - n * bound)
    cost = (-np.log1p(-STAKES) - STAKES) * (squares - 2 * bound * total + n * bound**2)
    return np.logaddexp.reduce(gain - cost, axis=-1) - np.log(len(STAKES))


def _halves(a: Array, b: Array) -> Array:
    """The wealth of one who gives half to each."""
    return np.logaddexp(a, b) - np.log(2.0)


def _log_beta(a: Array, b: Array) -> Array:
    return _log_gamma(a) + _log_gamma(b) - _log_gamma(np.add(a, b))


def _log_gamma(x: Array) -> Array:
    """Stirling's series after a shift by eight (DLMF 5.11.1); error under 1e-12 for x > 0."""
    x = np.asarray(x, float)
    shift = np.log(x * (x + 1) * (x + 2) * (x + 3)) + np.log((x + 4) * (x + 5) * (x + 6) * (x + 7))
    y = x + 8
    series = 1 / (12 * y) - 1 / (360 * y**3) + 1 / (1260 * y**5) - 1 / (1680 * y**7)
    return (y - 0.5) * np.log(y) - y + 0.5 * np.log(2 * np.pi) + series - shift
