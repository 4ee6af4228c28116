"""Several objectives at once: which trials no other beats in all of them, and which of those is taken.

The front is what can be had: more of one score is paid for with another. Definitions: Miettinen, Nonlinear
Multiobjective Optimization (1999), 2.2; for what is taken, the constraint method of Haimes, Lasdon and Wismer (1971):
the best second score under a bound on the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from mlops_core.contracts import Goal, Mode, Scores, Trial

Costs = tuple[float, ...]
SIZE = "model_bytes"
"""An objective that the core measures: how large the model's folder is."""
LEEWAY = 1 + 1e-9  # 0.93 - 0.92 is a little more than 0.01


def objectives_of(goal: Goal) -> dict[str, Mode]:
    """The metric of the search, then the further objectives in their order."""
    return {goal.metric: goal.mode, **goal.objectives}


def costs_of(scores: Scores, goal: Goal) -> Costs | None:
    """The scores of the objectives, each the better the lower; None where one is missing or not finite."""
    values = {name: float(scores.get(name, math.nan)) for name in objectives_of(goal)}
    found = tuple(-values[name] if mode == "max" else values[name] for name, mode in objectives_of(goal).items())
    return found if all(map(math.isfinite, found)) else None


def dominates(one: Costs, other: Costs) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def advances(front: Iterable[Costs], costs: Costs | None) -> bool:
    """Whether `costs` add something to a front."""
    return costs is not None and not any(other == costs or dominates(other, costs) for other in front)


def front_of(trials: Iterable[Trial], goal: Goal) -> tuple[Trial, ...]:
    """The trials that ran to their end and that none of them dominates, the best in the metric first.

    Of equal ones each is there.
    """
    return tuple(trial for _, trial in _front(trials, goal))


def offers_of(trials: Iterable[Trial], goal: Goal) -> tuple[tuple[float, Trial], ...]:
    """From which tolerance on which trial of the front is taken: one from 0, others from more and more.

    Taken is the best in the first further objective, then in the next, of those whose metric is within the tolerance
    of the best one; ties go to the better metric, then to the earlier trial.
    """
    front = _front(trials, goal)
    found: list[tuple[Costs, Trial]] = []
    for costs, trial in front:
        if not found or costs[1:] < found[-1][0][1:]:
            found.append((costs, trial))
    return tuple((costs[0] - front[0][0][0], trial) for costs, trial in found)


def taken(trials: Iterable[Trial], goal: Goal, tolerance: float) -> Trial | None:
    """The trial whose model is taken; None where the front is empty."""
    found = [trial for least, trial in offers_of(trials, goal) if least <= tolerance * LEEWAY]
    return found[-1] if found else None


def _front(trials: Iterable[Trial], goal: Goal) -> list[tuple[Costs, Trial]]:
    done = [(costs, t) for t in trials if t.state == "done" and (costs := costs_of(t.scores, goal))]
    found: list[tuple[Costs, Trial]] = []
    for costs, trial in sorted(done, key=lambda pair: (pair[0], pair[1].number)):
        if not any(dominates(other, costs) for other, _ in found):  # what dominates it came before it
            found.append((costs, trial))
    return found
