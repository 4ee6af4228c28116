"""What a monitor promises."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_core.contracts import Profile, Verdict, Window, plain, restore
from mlops_core.testing.promises import check_options, inside, nothing_written, promise
from mlops_core.testing.samples import INPUTS, is_json, make_frame

if TYPE_CHECKING:
    import polars as pl

STATES = ("healthy", "alarm", "unknown")
COLUMNS = tuple(c.name for c in INPUTS)


def check_monitor(monitor: Any, folder: Path, *, alarms: bool = True) -> None:
    """Checks the monitor `monitor`, with `folder` (tmp_path) to work in.

    `alarms`: whether it must alarm when every feature and every prediction has changed.
    """
    check_options(monitor)
    with inside(folder / "elsewhere") as here, nothing_written(here, doing="a monitor"):
        profile = _check_profile(monitor)
        quiet = _judge(monitor, profile, _answered(1000, seed=2), folder / "same.parquet")
        promise(quiet.state != "alarm", f"a window of the reference's own kind must not alarm: {quiet.reasons}")
        loud = _judge(monitor, profile, _changed(1000), folder / "changed.parquet")
        promise(
            loud.state == "alarm" or not alarms,
            f"a window in which every column changed must alarm; the verdict is {loud.state!r}: {loud.reasons}",
        )
        few = _judge(monitor, profile, _changed(3), folder / "few.parquet")
        promise(
            few.state == "unknown",
            f"a window of 3 rows tells nothing; the verdict must be 'unknown', not {few.state!r}",
        )
        promise(few.reasons, "an unknown verdict must give its reason")


def _check_profile(monitor: Any) -> Profile:
    frame = _answered(2000, seed=1)
    profile = monitor.profile(frame.lazy(), COLUMNS)
    promise(isinstance(profile, Profile), f"profile() must return a Profile, not {type(profile).__name__}")
    promise(profile.monitor, "a profile must name its monitor")
    promise(
        profile.rows == len(frame), f"a profile must count the rows of its reference: {profile.rows}, not {len(frame)}"
    )
    promise(is_json(plain(profile.state)), "the state of a profile must be plain data that JSON gives back as it was")
    again = monitor.profile(frame.to_arrow(), COLUMNS)
    promise(plain(again) == plain(profile), "profile() must give the same for a LazyFrame and for an Arrow table")
    return restore(Profile, json.loads(json.dumps(plain(profile))))


def _judge(monitor: Any, profile: Profile, frame: pl.DataFrame, path: Path) -> Verdict:
    frame.write_parquet(path)
    before, untouched = path.read_bytes(), copy.deepcopy(plain(profile))
    window = Window(endpoint="kit", version=1, start="2026-01-01", end="2026-01-02", rows=len(frame), path=path)
    verdict: Verdict = monitor.judge(profile, window)
    promise(isinstance(verdict, Verdict), f"judge() must return a Verdict, not {type(verdict).__name__}")
    promise(verdict.state in STATES, f"the state of a verdict is one of {', '.join(STATES)}, not {verdict.state!r}")
    promise(
        verdict.monitor == profile.monitor,
        f"a verdict must name its monitor {profile.monitor!r}, not {verdict.monitor!r}",
    )
    promise(verdict.state != "alarm" or verdict.reasons, "an alarm must give its reasons in words")
    for name, value in [*verdict.scores.items(), *verdict.limits.items()]:
        number = isinstance(value, int | float) and math.isfinite(value)
        promise(number, f"scores and limits are finite numbers; {name!r} is {value!r}")
    promise(is_json(plain(verdict)), "a verdict must be plain data that JSON gives back as it was")
    promise(path.read_bytes() == before, "judge() must not change the window's file")
    promise(plain(profile) == untouched, "judge() must not change the profile")
    promise(monitor.judge(profile, window) == verdict, "judge() must give the same verdict for the same window")
    return verdict


def _answered(rows: int, seed: int) -> pl.DataFrame:
    """Features with the answers of a model, as a reference or a window has them."""
    import polars as pl

    rng = np.random.default_rng(100 + seed)
    shares = rng.beta(2, 2, rows)
    answers = {"prediction": np.where(shares > 0.5, "yes", "no"), "probability": np.stack([1 - shares, shares], 1)}
    return make_frame("binary", rows, seed).drop("target").with_columns(**{k: pl.Series(v) for k, v in answers.items()})


def _changed(rows: int) -> pl.DataFrame:
    import polars as pl

    shares = np.random.default_rng(0).beta(8, 2, rows)
    return _answered(rows, seed=3).with_columns(
        pl.col("size") * 3 + 2,
        pl.col("count") + 3,
        colour=pl.lit("violet"),
        sold=pl.lit(True),
        prediction=pl.lit("yes"),
        probability=pl.Series(np.stack([1 - shares, shares], 1)),
    )
