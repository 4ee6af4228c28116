"""Is a window's share the reference's share? One statistic for all columns, and its limit for the largest.

Each column is watched through shares: rows above each of its quantiles, of each level, without a value. The
statistic of a share is the signed root of the two-sample likelihood ratio, which counts standard errors, takes
both sample sizes into account, and stays honest for rare events. The limit is what the largest of all shares
stays below in all but the declared rate of windows when nothing has changed. It is found by splitting the
reference: a window is taken out of it, and the rest plays the reference. (A bootstrap that draws windows from
the reference while that stays whole finds limits that are too low.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from mlops_drift.columns import Watched

LARGEST = 4_000
"""Largest window that limits are found for; they hardly depend on size, and not at all beyond this."""
SIZES = 4
"""Window sizes that limits are found for, from the smallest judged to LARGEST or half of the reference."""
TOGETHER = 50
"""Resamplings that are scored together."""


def starts(columns: Sequence[Watched]) -> list[int]:
    """Where the cells of each column begin in the one row of counts, and the end."""
    places = [0]
    for column in columns:
        places.append(places[-1] + column.cells)
    return places


def count(codes: Any, cells: int) -> Any:
    """Counts per cell from codes [rows, columns] that already point into the one row of cells."""
    import numpy as np

    return np.bincount(codes.ravel(), minlength=cells)


def scores(columns: Sequence[Watched], window: Any, reference: Any) -> list[Any]:
    """Per column the z of each of its shares, from counts of the window and of the reference."""
    found = []
    places = starts(columns)
    for column, start, end in zip(columns, places, places[1:], strict=False):
        found.append(change(*column.shares(window[..., start:end]), *column.shares(reference[..., start:end])))
    return found


def change(hits: Any, of: Any, reference_hits: Any, reference_of: Any) -> Any:
    """Signed root of the likelihood ratio of two shares against one: a standard normal when nothing changed."""
    import numpy as np

    misses, reference_misses = of - hits, reference_of - reference_hits
    every, all_hits = of + reference_of, hits + reference_hits
    ratio = _gain(hits, of, all_hits, every) + _gain(misses, of, every - all_hits, every)
    ratio += _gain(reference_hits, reference_of, all_hits, every)
    ratio += _gain(reference_misses, reference_of, every - all_hits, every)
    return np.sign(hits * reference_of - reference_hits * of) * np.sqrt(np.maximum(2 * ratio, 0))


def _gain(part: Any, of: Any, whole: Any, every: Any) -> Any:
    """part * log((part / of) / (whole / every)), 0 where part is 0."""
    import numpy as np

    safe = np.maximum(part, 1)
    return np.where(
        part > 0, part * np.log(safe * np.maximum(every, 1) / (np.maximum(of, 1) * np.maximum(whole, 1))), 0.0
    )


def limits(
    columns: Sequence[Watched], codes: Any, *, rate: float, draws: int, smallest: int, seed: int
) -> dict[int, float]:
    """Window size -> what the largest change exceeds in `rate` of windows without drift.

    `codes` are the reference's, [rows, columns]. The order statistic ceil((draws + 1)(1 - rate)) keeps the
    rate in expectation for any number of draws.
    """
    import numpy as np

    half = min(LARGEST, len(codes) // 2)
    sizes = np.unique(np.geomspace(min(smallest, half), half, SIZES).astype(int)).tolist()
    total = count(codes, starts(columns)[-1])
    largest = []
    for windows in _windows(codes, len(total), sizes, draws, np.random.default_rng(seed)):
        every = scores(columns, windows, total - windows)
        largest.append(np.max([np.abs(one).max(-1) for one in every], 0))
    rank = min(draws, math.ceil((draws + 1) * (1 - rate))) - 1
    return dict(zip(sizes, np.sort(np.concatenate(largest), 0)[rank].tolist(), strict=True))


def _windows(codes: Any, cells: int, sizes: Sequence[int], draws: int, rng: Any) -> Iterator[Any]:
    """Counts of windows taken out of the reference, [some draws, sizes, cells]; a size holds the smaller ones."""
    import numpy as np

    for start in range(0, draws, TOGETHER):
        taken = []
        for _ in range(min(TOGETHER, draws - start)):
            rows = codes[rng.choice(len(codes), sizes[-1], replace=False)]
            taken.append(np.cumsum([count(piece, cells) for piece in np.split(rows, sizes[:-1])], 0))
        yield np.stack(taken)


def limit_for(rows: int, known: Sequence[tuple[int, float]]) -> float:
    """The limit for a window of `rows`, between the sizes that were calibrated; constant beyond them."""
    import numpy as np

    sizes, values = zip(*sorted(known), strict=True)
    return float(np.interp(math.log(rows), np.log(sizes), values))
