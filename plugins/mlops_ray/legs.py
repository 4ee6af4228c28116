"""The points of a population: its first legs are drawn as any search's points are, what follows is decided by it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlops_core import Trials
from mlops_core.contracts import Goal, Params, Space, Trial
from mlops_ray.points import Point, Points
from mlops_ray.population import Population
from mlops_ray.search import Search


class Legs(Points):
    """`points.jsonl` tells whose each leg is; from it and the finished trials the population is made again."""

    legs = True

    def __init__(self, tuner: Search, space: Space, goal: Goal, out: Path, known: Trials) -> None:
        self._trials, self._gone = out / "trials", set[int]()
        self.population = Population(space, goal, tuner.changes or goal.changes, tuner.interval)
        super().__init__(tuner, space, goal, out, known)
        for point in self.started:
            self._begun(point)
            trial = known.known(point.params, point.after)
            if trial is not None:
                self._ended(trial)

    def next(self) -> Point | None:
        """First legs until there are as many members as declared; None where there is nothing to do, for now."""
        if self.queue or len(self.population.members) < self.total:
            point = super().next()
            if point is not None:  # else the sampler found fewer
                return point
        leg = self.population.next()
        return self._start(leg.params, leg.after, leg.member) if leg else None

    @property
    def left(self) -> int:
        """See `Points`: a member is over when its trainer says so."""
        idle = not self.queue and len(self.population.members) >= self.total
        return 0 if idle and self.population.next() is None else -1

    @property
    def waits(self) -> bool:
        return self.population.busy

    def tell(self, trial: Trial) -> None:
        self._ended(trial)
        super().tell(trial)

    def spare(self, trial: Trial) -> Iterable[int]:
        needed = self.population.needed
        fresh = {t.number for t in self.known if t.state != "failed"} - needed - self._gone
        self._gone |= fresh
        return fresh

    def _start(self, params: Params, after: int | None = None, member: int | None = None) -> Point:
        point = super()._start(params, after, self._count if member is None else member)
        self._begun(point)
        return point

    def _begun(self, point: Point) -> None:
        assert point.member is not None
        self.population.begun(point.number, point.member, point.after, point.params)

    def _ended(self, trial: Trial) -> None:
        left = any((self._trials / f"{trial.number:04d}" / "scratch").glob("*"))
        self.population.ended(trial, left=left)
