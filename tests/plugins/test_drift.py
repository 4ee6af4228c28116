"""Monitor drift: alarms at the declared rate without drift, and finds each kind of drift, in words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mlops_drift.columns import Category, Number, derived
from mlops_drift.drift import Drift
from mlops_drift.shares import change, limits

from mlops_core.contracts import Choice, Column, Profile, Signature, Verdict, Window, plain, restore
from mlops_core.errors import DataError
from mlops_core.logged import Kept, typed
from mlops_core.plugins import Plugins, check_options

FEATURES = ("income", "age", "rate", "steps", "job", "home", "rare", "active")


def world(rng: Any, rows: int, **changed: Any) -> pl.DataFrame:
    """A table without drift; `changed` replaces columns."""
    columns = {
        "income": rng.lognormal(7, 0.6, rows),
        "age": rng.normal(40, 12, rows).round(),
        "rate": rng.normal(0, 1, rows),
        "steps": rng.integers(0, 5, rows),
        "job": rng.choice(["clerk", "cook", "pilot"], rows, p=[0.6, 0.3, 0.1]),
        "home": rng.choice(["own", "rent"], rows),
        "rare": np.where(rng.random(rows) < 0.003, "seldom", "common"),
        "active": rng.random(rows) < 0.7,
        "prediction": rng.choice(["bad", "good"], rows),
        "probability": np.stack([1 - (p := rng.beta(2, 5, rows)), p], 1),
    } | changed
    frame = pl.DataFrame(columns, strict=False)
    missing = pl.Series(rng.random(rows) < 0.05)
    return frame.with_columns(pl.when(missing).then(None).otherwise(pl.col("age")).alias("age"))


def judge(monitor: Drift, profile: Profile, frame: pl.DataFrame, folder: Path) -> Verdict:
    path = folder / "window.parquet"
    frame.write_parquet(path)
    return monitor.judge(profile, Window(endpoint="e", version=1, start="a", end="b", rows=len(frame), path=path))


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Drift().profile(world(np.random.default_rng(0), 3000).lazy(), FEATURES)


def test_truths_that_are_treated_as_numbers_do_not_drift_by_being_logged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reference = pl.DataFrame({"active": rng.random(3000) < 0.7, "prediction": rng.normal(size=3000)})
    column = Column(name="active", kind="number", dtype="boolean")
    kept = Kept(signature=Signature(inputs=(column,), task="regression", target="y"), target_dtype="float64")
    sent = [*map(float, reference["active"].head(500)), None]
    answer = {"prediction": reference["prediction"].head(501).to_list()}
    line = {"id": "a", "time": 0.0, "version": 1, "rows": 501, "features": {"active": sent}, "answer": answer}
    logged = typed([line], kept).select(reference.columns)
    assert logged.schema == reference.schema and logged["active"][-1] is None
    monitor = Drift()
    found = judge(monitor, monitor.profile(reference.lazy(), ["active"]), logged.head(500), tmp_path)
    assert found.state == "healthy", found


@pytest.mark.timeout(300)
def test_without_drift_it_alarms_at_the_declared_rate(tmp_path: Path) -> None:
    """Each window has a reference of its own: windows judged by one reference share its luck."""
    rates, runs = (0.1, 0.01), 150
    alarms = dict.fromkeys(rates, 0)
    for i in range(runs):
        rng = np.random.default_rng(i)
        reference, window = world(rng, (500, 1000, 2000)[i % 3]), world(rng, (200, 500, 2000, 1000)[i % 4])
        for rate in rates:
            monitor = Drift(false_alarm_rate=rate, min_change=0, draws=100, bins=32)
            alarms[rate] += judge(monitor, monitor.profile(reference, FEATURES[1:7]), window, tmp_path).state == "alarm"
    assert abs(alarms[0.1] / runs - 0.1) < 3.3 * math.sqrt(0.1 * 0.9 / runs), alarms  # two-sided, 1 in 1,000
    assert alarms[0.01] <= 7, alarms  # P(binomial(150, 0.01) > 7) < 1 in 1,000


def test_a_shift_of_half_a_deviation_is_found(profile: Profile, tmp_path: Path) -> None:
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        verdict = judge(Drift(), profile, world(rng, 500, rate=rng.normal(0.5, 1, 500)), tmp_path)
        assert verdict.state == "alarm"
        assert max(verdict.scores, key=lambda c: verdict.scores[c]) == "rate"
        assert verdict.reasons[0].startswith("rate: share of values above ")


@pytest.mark.parametrize("outlier", [1e12, -1e12, float("inf")])
def test_one_outlier_neither_hides_a_shift_nor_makes_one(profile: Profile, outlier: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    shifted, still = rng.normal(0.5, 1, 500), rng.normal(0, 1, 500)
    shifted[0] = still[0] = outlier
    assert judge(Drift(), profile, world(rng, 500, rate=shifted), tmp_path).state == "alarm"
    assert judge(Drift(), profile, world(rng, 500, rate=still), tmp_path).state == "healthy"


def test_an_outlier_in_the_reference_hides_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    reference = rng.normal(0, 1, 2000)
    reference[:2] = 1e300, float("inf")
    learned = Drift().profile(world(rng, 2000, rate=reference), FEATURES)
    verdict = judge(Drift(), learned, world(rng, 500, rate=rng.normal(0.5, 1, 500)), tmp_path)
    assert verdict.state == "alarm"
    assert max(verdict.scores, key=lambda c: verdict.scores[c]) == "rate"


def some(rng: Any, rows: int, share: float, value: Any, other: Any) -> Any:
    return np.where(rng.random(rows) < share, value, other)


CHANGES: list[tuple[str, Any, str]] = [
    ("rate", lambda r, n: some(r, n, 0.1, np.nan, r.normal(size=n)), "rate: share of missing values rose from 0 %"),
    ("rate", lambda r, n: r.normal(0, 2, n), "rate: share of values "),
    ("steps", lambda r, n: some(r, n, 0.1, -1, r.integers(0, 5, n)), "steps: share of values below 0 rose from 0 %"),
    ("steps", lambda r, n: some(r, n, 0.1, 9, r.integers(0, 5, n)), "steps: share of values above 4 rose from 0 %"),
    ("home", lambda r, n: some(r, n, 0.1, "tent", r.choice(["own", "rent"], n)), "home: share of other values ('tent'"),
    ("home", lambda r, n: r.choice(["own", "rent"], n, p=[0.75, 0.25]), "home: share of 'own' rose from 5"),
    ("job", lambda r, n: some(r, n, 0.2, None, "cook").tolist(), "job: share of 'c"),
    ("active", lambda r, n: r.random(n) < 0.4, "active: share of 'true' fell from 6"),
    ("prediction", lambda r, n: r.choice(["bad", "good"], n, p=[0.3, 0.7]), "prediction: share of 'bad' fell from"),
    ("probability", lambda r, n: np.stack([1 - (p := r.beta(2, 3, n)), p], 1), "probability[1]: share of values above"),
    ("income", lambda r, n: r.lognormal(7.5, 0.6, n), "income: share of values above 1,"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "change", "reason"), CHANGES)
def test_each_kind_of_change_is_found_and_told(
    column: str, change: Any, reason: str, profile: Profile, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    verdict = judge(Drift(), profile, world(rng, 600, **{column: change(rng, 600)}), tmp_path)
    assert verdict.state == "alarm"
    assert verdict.reasons[0].startswith(reason)
    assert len(verdict.reasons) == 1, verdict.reasons
    name = reason.split(":")[0]
    assert verdict.scores[name] > verdict.limits[name]


def test_a_share_that_hardly_moves_never_alarms(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    learned = Drift().profile(world(rng, 20_000), FEATURES)
    window = world(rng, 100_000, rate=rng.normal(0.06, 1, 100_000))
    assert judge(Drift(min_change=0.05), learned, window, tmp_path).state == "healthy"
    assert judge(Drift(), learned, window, tmp_path).state == "alarm"


def test_the_profile_is_plain_json_and_judges_alike(profile: Profile, tmp_path: Path) -> None:
    again = restore(Profile, json.loads(json.dumps(plain(profile), allow_nan=False)))
    window = world(np.random.default_rng(1), 400, rate=np.random.default_rng(2).normal(0.4, 1, 400))
    assert judge(Drift(), again, window, tmp_path) == judge(Drift(), profile, window, tmp_path)
    assert Drift().profile(world(np.random.default_rng(0), 3000), FEATURES) == profile  # same data, same profile


def test_too_few_rows_are_unknown(profile: Profile, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    verdict = judge(Drift(), profile, world(rng, 199), tmp_path)
    assert (verdict.state, verdict.reasons) == ("unknown", ("the window has 199 rows, fewer than min_rows 200",))
    small = Drift().profile(world(rng, 150), FEATURES)
    verdict = judge(Drift(), small, world(rng, 500), tmp_path)
    assert (verdict.state, verdict.reasons) == ("unknown", ("the reference has 150 rows, fewer than min_rows 200",))
    empty = Drift().profile(world(rng, 0), FEATURES)
    assert judge(Drift(), empty, world(rng, 500), tmp_path).state == "unknown"


def test_columns_that_the_window_lacks_are_told_and_not_judged(profile: Profile, tmp_path: Path) -> None:
    frame = world(np.random.default_rng(11), 400)
    verdict = judge(Drift(), profile, frame.drop("home"), tmp_path)
    assert verdict.state == "healthy"
    assert verdict.reasons == ("home: not in the window, so not judged",)
    assert "home" not in verdict.scores
    assert judge(Drift(), profile, frame.select(other="rate"), tmp_path).state == "unknown"


def test_a_reference_without_the_columns_is_refused() -> None:
    with pytest.raises(DataError, match="the reference has no column 'nothing'"):
        Drift().profile(pl.DataFrame({"a": [1]}), ("nothing",))


def test_constant_empty_and_array_columns_are_watched(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)

    def frame(rows: int, light: float) -> pl.DataFrame:
        images = rng.random((rows, 4, 4)) * light
        times = np.arange(rows).astype("datetime64[us]")
        nothing = pl.Series([None] * rows, dtype=pl.Float64)
        return pl.DataFrame({"image": images, "one": np.ones(rows), "none": nothing, "when": times})

    learned = Drift().profile(frame(600, 1), ("image", "one", "none", "when"))
    assert [c["name"] for c in learned.state["columns"]] == ["image (mean)", "image (spread)", "one", "none"]
    assert judge(Drift(), learned, frame(300, 1), tmp_path).state == "healthy"
    verdict = judge(Drift(), learned, frame(300, 1.3), tmp_path)
    assert verdict.state == "alarm"
    assert verdict.reasons[0].startswith("image (")


def test_counts_of_batches_add_up(monkeypatch: pytest.MonkeyPatch, profile: Profile, tmp_path: Path) -> None:
    frame = world(np.random.default_rng(6), 1001)
    whole = judge(Drift(), profile, frame, tmp_path)
    monkeypatch.setattr("mlops_drift.drift.BATCH", 100)
    assert judge(Drift(), profile, frame, tmp_path) == whole


def test_a_long_reference_is_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_drift.drift.REFERENCE_ROWS", 1000)
    learned = Drift().profile(pl.DataFrame({"a": np.arange(2500.0)}).lazy(), ("a",))
    assert learned.rows == 834
    assert sum(learned.state["counts"]) == 834


def test_cells_of_numbers_and_categories() -> None:
    number = Number.learn(pl.Series("a", [1.0, 2.0, 3.0, 4.0, None]), 4)
    assert number.edges[1:] == (1.0, 2.0, 3.0, 4.0)
    assert number.code(pl.Series([0.5, 1, 1.5, 4, 5, None, float("nan")])).tolist() == [0, 1, 2, 4, 5, 6, 6]
    category = Category.learn(pl.Series("c", ["x", "y", "y", "z", None]), 2)
    assert category.levels == ("y", "x")
    assert category.code(pl.Series(["y", "x", "z", None])).tolist() == [0, 1, 2, 3]
    hits, of = number.shares(np.array([1, 2, 0, 3, 4, 5, 6]))
    assert hits.tolist() == [1, 12, 12, 9, 5, 6]
    assert of.tolist() == [15, 15, 15, 15, 15, 21]


def test_the_statistic_is_the_root_of_scipys_likelihood_ratio() -> None:
    from scipy.stats import chi2_contingency

    for hits, of, ref_hits, ref_of in ((3, 20, 100, 400), (0, 50, 3, 900), (20, 20, 5, 30), (7, 70, 10, 100)):
        table = [[hits, of - hits], [ref_hits, ref_of - ref_hits]]
        expected = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
        found = change(*(np.array([v]) for v in (hits, of, ref_hits, ref_of)))[0]
        assert found**2 == pytest.approx(expected, abs=1e-9)
        assert (found > 0) == (hits / of > ref_hits / ref_of) or expected == pytest.approx(0, abs=1e-9)


def test_limits_grow_with_the_number_of_columns_and_with_strictness() -> None:
    rng = np.random.default_rng(0)
    found = {}
    for count in (1, 20):
        series = [pl.Series(f"x{i}", rng.normal(size=1000)) for i in range(count)]
        columns = [Number.learn(s, 16) for s in series]
        codes = np.stack([c.code(s) + 18 * i for i, (c, s) in enumerate(zip(columns, series, strict=True))], 1)
        for rate in (0.1, 0.01):
            found[count, rate] = max(limits(columns, codes, rate=rate, draws=300, smallest=200, seed=0).values())
    assert found[1, 0.1] < found[20, 0.1] < found[20, 0.01]
    assert found[1, 0.1] < found[1, 0.01]


def test_options_are_checked() -> None:
    assert [p.message for p in check_options(Drift, {"false_alarm_rate": 0.0001})] == [
        "a false_alarm_rate of 0.0001 needs draws of at least 10000"
    ]
    assert [p.message for p in check_options(Drift, {"false_alarm_rate": 2})] == [
        "expected number, more than 0, less than 1, got 2"
    ]
    assert Plugins().build("monitor", Choice(plugin="drift")) == Drift()
    assert list(derived(pl.DataFrame({"t": [None]}, schema={"t": pl.Date}))) == []


def test_a_reference_too_small_to_split_is_no_error(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1.0], "prediction": ["x"]})
    profile = Drift().profile(frame, ("a",))
    assert judge(Drift(), profile, frame, tmp_path).state == "unknown"


def test_a_category_may_be_named_count() -> None:
    found = Category.learn(pl.Series("count", ["a", "b", "b"]), 5)
    assert found.levels == ("b", "a")


def test_values_below_all_that_were_seen_are_told_with_the_smallest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    profile = Drift().profile(pl.DataFrame({"a": np.r_[0.0, rng.uniform(0, 1, 4999)]}), ("a",))
    found = judge(Drift(), profile, pl.DataFrame({"a": rng.uniform(-1, 1, 2000)}), tmp_path)
    assert found.reasons[0].startswith("a: share of values below 0 rose from 0 % to")
