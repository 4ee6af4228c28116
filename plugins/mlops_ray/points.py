"""Which point to try next: Optuna's samplers, random, or a grid; what is known is never tried again.

`points.jsonl` in the folder of the search numbers every point that was started, so that a search that was
killed takes up its unfinished points first, each in its old folder with its checkpoints.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import random
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core import (
    Trials,
    grid_points,
    grid_size,
    holds,
    key_of,
    multiple,
    multiples,
    objectives_of,
    parents_first,
)
from mlops_core.contracts import Distribution, Goal, Params, Space, Trial, plain, record, restore
from mlops_core.errors import TrainingError
from mlops_ray.search import Search

if TYPE_CHECKING:
    import optuna

SMALL = 100
STARTUP = 10
FEW = 2  # objectives; of three, the Gaussian process thinks for seconds about each point
MANY = 1_000
PATIENCE = 3  # times that the sampler may come back to points that are known
DRAWS = 1_000  # at random, before a space of more than MANY points counts as exhausted


@record
class Point:
    """Of a population, also whose leg it is, and from which trial that goes on."""

    number: int
    params: Params
    after: int | None = None
    member: int | None = None


class Points:
    """`next()` gives points until there are none; `tell` teaches the sampler how one ended."""

    legs = False  # whether trials go on from one another

    def __init__(self, tuner: Search, space: Space, goal: Goal, out: Path, known: Trials) -> None:
        self.space, self.goal, self.known, self._path = space, goal, known, out / "points.jsonl"
        self._asked: dict[int, optuna.trial.Trial] = {}
        self._dimensions = {name: _dimension(d) for name, d in space.items()}
        self._order = parents_first(space)
        self._conditional = _conditional(space)
        started = {p.number: p for p in self._read()}
        self.started = list(started.values())
        self._live = {key_of(p.params, p.after) for p in self.started}
        self.queue = [p for p in self.started if known.known(p.params, p.after) is None]
        self._count = 1 + max(started, default=-1)
        self._fresh = self._unseen(tuner)
        first = sum(p.after is None for p in self.started)
        self.total = tuner.trials if self._fresh is None else min(tuner.trials, len(self._fresh) + first)
        self._only_grid = tuner.sampler == "grid"
        self._study = self._learn(tuner)
        if tuner.warm_start:
            self._begin_with_the_best()

    def next(self) -> Point | None:
        """The next point to try; None when the space or the grid is exhausted."""
        if self.queue:
            return self.queue.pop(0)
        if self._only_grid:
            return self._start(self._fresh[0]) if self._fresh else None
        with _quiet():
            for sampler in self._samplers():
                self._study.sampler = sampler
                asked, params = self._ask()
                if key_of(params) not in self._live:
                    point = self._start(params)
                    self._asked[point.number] = asked
                    return point
                self._repeat(asked, params)
        return self._start(self._fresh[0]) if self._fresh else None

    @property
    def left(self) -> int:
        """How many are to come at most; -1 where nobody knows."""
        return self.total - len(self.known)

    @property
    def waits(self) -> bool:
        """Whether the end of a trial may make another point of it, where there is none now."""
        return False

    def spare(self, trial: Trial) -> Iterable[int]:
        """The trials whose checkpoints nobody goes on from, now that this one has ended."""
        return () if trial.state == "failed" else (trial.number,)

    def _ask(self) -> tuple[optuna.trial.Trial, Params]:
        """A point of the sampler; where there are conditions, one dimension after the other."""
        asked = self._study.ask(None if self._conditional else self._dimensions)
        found: dict[str, Any] = {}
        for name in self._order:
            if holds(self.space[name], found):
                found[name] = _value(self.space[name], _suggested(asked, name, self._dimensions[name]))
        return asked, {name: found[name] for name in self.space if name in found}

    def _samplers(self) -> Iterator[optuna.samplers.BaseSampler]:
        """Whom to ask in turn; where many points are left, chance finds one that the sampler does not."""
        if self._fresh is None or self._fresh:
            yield from [self._sampler] * PATIENCE
        if self._fresh is None:
            yield from [self._chance] * DRAWS

    def tell(self, trial: Trial) -> None:
        import optuna

        asked, values = self._asked.pop(trial.number, None), self._values(trial)
        with _quiet():
            if asked is None:
                self._add(trial)
            elif values is None:
                self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(asked, values)

    def _values(self, trial: Trial | None) -> list[float] | None:
        """The scores of all objectives; None where one is missing or not finite, or the trial failed."""
        if trial is None or trial.state == "failed":
            return None
        values = [trial.scores.get(name, math.nan) for name in objectives_of(self.goal)]
        return values if all(map(math.isfinite, values)) else None

    def _unseen(self, tuner: Search) -> list[Params] | None:
        """The points that were not started: of the grid, or of a space that has not many; None where it has."""
        if tuner.sampler == "grid":
            points = grid_points(self.space, tuner.points, limit=tuner.trials, seed=self.goal.seed)
        elif all(map(_counted, self.space.values())) and grid_size(self.space, MANY + 1) <= MANY:
            points = grid_points(self.space, MANY)
            random.Random(self.goal.seed).shuffle(points)
        else:
            return None
        return [p for p in points if key_of(p) not in self._live]

    def _start(self, params: Params, after: int | None = None, member: int | None = None) -> Point:
        point = Point(number=self._count, params=params, after=after, member=member)
        self._count += 1
        self._live.add(key_of(params, after))
        if self._fresh is not None:
            self._fresh = [p for p in self._fresh if key_of(p) not in self._live]
        with self._path.open("a") as file:
            file.write(json.dumps(plain(point)) + "\n")
        return point

    def _repeat(self, asked: optuna.trial.Trial, params: Params) -> None:
        """The sampler came back to a point: it learns the known answer, and is asked again."""
        import optuna

        values = self._values(self.known.known(params))
        if values is not None:
            self._study.tell(asked, values)
        else:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)

    def _learn(self, tuner: Search) -> optuna.Study:
        import optuna

        with _quiet():
            # another seed after a resume: the same one would draw the points that are known already
            seed = self.goal.seed + 7919 * len(self.known)
            objectives = objectives_of(self.goal)
            self._sampler = _sampler(tuner, self.space, seed, len(objectives))
            self._chance = optuna.samplers.RandomSampler(seed=seed)
            directions = [f"{mode}imize" for mode in objectives.values()]
            self._study = optuna.create_study(sampler=self._sampler, directions=directions)
            self._earlier = [t for t in self.goal.earlier if tuner.warm_start and self._add(t)]
            for trial in self.known:
                self._add(trial)
        return self._study

    def _begin_with_the_best(self) -> None:
        """The best of the last search in each objective."""
        done = [t for t in self._earlier if t.state == "done"]
        for name, mode in objectives_of(self.goal).items() if done else ():
            best = (max if mode == "max" else min)(done, key=lambda t: t.scores[name])
            if key_of(best.params) not in self._live:
                self.queue.append(self._start(best.params))

    def _add(self, trial: Trial) -> bool:
        """Teaches the sampler a trial; not one without a score, of another space, or that others began."""
        import optuna

        values = self._values(trial) if trial.after is None else None
        there = {name for name, d in self.space.items() if holds(d, trial.params)}
        if values is None or trial.params.keys() != there:
            return False
        try:
            params = {name: _code(self.space[name], v) for name, v in trial.params.items()}
            dimensions = {name: self._dimensions[name] for name in params}
            done = optuna.trial.create_trial(params=params, distributions=dimensions, values=values)
        except (ValueError, TypeError):  # a value that this space does not have
            return False
        self._study.add_trial(done)
        return True

    def _read(self) -> Iterator[Point]:
        if self._path.exists():
            *whole, torn = self._path.read_bytes().split(b"\n")
            if torn:  # by a kill or a full disk; the next line must not go on with it
                os.truncate(self._path, sum(len(line) + 1 for line in whole))
            for line in whole:
                yield restore(Point, json.loads(line))


def _conditional(space: Space) -> bool:
    return any(d.when for d in space.values())


def _sampler(tuner: Search, space: Space, seed: int, objectives: int) -> optuna.samplers.BaseSampler:
    import optuna

    if tuner.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # Up to STARTUP points both draw at random, and the Gaussian process would load torch for nothing. Between names it
    # has no distances: where a choice is among the dimensions, TPE found better points.
    grouped, numbers = _conditional(space), all(d.kind not in ("choice", "grid") for d in space.values())
    small = STARTUP < tuner.trials <= SMALL and objectives <= FEW
    if small and numbers and not grouped and importlib.util.find_spec("torch"):
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP)
    return optuna.samplers.TPESampler(
        seed=seed, multivariate=True, group=grouped, constant_liar=True, n_startup_trials=STARTUP
    )


def _dimension(d: Distribution) -> optuna.distributions.BaseDistribution:
    from optuna import distributions as od

    if d.kind in ("choice", "grid"):
        return od.CategoricalDistribution(range(len(d.args[0])))
    low, high = d.args[:2]
    if d.kind == "randint":
        return od.IntDistribution(low, high - 1)
    if d.kind == "quniform":
        return od.IntDistribution(multiples(d)[0], multiples(d)[-1])
    return od.FloatDistribution(low, high, log=d.kind == "loguniform")


def _suggested(asked: optuna.trial.Trial, name: str, d: optuna.distributions.BaseDistribution) -> Any:
    from optuna import distributions as od

    if isinstance(d, od.CategoricalDistribution):
        return asked.suggest_categorical(name, d.choices)
    if isinstance(d, od.IntDistribution):
        return asked.suggest_int(name, d.low, d.high)
    assert isinstance(d, od.FloatDistribution)
    return asked.suggest_float(name, d.low, d.high, log=d.log)


def _counted(d: Distribution) -> bool:
    """Whether the values of a dimension can be counted."""
    return d.kind not in ("uniform", "loguniform")


def _value(d: Distribution, coded: Any) -> Any:
    """What the trainer gets, from what the sampler knows: an index of a choice, a multiple of a step."""
    if d.kind in ("choice", "grid"):
        return d.args[0][coded]
    return multiple(d, coded) if d.kind == "quniform" else coded


def _code(d: Distribution, value: Any) -> Any:
    if d.kind in ("choice", "grid"):
        return [plain(v) for v in d.args[0]].index(plain(value))
    return round(value / d.args[2]) if d.kind == "quniform" else value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)


def check_optuna() -> None:
    """Raises TrainingError where the sampler's library is missing."""
    if not importlib.util.find_spec("optuna"):
        raise TrainingError("tuner ray needs optuna: python -m pip install 'mlops-core-framework[ray]'")
