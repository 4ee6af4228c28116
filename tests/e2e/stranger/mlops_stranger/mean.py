"""Monitor `mean`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt

from mlops_core.contracts import Profile, Table, Verdict, Window

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Mean:
    """Alarms when the mean of a number moves further than chance explains.

    limit: how many standard errors a mean may move
    min_rows: windows of fewer rows are not judged
    """

    limit: Annotated[float, Gt(0)] = 6.0
    min_rows: Annotated[int, Ge(2)] = 30

    def profile(self, reference: Table, columns: tuple[str, ...]) -> Profile:
        import polars as pl

        frame = reference.collect() if isinstance(reference, pl.LazyFrame) else pl.DataFrame(reference)
        numbers = [c for c in columns if frame.schema[c].is_numeric()]
        return Profile(monitor="mean", rows=len(frame), state={c: _facts(frame[c]) for c in numbers})

    def judge(self, profile: Profile, window: Window) -> Verdict:
        import polars as pl

        frame = pl.read_parquet(window.path, columns=list(profile.state))
        if len(frame) < self.min_rows:
            return Verdict(monitor="mean", state="unknown", reasons=(f"the window has only {len(frame)} rows",))
        scores = {}
        for name, (mean, deviation, rows) in profile.state.items():
            now, _, here = _facts(frame[name])
            scores[name] = abs(now - mean) / (max(deviation, 1e-12) * (1 / max(rows, 1) + 1 / max(here, 1)) ** 0.5)
        moved = [n for n, s in scores.items() if s > self.limit]
        return Verdict(
            monitor="mean",
            state="alarm" if moved else "healthy",
            scores=scores,
            limits=dict.fromkeys(scores, self.limit),
            reasons=tuple(f"{n}: the mean moved by {scores[n]:.1f} standard errors" for n in moved),
        )


def _facts(series: pl.Series) -> list[float]:
    import polars as pl

    values = series.cast(pl.Float64).drop_nulls().drop_nans()
    return [float(values.mean() or 0.0), float(values.std() or 0.0), len(values)]  # type: ignore[arg-type]
