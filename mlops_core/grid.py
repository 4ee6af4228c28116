"""A search space as a grid: every value of what can be counted, a few of what is continuous. For tuners."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

from mlops_core.contracts import Distribution, Params, Space
from mlops_core.errors import TrainingError
from mlops_core.space import at, multiples

MANY = 10_000


def grid_points(space: Space, points: int = 5, *, limit: int | None = None, seed: int = 0) -> list[Params]:
    """The points of the grid in a fixed order; at most `limit` of them, drawn evenly from all by `seed`.

    `points` is the number of values of a continuous dimension. Raises TrainingError for a grid that nobody
    can finish, unless `limit` makes it small.
    """
    axes = [values_of(d, points) for d in space.values()]
    total = math.prod(map(len, axes))
    if (limit or total) > MANY and total > MANY:
        sizes = " x ".join(str(len(a)) for a in axes)
        raise TrainingError(f"the grid has {sizes} = {total} points; set tuner.trials to try some of them")
    if limit is None or limit >= total:
        return [dict(zip(space, point, strict=True)) for point in itertools.product(*axes)]
    drawn = sorted(random.Random(seed).sample(range(total), limit))
    return [dict(zip(space, _point(axes, index), strict=True)) for index in drawn]


def values_of(distribution: Distribution, points: int) -> list[Any]:
    """The values of one dimension of the grid, in order and without repetition."""
    kind, args = distribution.kind, distribution.args
    if kind in ("choice", "grid"):
        return list(args[0])
    low, high = args[0], args[1]
    if kind == "randint":
        return _spread(low, high - 1, high - low, points) if high - low > MANY else list(range(low, high))
    if kind == "quniform":
        steps = multiples(distribution)
        few = steps if len(steps) <= points else _spread(steps[0], steps[-1], len(steps), points)
        return [at(distribution, i) for i in few]
    if points == 1 or low == high:
        return [math.sqrt(low * high) if kind == "loguniform" else (low + high) / 2]
    parts = [i / (points - 1) for i in range(points)]
    if kind == "loguniform":
        return [_tidy(math.exp(math.log(low) + p * (math.log(high) - math.log(low)))) for p in parts]
    return [_tidy(low + p * (high - low)) for p in parts]


def _spread(low: int, high: int, count: int, points: int) -> list[int]:
    points = min(points, count)
    return [low] if points == 1 else [low + round(i * (high - low) / (points - 1)) for i in range(points)]


def _tidy(value: float) -> float:
    """0.30000000000000004 as 0.3."""
    return float(f"{value:.12g}")


def _point(axes: list[list[Any]], index: int) -> list[Any]:
    found = []
    for axis in reversed(axes):
        index, at = divmod(index, len(axis))
        found.append(axis[at])
    return found[::-1]
