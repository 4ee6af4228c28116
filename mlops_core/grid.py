"""A search space as a grid: every value of what can be counted, a few of what is continuous. For tuners."""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Mapping
from typing import Any

from mlops_core.contracts import Distribution, Params, Space
from mlops_core.errors import TrainingError
from mlops_core.space import holds, multiple, multiples, parents_first

MANY = 10_000


def grid_points(space: Space, points: int = 5, *, limit: int | None = None, seed: int = 0) -> list[Params]:
    """The points of the grid in a fixed order; at most `limit` of them, drawn evenly from all by `seed`.

    `points` is the number of values of a continuous dimension. Where a condition does not hold the parameter is
    absent, and no point comes twice. Raises TrainingError for a grid that nobody can finish, unless `limit` makes it
    small.
    """
    axes = {name: values_of(d, points) for name, d in space.items()}
    parts = _parts(space, axes)
    sizes = [math.prod(len(axes[name]) for name in free) for _, free in parts]
    total = sum(sizes)
    if (limit or total) > MANY and total > MANY:
        told = [" x ".join(str(len(axes[name])) for name in free) or "1" for _, free in parts]
        more = " + ..." if len(told) > 3 else ""
        words = f"{' + '.join(told[:3])}{more} = {total} points"
        raise TrainingError(f"the grid has {words}; set tuner.trials to try some of them")
    few = limit is not None and limit < total
    drawn = sorted(random.Random(seed).sample(range(total), limit)) if few and limit else range(total)
    ends, found = list(itertools.accumulate(sizes)), list[Params]()
    for index in drawn:
        part = bisect.bisect_right(ends, index)
        fixed, free = parts[part]
        point = _point([axes[name] for name in free], index - ends[part] + sizes[part])
        values = fixed | dict(zip(free, point, strict=True))
        found.append({name: values[name] for name in space if name in values})
    return found


def grid_size(space: Space, points: int = 5) -> int:
    """How many points the grid has."""
    axes = {name: values_of(d, points) for name, d in space.items()}
    return sum(math.prod(len(axes[name]) for name in free) for _, free in _parts(space, axes))


def _parts(space: Space, axes: Mapping[str, list[Any]]) -> list[tuple[dict[str, Any], list[str]]]:
    """The grid in parts without conditions: the values that conditions ask for, and what is free beside them."""
    asked = {other for d in space.values() for other in d.when}
    found: list[dict[str, Any]] = [{}]
    for name in (n for n in parents_first(space) if n in asked):
        found = [
            wider
            for fixed in found
            for wider in ([{**fixed, name: v} for v in axes[name]] if holds(space[name], fixed) else [fixed])
        ]
        if len(found) > MANY:
            raise TrainingError(f"the conditions of the space have more than {MANY} cases; take some of them out")
    return [(fixed, [n for n, d in space.items() if n not in asked and holds(d, fixed)]) for fixed in found]


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
        return [multiple(distribution, i) for i in few]
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
