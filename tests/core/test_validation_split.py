"""Rows are divided by their keys: exact, the same each time, and never larger in memory than the work at hand."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from mlops_core.contracts import SPLITS, Choice, Declaration, Split
from mlops_core.validation import freeze
from mlops_core.validation.keys import mixed
from mlops_core.validation.split import cut, sizes


def divided(tmp_path: Path, table: Any, **split: Any) -> dict[str, pl.DataFrame]:
    declaration = Declaration(
        name="t", seed=0, data=Choice(plugin="csv"), target="y", task="auto", contract={},
        split=Split(**split), trainer=Choice(plugin="x"), metric="auroc",
    )  # fmt: skip
    freeze(table, declaration, tmp_path, tmp_path / "quarantine.parquet")
    return {name: pl.read_parquet(tmp_path / f"{name}.parquet") for name in SPLITS}


def table(rows: int, y: Iterable[Any]) -> pl.DataFrame:
    return pl.DataFrame({"n": range(rows), "y": list(y)})


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 2**64 - 2)), min_size=1, max_size=200),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
)
def test_each_stratum_is_cut_at_its_exact_shares(rows: list[tuple[str, int]], validation: float, test: float) -> None:
    """Radix selection against plain sorting. Keys differ, as those of rows do."""
    rows = list({key: (name, key) for name, key in rows}.values())
    frame = pl.DataFrame(rows, schema={"s": pl.String, "key": pl.UInt64}, orient="row")
    part = frame.with_columns(part=cut(frame.lazy(), "key", "s", validation, test).part("key"))
    for name in frame["s"].unique():
        mine = part.filter(pl.col("s") == name).sort("key")["part"].to_list()
        held, kept = sizes(len(mine), validation, test)
        if len(mine) > held + kept:
            assert mine == [0] * (len(mine) - held - kept) + [1] * held + [2] * kept


def test_mixed_numbers_are_spread_and_never_collide() -> None:
    keys = mixed(np.arange(200_000, dtype=np.uint64), 7)
    assert len(np.unique(keys)) == 200_000
    shares = np.histogram(keys.astype(np.float64) / 2**64, bins=20, range=(0, 1))[0] / 200_000
    assert np.all(np.abs(shares - 0.05) < 0.003)
    assert int(mixed(np.array([0], np.uint64), 0)[0]) == 0xE220A8397B1DCDAF  # the published first number of seed 0


def test_stratified_keeps_the_share_of_every_class(tmp_path: Path) -> None:
    parts = divided(tmp_path, table(1030, ["a"] * 700 + ["b"] * 300 + ["c"] * 30), validation=0.1, test=0.2)
    counts = {name: dict(sorted(frame["y"].value_counts().rows())) for name, frame in parts.items()}
    assert counts == {
        "train": {"a": 490, "b": 210, "c": 21},
        "validation": {"a": 70, "b": 30, "c": 3},
        "test": {"a": 140, "b": 60, "c": 6},
    }
    assert sorted(n for f in parts.values() for n in f["n"]) == list(range(1030))


def test_random_is_of_another_kind_for_each_seed_and_the_same_for_one(tmp_path: Path) -> None:
    frame = table(1000, [i % 2 for i in range(1000)])
    tests = [
        divided(tmp_path / str(i), frame, strategy="random", seed=s)["test"]["n"].to_list()
        for i, s in enumerate((1, 1, 2))
    ]
    assert len(tests[0]) == 150 and tests[0] == tests[1] != tests[2]
    assert abs(np.mean(tests[0]) - 500) < 60


def test_rows_mostly_stay_where_they_were_when_rows_are_added(tmp_path: Path) -> None:
    before = divided(tmp_path / "a", table(1000, [i % 2 for i in range(1000)]))["test"]["n"]
    after = divided(tmp_path / "b", table(1100, [i % 2 for i in range(1100)]))["test"]["n"]
    assert len(set(before) - set(after)) <= 20


def test_time_trains_on_the_oldest_and_tests_on_the_newest_ties_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days = [dt.date(1960, 1, 1) + dt.timedelta(days=int(d)) for d in rng.permutation(np.arange(1000) // 7)]
    frame = table(1000, [i % 2 for i in range(1000)]).with_columns(day=pl.Series(days))
    parts = divided(tmp_path, frame, strategy="time", column="day")
    newest = {name: (f["day"].min(), f["day"].max()) for name, f in parts.items()}
    assert newest["train"][1] < newest["validation"][0] and newest["validation"][1] < newest["test"][0]
    assert abs(len(parts["test"]) - 150) < 7 and abs(len(parts["train"]) - 700) < 7


@pytest.mark.parametrize("groups", [3, 40])
def test_a_group_never_crosses(tmp_path: Path, groups: int) -> None:
    rng = np.random.default_rng(0)
    frame = table(2000, rng.integers(0, 2, 2000)).with_columns(
        who=pl.Series(rng.integers(0, groups, 2000)).cast(pl.String)
    )
    parts = divided(tmp_path, frame, strategy="group", column="who")
    found = [set(f["who"]) for f in parts.values()]
    assert all(found) and sum(map(len, found)) == groups == len(set.union(*found))


def test_a_row_without_its_group_goes_to_quarantine(tmp_path: Path) -> None:
    frame = table(500, [i % 2 for i in range(500)]).with_columns(who=pl.when(pl.col("n") > 4).then(pl.col("n") % 50))
    divided(tmp_path, frame, strategy="group", column="who")
    reasons = pl.read_parquet(tmp_path / "quarantine.parquet")["reasons"].to_list()
    assert reasons == [["who: missing, and the split needs it"]] * 5


def test_a_regression_is_divided_at_random(tmp_path: Path) -> None:
    parts = divided(tmp_path, table(1000, np.linspace(0, 1, 1000)))
    assert [len(f) for f in parts.values()] == [700, 150, 150]


def test_row_groups_are_small_enough_to_stream(tmp_path: Path) -> None:
    divided(tmp_path, table(200_000, [i % 2 for i in range(200_000)]))
    found = pq.ParquetFile(tmp_path / "train.parquet").metadata
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [65_536, 65_536, 8_928]


PEAK = """
import resource, sys
from pathlib import Path
import polars as pl
from mlops_core.contracts import Choice, Declaration, Split
from mlops_core.validation import freeze
columns = {"f0": {"range": [-5, None]}, "f1": {"outliers": {"action": "reject"}}, "id": {"unique": True}}
declaration = Declaration(
    name="t", seed=0, data=Choice(plugin="parquet"), target="y", task="auto", contract={"columns": columns},
    split=Split(), trainer=Choice(plugin="x"), metric="auroc",
)
freeze(pl.scan_parquet(sys.argv[1]), declaration, Path(sys.argv[2]), Path(sys.argv[2]) / "q.parquet")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    """640 MB of numbers cost little more than a tenth of them: what stays is the libraries and a few batches."""
    peaks = {}
    for rows in (200_000, 2_000_000):
        large_file(tmp_path / "t.parquet", rows)
        out = tmp_path / str(rows)
        command = [sys.executable, "-c", PEAK, tmp_path / "t.parquet", out]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert not done.returncode, done.stderr
        peaks[rows] = int(done.stdout)
        assert sum(pq.read_metadata(out / f"{s}.parquet").num_rows for s in SPLITS) > rows * 0.99
    assert peaks[2_000_000] - peaks[200_000] < 200, peaks


def large_file(path: Path, rows: int) -> None:
    """38 columns of few different values, so that writing is quick; ids out of order in all but the first part."""
    rng = np.random.default_rng(0)
    tenths = [rng.integers(0, 1000, 200_000) / 10 for _ in range(38)]
    writer = None
    for start in range(0, rows, 200_000):
        ids = start + rng.permutation(200_000) if start else np.arange(200_000)[::-1]
        batch = pa.table({"id": ids, "y": rng.integers(0, 2, 200_000)} | {f"f{i}": t for i, t in enumerate(tenths)})
        writer = writer or pq.ParquetWriter(path, batch.schema, compression="lz4")
        writer.write_table(batch, row_group_size=50_000)
    assert writer is not None
    writer.close()
