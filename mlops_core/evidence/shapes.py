"""Two arms compared by the distribution of their predictions."""

from __future__ import annotations

import numpy as np

from mlops_core.errors import UsageError
from mlops_core.evidence.bets import Array, Sums, last
from mlops_core.evidence.guards import ARMS, KEPT, Arm, Judgement
from mlops_core.evidence.means import COARSE, exceeds

LEAST, MOST = 40, 400  # cuts
EACH = 5  # predictions that choose a cut
HELD = 20_000
WORDS = {"f": "numbers", "U": "classes"}


class Shapes:
    """Counts predictions between fixed cuts, or per class; the greatest distance of the arms' shares is judged.

    Numbers are compared by the share at or under each cut (Kolmogorov-Smirnov), classes by the share of each. The first
    predictions of the stable version choose the cuts and are not counted, 200 of them 40 cuts, more for a tolerance
    under 0.1, so that what lies between two is less: their quantiles, and just under those that come again; the most
    frequent classes, and one for all others. Against 'no distance is over d' the
    e-processes of all cuts and both signs are averaged (Vovk and Wang, 2021); against 'some distance is over d' the
    smallest counts, and between two cuts the worst is conceded, but where they touch: no number lies there.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.wanted = int(np.clip(np.ceil(4 / max(tolerance, 1e-9)), LEAST, MOST))
        self.first = EACH * self.wanted
        self.cuts: Array | None = None
        self._touching = np.zeros(0, np.int64)  # the places of cuts just under the next
        self._kind = ""
        self._counts: dict[str, Array] = {}
        self._held: dict[str, list[Array]] = {"stable": [], "candidate": []}

    def add(self, arm: Arm, values: Array) -> None:
        if not values.size:
            return
        kind = values.dtype.kind
        if self._kind not in ("", kind):
            raise UsageError(
                f"predictions of the {arm} version: expected {WORDS[self._kind]} as before, not {WORDS[kind]}"
            )
        self._kind = kind
        if self.cuts is not None:
            self._count(arm, values)
        elif sum(map(len, self._held[arm])) < HELD:
            self._held[arm].append(values)
            self._choose()

    def _choose(self) -> None:
        if sum(map(len, self._held["stable"])) < self.first:
            return
        first = np.concatenate(self._held["stable"])
        seen, often = np.unique(first[: self.first], return_counts=True)
        if self._kind == "f":
            again = seen[often > 1]
            if len(seen) > self.wanted:
                seen = np.unique(np.quantile(first[: self.first], np.arange(1, self.wanted + 1) / (self.wanted + 1)))
            # Of a value that comes again the share under it counts too: else a fall from there to anywhere is unseen.
            seen = np.union1d(seen, np.nextafter(np.intersect1d(seen, again), -np.inf))
            self._touching = 1 + np.flatnonzero(np.nextafter(seen[:-1], np.inf) == seen[1:])
        elif len(seen) > self.wanted:
            seen = np.sort(seen[np.argsort(-often, kind="stable")[: self.wanted]])
        self.cuts = seen
        self._counts = {arm: np.zeros(len(seen) + 1, np.int64) for arm in self._held}
        for arm, held in self._held.items():
            for values in [first[self.first :]] if arm == "stable" else held:
                self._count(arm, values)
            held.clear()

    def _count(self, arm: str, values: Array) -> None:
        assert self.cuts is not None
        if self._kind == "f":
            cells: Array = np.searchsorted(self.cuts, values)
        else:
            at = np.minimum(np.searchsorted(self.cuts, values), len(self.cuts) - 1)
            cells = np.where(self.cuts[at] == values, at, len(self.cuts))
        self._counts[arm] += np.bincount(cells, minlength=len(self.cuts) + 1)

    def judge(self, harm: float, safe: float) -> Judgement:
        if self.cuts is None:
            held = sum(map(len, self._held["candidate"]))
            return Judgement(harm=0.0, safe=0.0, low=0.0, high=1.0, stable=0.0, candidate=0.0, requests=held)
        numbers = self._kind == "f"
        stable, candidate = (shares(self._counts[arm], arm, numbers) for arm in ARMS)
        widest = int(np.argmax(np.abs(candidate.mean - stable.mean)))
        return Judgement(
            harm=float(apart(stable, candidate, self.tolerance)),
            safe=float(together(stable, candidate, self.tolerance, numbers, touching=self._touching)),
            low=last(lambda d: apart(stable, candidate, d, 16) >= -np.log(harm), 0.0, 1.0, 4e-3, 1),
            high=-last(
                lambda d: together(stable, candidate, -d, numbers, 16, self._touching) >= -np.log(safe),
                -1.0,
                0.0,
                4e-3,
                1,
            ),
            stable=float(stable.mean[widest]),
            candidate=float(candidate.mean[widest]),
            requests=int(self._counts["candidate"].sum()),
        )


def shares(cells: Array, arm: Arm, numbers: bool) -> Sums:
    """Counts at or under each cut, from none to all; or of each class."""
    count = cells.sum(axis=-1, keepdims=True)
    part = np.concatenate([np.zeros_like(count), np.cumsum(cells, axis=-1)], axis=-1) if numbers else cells
    return Sums(np.broadcast_to(count, part.shape), part, None, KEPT[arm])


def apart(stable: Sums, candidate: Sums, distance: float, steps: int = COARSE) -> Array:
    """Log wealth against 'no share differs by more than `distance`'."""
    both = exceeds(candidate, stable, distance, steps), exceeds(stable, candidate, distance, steps)
    return np.logaddexp.reduce(np.concatenate(both, axis=-1), axis=-1) - np.log(2 * both[0].shape[-1])


def together(
    stable: Sums, candidate: Sums, distance: float, numbers: bool, steps: int = COARSE, touching: Array = ()
) -> Array:
    """Log wealth against 'some share differs by at least `distance`'. From a cut to the next the shares lie between
    those at both; at the places that are `touching` there is nothing between, so they are those at the first."""
    left: Array = np.arange(stable.total.shape[-1] - numbers)
    right = left + numbers
    right[np.asarray(touching, np.int64)] -= 1
    one, other = (
        exceeds(_part(a, left), _part(b, right), -distance, steps).min(axis=-1)
        for a, b in ((stable, candidate), (candidate, stable))
    )
    return np.minimum(one, other)


def _part(sums: Sums, part: Array) -> Sums:
    return sums._replace(count=sums.count[..., part], total=sums.total[..., part])
