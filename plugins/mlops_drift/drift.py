"""Monitor `drift`: do the rows that come in still look like the reference?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from mlops_core.contracts import Profile, Table, Verdict, Window
from mlops_core.errors import DataError
from mlops_drift import columns as cells
from mlops_drift import shares

if TYPE_CHECKING:
    import polars as pl

REFERENCE_ROWS = 200_000
BATCH = 100_000
REASONS = 5


@dataclass(frozen=True)
class Drift:
    """Alarms when feature or prediction columns no longer come from the distribution of the reference.

    Numbers are watched through the shares of rows above 64 quantiles of the reference, categories through the
    share of each level, all through the share of missing values; arrays through their mean and spread; times
    are left out. A score is the largest change of a share of that column in standard errors. All columns have
    one limit, calibrated on the reference so that a window without drift alarms at the declared rate, whatever
    its size and however many columns there are. Rows are taken to be independent of each other: where the
    reference covers less than a whole season, the season is drift too.

    false_alarm_rate: share of windows without any drift that may alarm, over all columns together
    min_rows: windows of fewer rows are not judged
    min_change: changes of a share smaller than this never alarm, however sure they are
    bins: quantiles per number and levels per category that are watched
    draws: resamplings of the reference that find the limit; at least 1 / false_alarm_rate
    seed: of these resamplings
    """

    false_alarm_rate: Annotated[float, Gt(0), Lt(1)] = 0.01
    min_rows: Annotated[int, Ge(20)] = 200
    min_change: Annotated[float, Ge(0), Lt(1)] = 0.01
    bins: Annotated[int, Ge(2), Le(1024)] = 64
    draws: Annotated[int, Ge(20)] = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.false_alarm_rate * (self.draws + 1) < 1:
            needed = round(1 / self.false_alarm_rate)
            raise ValueError(f"a false_alarm_rate of {self.false_alarm_rate} needs draws of at least {needed}")

    def profile(self, reference: Table, columns: tuple[str, ...]) -> Profile:
        import numpy as np

        frame = _sample(reference, columns)
        series = list(cells.derived(frame))
        if not series or len(frame) < 2:
            return Profile(monitor="drift", rows=len(frame), state={"columns": [], "counts": [], "limits": []})
        watched = [cells.learn(s, self.bins) for s in series]
        places = shares.starts(watched)
        codes = np.stack([w.code(s) + p for w, s, p in zip(watched, series, places, strict=False)], 1)
        found = shares.limits(
            watched, codes, rate=self.false_alarm_rate, draws=self.draws, smallest=self.min_rows, seed=self.seed
        )
        state = {
            "columns": [cells.to_plain(w) for w in watched],
            "counts": shares.count(codes, places[-1]).tolist(),
            "limits": [[size, limit] for size, limit in found.items()],
        }
        return Profile(monitor="drift", rows=len(frame), state=state)

    def judge(self, profile: Profile, window: Window) -> Verdict:
        import numpy as np

        watched = [cells.from_plain(c) for c in profile.state["columns"]]
        if profile.rows < self.min_rows or not watched:
            return _unknown(f"the reference has {profile.rows} rows, fewer than min_rows {self.min_rows}")
        tally = _Tally(watched)
        for frame in _batches(window.path):
            tally.add(frame)
        if tally.rows < self.min_rows:
            return _unknown(f"the window has {tally.rows} rows, fewer than min_rows {self.min_rows}")
        limit = shares.limit_for(tally.rows, [tuple(pair) for pair in profile.state["limits"]])
        found = _changes(tally, np.asarray(profile.state["counts"]))
        loud = sorted((c for c in found if c.score > limit and c.size >= self.min_change), key=lambda c: -c.score)
        absent = [f"{w.name}: not in the window, so not judged" for w in watched if w.name not in tally.seen]
        if not found:
            return _unknown(*absent)
        return Verdict(
            monitor="drift",
            state="alarm" if loud else "healthy",
            scores={c.column: round(c.score, 3) for c in found},
            limits={c.column: round(limit, 3) for c in found},
            reasons=(*(c.words(limit) for c in loud[:REASONS]), *_more(len(loud) - REASONS), *absent),
        )


class _Tally:
    """Counts of a window, batch by batch; `seen` are the columns it has, `fresh` values that are no known level."""

    def __init__(self, watched: list[cells.Watched]) -> None:
        import numpy as np

        self.watched, self.places, self.rows = watched, shares.starts(watched), 0
        self.counts = np.zeros(self.places[-1], np.int64)
        self.seen: set[str] = set()
        self.fresh: dict[str, list[str]] = {}

    def add(self, frame: pl.DataFrame) -> None:
        here = {s.name: s for s in cells.derived(frame)}
        self.rows += len(frame)
        for column, start in zip(self.watched, self.places, strict=False):
            if column.name not in here:
                continue
            series = here[column.name]
            self.seen.add(column.name)
            self.counts[start : start + column.cells] += shares.count(column.code(series), column.cells)
            if isinstance(column, cells.Category) and not self.fresh.get(column.name):
                self.fresh[column.name] = column.fresh(series)


@dataclass(frozen=True)
class _Change:
    """The largest change of a share of one column."""

    column: str
    event: str
    score: float
    before: float
    now: float

    @property
    def size(self) -> float:
        return abs(self.now - self.before)

    def words(self, limit: float) -> str:
        went = "rose" if self.now > self.before else "fell"
        sure = f"{self.score:.1f} standard errors, limit {limit:.1f}"
        return (
            f"{self.column}: share of {self.event} {went} from {_percent(self.before)} to {_percent(self.now)} ({sure})"
        )


def _changes(tally: _Tally, reference: Any) -> list[_Change]:
    import numpy as np

    found = []
    every = shares.scores(tally.watched, tally.counts, reference)
    for column, start, one in zip(tally.watched, tally.places, every, strict=False):
        if column.name not in tally.seen:
            continue
        top = int(np.abs(one).argmax())
        now, before = (
            _share(column, counts[start : start + column.cells], top) for counts in (tally.counts, reference)
        )
        event = column.event(top, tally.fresh.get(column.name, ()))
        found.append(_Change(column.name, event, float(abs(one[top])), before, now))
    return found


def _share(column: cells.Watched, counts: Any, index: int) -> float:
    hits, of = column.shares(counts)
    return float(hits[index] / max(of[index], 1))


def _sample(reference: Table, columns: tuple[str, ...]) -> pl.DataFrame:
    """The watched columns of the reference; of a very long one, rows at even distances."""
    import polars as pl

    frame = reference if isinstance(reference, pl.LazyFrame) else pl.DataFrame(reference).lazy()
    known = frame.collect_schema().names()
    missing = [c for c in columns if c not in known]
    if missing:
        raise DataError(f"the reference has no column {', '.join(map(repr, missing))}")
    frame = frame.select(*columns, *(c for c in ("prediction", "probability") if c in known and c not in columns))
    rows = frame.select(pl.len()).collect(engine="streaming").item()
    return frame.gather_every(max(1, -(-rows // REFERENCE_ROWS))).collect(engine="streaming")


def _batches(path: Path) -> Iterator[pl.DataFrame]:
    import polars as pl

    frame = pl.scan_parquet(path)
    rows = frame.select(pl.len()).collect().item()
    for start in range(0, rows, BATCH):
        yield frame.slice(start, BATCH).collect()


def _unknown(*reasons: str) -> Verdict:
    return Verdict(monitor="drift", state="unknown", reasons=reasons)


def _more(count: int) -> tuple[str, ...]:
    return (f"and {count} more column{'s' * (count != 1)}",) if count > 0 else ()


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
