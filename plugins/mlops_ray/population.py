"""Population based training (Jaderberg et al. 2017, arXiv 1711.09846): which leg comes next, and what is kept for it.

A member's life is a chain of legs, each a trial that goes on from the checkpoint of an earlier one. Nothing is paused,
and nothing is known here that is not in the folder of the search: a search that was killed decides as it would have.

As in the paper nobody waits for anybody: a member is held against the latest leg of each other one, however deep that
is. Who is among the worst quarter takes over one of the best (truncation selection; a quarter, rounded up, and at most
half, as in Ray's PopulationBasedTraining; the paper takes a fifth), and tries other parameters near its.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlops_core import key_of, multiple, multiples
from mlops_core.contracts import Distribution, Goal, Params, Space, Trial, plain

FACTORS = (0.8, 1.2)
ANEW = 0.25  # how often a choice is drawn anew instead of moved to a neighbour
QUARTER = 4
HOPELESS = 3  # legs in a row that failed
DRAWS = 20  # from one member of the best quarter, before another one's are tried


@dataclass(frozen=True)
class Leg:
    """What a member does next: from the checkpoint of trial `after`, with these parameters."""

    member: int
    after: int
    params: Params


@dataclass
class Member:
    """`last` is its latest leg that left a score and a checkpoint."""

    last: Trial | None = None
    legs: int = 0
    busy: bool = False
    failed: int = 0  # legs in a row
    over: bool = False


class Population:
    """`next()` gives the next leg that can be decided now. `begun` and `ended` tell what the legs do."""

    def __init__(self, space: Space, goal: Goal, changes: Sequence[str], interval: int) -> None:
        self.space, self.goal, self.changes, self.interval = space, goal, changes, interval
        self.members: dict[int, Member] = {}
        self._steps: dict[int | None, int] = {None: 0}
        self._taken: set[str] = set()
        self._busy: dict[int, tuple[int, int | None]] = {}  # a leg -> its member, and the leg from which it goes on

    def begun(self, number: int, member: int, after: int | None, params: Params) -> None:
        found = self.members.setdefault(member, Member())
        found.busy, found.legs = True, found.legs + 1
        self._taken.add(key_of(params, after))
        self._busy[number] = (member, after)

    def ended(self, trial: Trial, *, left: bool) -> None:
        """`left`: whether there is a checkpoint to go on from. A fit that made fewer steps than it was told has come
        to its own end, and so has one that left none."""
        number, after = self._busy.pop(trial.number)
        member = self.members[number]
        member.busy = False
        if trial.state == "failed":
            member.failed += 1
            member.over = member.failed == HOPELESS
            return
        self._steps[trial.number] = trial.steps
        member.failed, member.last = 0, trial
        member.over = not left or trial.state == "pruned" or trial.steps - self._steps[after] < self.interval

    @property
    def needed(self) -> set[int]:
        """The trials from whose checkpoints somebody goes on, or may."""
        under_way = {after for _, after in self._busy.values() if after is not None}
        return {m.last.number for m in self.members.values() if m.last and not m.over} | under_way

    @property
    def busy(self) -> bool:
        return bool(self._busy)

    def next(self) -> Leg | None:
        """Of who made the fewest legs; None where there is nobody, or nobody to learn from yet."""
        idle = [n for n, m in self.members.items() if not m.busy and not m.over]
        for number in sorted(idle, key=lambda n: (self.members[n].legs, n)):
            leg = self._leg(number)
            if leg:
                return leg
        return None

    def _leg(self, number: int) -> Leg | None:
        member = self.members[number]
        low, high = self._quarters()
        rng = random.Random(f"{self.goal.seed} {number} {member.legs}")
        lost = member.last is None or bool(member.failed) or not self._finite(member.last)
        found = self._near(number, high, rng) if lost or number in low else None
        if found is None and member.last is not None and not member.failed:
            return Leg(number, member.last.number, member.last.params)
        return found

    def _quarters(self) -> tuple[list[int], list[int]]:
        """The worst and the best members; none where there are not two to compare."""
        scored = {n: m.last for n, m in self.members.items() if m.last and not m.over and self._finite(m.last)}
        ordered = sorted(scored, key=lambda n: (self._cost(scored[n]), scored[n].number))
        size = min(math.ceil(len(ordered) / QUARTER), len(ordered) // 2)
        if not size:
            return [], ordered
        return ordered[-size:], ordered[:size]

    def _near(self, number: int, best: list[int], rng: random.Random) -> Leg | None:
        """A point near that of one of the best, from its checkpoint, which nobody has tried from there."""
        for other in rng.sample(best, len(best)):
            last = self.members[other].last
            assert last is not None
            for _ in range(DRAWS):
                params = self._explored(last.params, rng)
                known = key_of(params, last.number) in self._taken
                if not known and params != last.params:  # the other one goes on with these itself
                    return Leg(number, last.number, params)
        return None

    def _explored(self, params: Params, rng: random.Random) -> dict[str, Any]:
        return {n: near(self.space[n], v, rng) if n in self.changes else v for n, v in params.items()}

    def _finite(self, trial: Trial) -> bool:
        return math.isfinite(trial.scores.get(self.goal.metric, math.nan))

    def _cost(self, trial: Trial) -> float:
        value = trial.scores[self.goal.metric]
        return -value if self.goal.mode == "max" else value


def near(d: Distribution, value: Any, rng: random.Random) -> Any:
    """Another value near this one: 0.8 or 1.2 times it, and where they are counted at least the next; of a choice a
    neighbour, or any."""
    if d.kind in ("choice", "grid"):
        values = list(d.args[0])
        if rng.random() < ANEW:
            return rng.choice(values)
        at = [plain(v) for v in values].index(plain(value))
        return values[rng.choice([i for i in (at - 1, at + 1) if 0 <= i < len(values)] or [at])]
    if d.kind in ("uniform", "loguniform"):
        low, high = d.args
        moved = [min(max(value * f, low), high) for f in FACTORS]
        return rng.choice([v for v in moved if v != value] or [rng.uniform(low, high)])  # nothing times 0 is not 0
    first, last = (d.args[0], d.args[1] - 1) if d.kind == "randint" else (multiples(d)[0], multiples(d)[-1])
    at = round(value / d.args[2]) if d.kind == "quniform" else value
    counts = {min(max(i, first), last) for i in _counts(at)} - {at}
    at = rng.choice(sorted(counts) or [at])
    return multiple(d, at) if d.kind == "quniform" else at


def _counts(at: int) -> Iterator[int]:
    for factor, step in zip(FACTORS, (-1, 1), strict=True):
        moved = round(at * factor)
        yield moved if moved != at else at + step
