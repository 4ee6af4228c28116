"""The evidence of one rollout: a candidate against the stable version, under several guards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlops_core.errors import UsageError
from mlops_core.evidence.bets import Array
from mlops_core.evidence.guards import Arm, Finding, Guard, Judgement, State
from mlops_core.evidence.means import Means
from mlops_core.evidence.quantiles import Quantiles
from mlops_core.evidence.shapes import Shapes
from mlops_core.evidence.words import told


class Evidence:
    """One candidate against the stable version. `alpha` is for the whole rollout: all guards, all looks.

    If no guard is truly broken, any of them says 'harm' at most with probability `alpha` (each has its equal share: the
    union bound). If one is broken, it says 'safe' at most with probability `alpha`, so that all of them together do so
    no more often (intersection-union: Berger, 1982): take a step when all are safe.
    """

    def __init__(self, guards: Sequence[Guard], alpha: float) -> None:
        if not 0.0 < alpha < 1.0:
            raise UsageError(f"alpha: expected a number between 0 and 1, not {alpha!r}")
        self.guards = tuple(guards)
        self.alpha = alpha
        self._watches = tuple((g, _watch(g)) for g in self.guards)

    def answered(self, arm: Arm, seconds: Sequence[float], predictions: Sequence[float | str]) -> None:
        """Counts requests that were answered: how long each took, and the predictions of its rows."""
        times = _numbers(seconds, f"seconds of the {_known(arm)} version")
        if times.size and times.min() < 0:
            raise UsageError(f"seconds of the {arm} version: expected no negative number, not {times.min():g}")
        shape = _predictions(predictions, arm)
        for _, watch in self._watches:
            if isinstance(watch, Quantiles):
                watch.add(arm, times)
            elif isinstance(watch, Shapes):
                watch.add(arm, shape)
            elif watch.binary:
                watch.add(arm, len(times), 0.0, 0.0)

    def failed(self, arm: Arm, count: int) -> None:
        """Counts requests that failed."""
        if count < 0:
            raise UsageError(f"failures of the {_known(arm)} version: expected 0 or more, not {count}")
        for _, watch in self._watches:
            if isinstance(watch, Means) and watch.binary:
                watch.add(_known(arm), count, count, count)

    def scored(self, arm: Arm, losses: Sequence[float]) -> None:
        """Counts rows whose label came: the loss of each, from 0 (best) to 1."""
        values = bounded(losses, f"losses of the {_known(arm)} version")
        for _, watch in self._watches:
            if isinstance(watch, Means) and not watch.binary:
                watch.add(arm, len(values), float(values.sum()), float(values @ values))

    def findings(self) -> tuple[Finding, ...]:
        """What each guard says now; a function of what was counted, so looking costs nothing but time."""
        return tuple(self._finding(guard, watch.judge(self._share, self.alpha)) for guard, watch in self._watches)

    @property
    def _share(self) -> float:
        return self.alpha / len(self.guards)

    def _finding(self, guard: Guard, found: Judgement) -> Finding:
        harm, safe = len(self.guards) * chance(found.harm), chance(found.safe)
        state: State = "harm" if harm <= self.alpha else "safe" if safe <= self.alpha else "open"
        error = min(1.0, {"harm": harm, "safe": safe, "open": min(harm, safe)}[state])
        return Finding(
            guard=guard,
            state=state,
            low=max(found.low, guard.tolerance) if state == "harm" else found.low,
            high=min(found.high, guard.tolerance) if state == "safe" else found.high,
            stable=found.stable,
            candidate=found.candidate,
            requests=found.requests,
            error=error,
            words=told(guard, state, found, error),
        )


def chance(wealth: float) -> float:
    """The bound on the probability that a bettor ever has this log wealth although the claim is true."""
    return float(np.exp(min(0.0, -wealth)))


def _watch(guard: Guard) -> Means | Quantiles | Shapes:
    if guard.kind == "latency":
        return Quantiles(guard.tolerance, guard.quantile)
    return Shapes(guard.tolerance) if guard.kind == "predictions" else Means(guard.tolerance, guard.kind == "errors")


def _known(arm: Arm) -> Arm:
    if arm not in ("stable", "candidate"):
        raise UsageError(f"arm {arm!r}: expected 'stable' or 'candidate'")
    return arm


def _numbers(values: Sequence[float], what: str) -> Array:
    try:
        numbers = np.asarray(values, float).reshape(-1)
    except (TypeError, ValueError):
        kinds = ", ".join(sorted({type(v).__name__ for v in values}))
        raise UsageError(f"{what}: expected numbers, not {kinds}") from None
    if not np.isfinite(numbers).all():
        place = int(np.argmin(np.isfinite(numbers)))
        raise UsageError(f"{what}: number {place + 1} of {len(numbers)} is {numbers[place]}; expected finite numbers")
    return numbers


def bounded(losses: Sequence[float], what: str) -> Array:
    """`losses` as an array; refuses what is not in [0, 1]."""
    values = _numbers(losses, what)
    if values.size and (values.min() < 0 or values.max() > 1):
        place = int(np.argmax((values < 0) | (values > 1)))
        raise UsageError(f"{what}: number {place + 1} of {len(values)} is {values[place]:g}; expected 0 to 1")
    return values


def _predictions(values: Sequence[float | str], arm: Arm) -> Array:
    found = np.asarray(values)
    if found.dtype.kind in "US" and not all(isinstance(v, str) for v in values):
        raise UsageError(f"predictions of the {arm} version: expected all numbers or all classes, not both")
    return found if found.dtype.kind == "U" else _numbers(values, f"predictions of the {arm} version")  # type: ignore[arg-type]
