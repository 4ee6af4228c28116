"""A table becomes a data set: what is clean is frozen, what is not is told and kept."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pandera.polars as pa
import polars as pl
import pyarrow
import pytest
from hypothesis import given, settings
from pandera.config import ValidationDepth, config_context
from pandera.constants import CHECK_OUTPUT_KEY
from pandera.errors import SchemaErrors
from polars.testing import assert_frame_equal

from mlops_core.contracts import SPLITS, Choice, Declaration, Split
from mlops_core.errors import DataError
from mlops_core.validation import contract_problems, freeze, infer_contract, validate
from mlops_core.validation.checks import to_pandera
from mlops_core.validation.reading import read_contract

ANY_SHARE = {"max_rejected": 1.0}


def declared(contract: Mapping[str, Any] = {}, target: str = "y", task: str = "auto", **split: Any) -> Declaration:
    return Declaration(
        name="t", seed=0, data=Choice(plugin="csv"), target=target, task=task, contract=contract,  # type: ignore[arg-type]
        split=Split(**split), trainer=Choice(plugin="x"), metric="auroc",
    )  # fmt: skip


def people(rows: int = 400, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "age": rng.integers(18, 90, rows),
            "income": rng.normal(3000, 500, rows),
            "town": rng.choice(["ulm", "bonn", "kiel"], rows),
            "y": rng.choice(["good", "bad"], rows, p=[0.7, 0.3]),
        }
    )


def frozen(tmp_path: Path, table: Any, contract: Mapping[str, Any] = {}, **options: Any) -> tuple[Any, pl.DataFrame]:
    """The Frozen record and the quarantine (empty where nothing was rejected)."""
    names = {k: options.pop(k) for k in ("previous", "now") if k in options}
    found = freeze(table, declared(contract, **options), tmp_path / "out", tmp_path / "quarantine.parquet", **names)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{s}.parquet" for s in sorted(SPLITS)]
    path = tmp_path / "quarantine.parquet"
    assert path.exists() == bool(found.rejected)
    return found, pl.read_parquet(path) if found.rejected else pl.DataFrame()


def kept(tmp_path: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(tmp_path / "out" / f"{s}.parquet") for s in SPLITS])


def refused(tmp_path: Path, table: Any, contract: Mapping[str, Any] = {}, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        frozen(tmp_path, table, contract, **options)
    assert not (tmp_path / "out" / ".staging").exists()
    return str(error.value)


def test_a_table_without_a_contract_is_divided_and_described(tmp_path: Path) -> None:
    found, _ = frozen(tmp_path, people())
    assert found.rows == {"train": 280, "validation": 60, "test": 60} and found.task == "binary"
    assert found.classes == ("bad", "good") and found.rejected == 0
    assert [(c.name, c.kind, c.dtype, c.roles) for c in found.columns] == [
        ("id", "number", "int64", ("feature",)),
        ("age", "number", "int64", ("feature",)),
        ("income", "number", "float64", ("feature",)),
        ("town", "category", "string", ("feature",)),
        ("y", "category", "string", ("target",)),
    ]
    assert sorted(found.columns[3].categories) == ["bonn", "kiel", "ulm"]
    assert_frame_equal(kept(tmp_path).sort("id"), people(), check_row_order=True)


def test_each_kind_of_bad_row_goes_to_quarantine_with_its_reasons(tmp_path: Path) -> None:
    bad = {
        "age": [17, None, 40, 40, 40, 40, 40, 40],
        "income": [1.0, 1.0, float("inf"), 1.0, 1.0, 1.0, 1e9, float("nan")],
        "town": ["ulm", "ulm", "ulm", "paris", "X", "bonn", "bonn", "bonn"],
        "y": ["good", "good", "good", "good", "bad", None, "good", "bad"],
    }
    table = pl.concat([people().drop("id"), pl.DataFrame(bad)], how="vertical_relaxed")
    contract = {
        "columns": {
            "age": {"range": [18, None], "nullable": False},
            "income": {"nullable": False, "outliers": {"action": "reject", "limit": 20}},
            "town": {"in": ["ulm", "bonn", "kiel", "X"], "regex": "[a-z]+", "length": [2, 4]},
        },
        "rules": [{"name": "cheap", "sql": "town <> 'paris' or income > 5000"}],
        "max_rejected": 0.1,
    }
    found, quarantine = frozen(tmp_path, table, contract)
    reasons = {row - 400: why for row, why in quarantine.select("row", "reasons").rows()}
    outlier = next(why[0] for why in reasons.values() if why[0].startswith("income: outlier"))
    assert reasons == {
        0: ["age: below 18"],
        1: ["age: missing"],
        2: ["income: infinite", outlier],
        3: [
            "town: not one of ulm, bonn, kiel, X",
            "town: length outside 2 to 4",
            "cheap: not town <> 'paris' or income > 5000",
        ],
        4: ["town: does not match [a-z]+", "town: length outside 2 to 4"],
        5: ["y: target missing"],
        6: [outlier],
        7: ["income: missing"],
    }
    assert found.report["reasons"]["town: length outside 2 to 4"] == 2 and found.rejected == 8
    ran = {c["check"]: c for c in found.report["checks"]}
    assert ran["columns.age.range"]["failed"] == 1 and ran["columns.town.length"]["state"] == "ran"


def test_clean_and_rejected_rows_are_the_input_exactly_even_where_columns_are_converted(tmp_path: Path) -> None:
    texts = [" 1 ", "2.50", "many", None, "1e3", "nan"] * 60
    table = pl.DataFrame(
        {
            "n": range(360),
            "price": texts,
            "day": ["2020-01-02", "2020-02-30", None] * 120,
            "at": ["2020-01-02T03:04:05Z", "2020-01-02 03:04", "2020-01-02T03:04:05+02:00", "soon"] * 90,
            "yes": ["Yes", "no", "TRUE", "0", "maybe", None] * 60,
            "whole": [1.0, 2.5] * 180,
            "y": [i // 60 % 2 for i in range(360)],
        }
    )
    columns = {"price": "float64", "day": "date", "at": "datetime", "yes": "boolean", "whole": "int64"}
    contract = {"columns": {c: {"dtype": d, "coerce": True} for c, d in columns.items()}} | ANY_SHARE
    found, quarantine = frozen(tmp_path, table, contract)
    clean = kept(tmp_path).sort("n")
    assert clean.schema["price"] == pl.Float64 and clean.schema["at"] == pl.Datetime("us")
    assert {c.name: c.dtype for c in found.columns if c.name in columns} == columns
    original = table.filter(pl.col("n").is_in(clean["n"].implode()))
    assert_frame_equal(pl.concat([original, quarantine.drop("row", "reasons")]).sort("n"), table)
    assert set(quarantine.explode("reasons")["reasons"]) == {
        "price: not float64", "day: not date", "at: not datetime", "yes: not boolean", "whole: not int64",
    }  # fmt: skip
    first = clean.row(0, named=True)
    assert first["price"] == 1.0 and first["at"] == dt.datetime(2020, 1, 2, 3, 4, 5) and first["yes"] is True
    assert dt.datetime(2020, 1, 2, 1, 4, 5) in clean["at"].to_list()


ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-50, 150),
        st.none() | st.floats(allow_nan=True, allow_infinity=True, width=32),
        st.none() | st.sampled_from(["a", "b", "c", "", "äöü", "A1"]),
        st.none() | st.booleans(),
        st.none() | st.dates(dt.date(2000, 1, 1), dt.date(2030, 1, 1)),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=60,
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "i": st.sampled_from([{"range": [0, 100]}, {"range": [None, 10], "nullable": False}, {"in": [1, 2, 3]}]),
        "f": st.sampled_from([{"nullable": False}, {"range": [-1.5, None]}, {"finite": False}, {"dtype": "float64"}]),
        "s": st.sampled_from([{"in": ["a", "b"]}, {"regex": "[a-z]+"}, {"length": [1, 2]}, {"nullable": False}]),
        "b": st.sampled_from([{"in": [True]}, {"nullable": False}]),
        "d": st.sampled_from([{"range": ["2010-01-01", "2020-01-01"]}, {"nullable": False}]),
        "u": st.just({"unique": True}),
    },
)
SQL = st.sampled_from([[], [{"name": "r", "sql": "i > f"}], [{"name": "r", "sql": "s = 'a' or b"}]])


def rows_of(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    schema = {"i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean, "d": pl.Date, "u": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@settings(deadline=None, max_examples=60)
@given(ROWS, RULES, SQL)
def test_a_table_is_divided_into_clean_and_rejected_as_pandera_itself_would(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]], columns: dict[str, Any], rules: list[Any]
) -> None:
    """The same rows are refused as by one call of pandera on the whole table; nothing is lost, nothing appears."""
    tmp_path, table = tmp_path_factory.mktemp("t"), rows_of(rows)
    labelled = table.with_row_index("n").with_columns(y=pl.int_range(pl.len()) % 2)
    contract = {"columns": columns, "rules": rules, **ANY_SHARE}
    try:
        frozen(tmp_path, labelled.lazy(), contract)
        clean = kept(tmp_path)
    except DataError as error:  # nothing left to divide; the quarantine is there all the same
        assert any(w in str(error) for w in ("no row", "every row", "does not occur")), error
        clean = labelled.clear()
    path = tmp_path / "quarantine.parquet"
    quarantine = pl.read_parquet(path).drop("row", "reasons") if path.exists() else labelled.clear()
    without = labelled.with_columns(pl.col("f").fill_nan(None))
    if clean.height:
        assert_frame_equal(pl.concat([clean, quarantine]).sort("n"), without)
    assert set(quarantine["n"]) == directly(without, contract)


def directly(table: pl.DataFrame, contract: Mapping[str, Any]) -> set[int]:
    """The rows that pandera refuses when called once with everything."""
    schema = to_pandera(read_contract(contract)[0], table.schema)
    try:
        with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            schema.validate(table, lazy=True)
    except SchemaErrors as errors:
        outputs = [e.check_output[CHECK_OUTPUT_KEY] for e in errors.schema_errors if e.check != "field_uniqueness"]
        found = {int(n) for o in outputs for n in table["n"].filter(~o)}
        twice = any(e.check == "field_uniqueness" for e in errors.schema_errors)
        return found | ({int(n) for n in table["n"].filter(~table["u"].is_first_distinct())} if twice else set())
    return set()


def test_the_same_input_gives_the_same_bytes_however_it_comes(tmp_path: Path) -> None:
    def digests(name: str, table: Any) -> list[str]:
        freeze(
            table, declared({"columns": {"age": {"range": [20, None]}}} | ANY_SHARE), tmp_path / name, tmp_path / "q"
        )
        return [hashlib.sha256((tmp_path / name / f"{s}.parquet").read_bytes()).hexdigest() for s in SPLITS]

    frame = people(3000)
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=70)
    once = digests("a", frame)
    for name, table in {
        "again": frame,
        "lazy": frame.lazy(),
        "file": pl.scan_parquet(tmp_path / "t.parquet"),
        "arrow": frame.to_arrow(),
        "reader": frame.to_arrow().to_reader(max_chunksize=7),
        "pandas": pd.DataFrame(frame.to_dict(as_series=False), index=np.arange(3000) * 2),
    }.items():
        assert digests(name, table) == once, name


def test_columns_are_frozen_in_plain_dtypes(tmp_path: Path) -> None:
    rows = 60
    table = people(rows).with_columns(
        town=pl.col("town").cast(pl.Categorical),
        price=pl.lit("1.25").cast(pl.Decimal(10, 2)),
        at=pl.datetime(2020, 1, 1, time_zone="Europe/Berlin") + pl.duration(minutes=pl.int_range(rows)),
        pixels=pl.Series(np.zeros((rows, 4), np.float32).tolist(), dtype=pl.List(pl.Float32)),
        grid=pl.Series(np.zeros((rows, 2, 3), np.float32)),
        nothing=pl.lit(None),
        gap=pl.when(pl.int_range(rows) < 5).then(float("nan")).otherwise(1.0),
        y=pl.Series([0.0, 1.0] * 30),
    )
    found, _ = frozen(tmp_path, table)
    assert {c.name: (c.kind, c.dtype, c.shape) for c in found.columns} == {
        "id": ("number", "int64", ()),
        "age": ("number", "int64", ()),
        "income": ("number", "float64", ()),
        "town": ("category", "string", ()),
        "y": ("number", "int64", ()),
        "price": ("number", "float64", ()),
        "at": ("time", "datetime", ()),
        "pixels": ("array", "array", (4,)),
        "grid": ("array", "array", (2, 3)),
        "nothing": ("category", "string", ()),
        "gap": ("number", "float64", ()),
    }
    data = kept(tmp_path)
    assert data["gap"].null_count() == 5 and data["at"].min() == dt.datetime(2019, 12, 31, 23)
    assert found.classes == ("0", "1")


def test_what_cannot_be_frozen_is_told_all_at_once(tmp_path: Path) -> None:
    table = people().with_columns(
        s=pl.struct("age", "income"), deep=pl.lit([[1]]), blob=pl.lit(b"x"), words=pl.lit(["a", "b"])
    )
    message = refused(tmp_path, table, {"columns": {"age": {"dtype": "string"}, "gone": {}}})
    assert message.splitlines() == [
        "column 'gone' is missing from the data; expected one of: age, blob, deep, id, income, s, town, words, y",
        "column 'age' is int64, not string as its contract says; 'coerce: true' converts it",
        "column 's' is struct, which no model takes; convert it, or give it role 'ignore'",
        "column 'deep' is List(List(Int64)); a list column holds numbers only",
        "column 'blob' is binary, which no model takes; convert it, or give it role 'ignore'",
        "column 'words' is List(String); a list column holds numbers only",
    ]
    contract = {"columns": {c: {"role": "ignore"} for c in ("s", "deep", "blob", "words")}}
    found, _ = frozen(tmp_path, table, contract)
    assert found.report["dropped"] == ["s", "deep", "blob", "words"]


def test_lists_of_many_lengths_are_refused_or_rejected(tmp_path: Path) -> None:
    table = people(100).with_columns(v=pl.Series([[1.0, 2.0]] * 97 + [[1.0], None, [1.0, 2.0, 3.0]]))
    assert "the lists in column 'v' have 1 to 3 values" in refused(tmp_path, table)
    found, quarantine = frozen(tmp_path, table, {"columns": {"v": {"length": [2, 2]}}})
    assert [c.shape for c in found.columns if c.name == "v"] == [(2,)]
    assert quarantine["reasons"].to_list() == [
        ["v: length outside 2 to 2"],
        ["v: missing"],
        ["v: length outside 2 to 2"],
    ]


@pytest.mark.parametrize(
    ("extra", "names"), [("allow", {"id", "age", "income", "town", "y"}), ("ignore", {"age", "y"})]
)
def test_columns_beside_the_contract(tmp_path: Path, extra: str, names: set[str]) -> None:
    found, _ = frozen(tmp_path, people(), {"columns": {"age": {}, "y": {}}, "extra_columns": extra})
    assert {c.name for c in found.columns} == names


def test_columns_beside_the_contract_are_refused_where_it_says_so(tmp_path: Path) -> None:
    message = refused(tmp_path, people(), {"columns": {"age": {}, "id": {}, "y": {}}, "extra_columns": "refuse"})
    assert message.splitlines() == [
        f"column {c!r} is not in the contract, which refuses others" for c in ("income", "town")
    ]


def test_too_many_rejected_rows_fail_and_are_kept_to_look_at(tmp_path: Path) -> None:
    contract = {"columns": {"age": {"range": [40, None]}}}
    message = refused(tmp_path, people(), contract)
    assert "of 400 rows (27.5%)" in message and "break the contract, more than max_rejected (5.0%)" in message
    assert "x age: below 40" in message and str(tmp_path / "quarantine.parquet") in message
    assert pl.read_parquet(tmp_path / "quarantine.parquet")["age"].max() < 40
    assert "on_invalid: fail" in refused(tmp_path, people(), contract | {"on_invalid": "fail"} | ANY_SHARE)


def test_unlabelled_rows_are_no_fault_unless_the_contract_says_so(tmp_path: Path) -> None:
    table = people().with_columns(y=pl.when(pl.col("id") % 2 == 0).then("y"))
    found, quarantine = frozen(tmp_path, table, {"on_invalid": "fail"})
    assert found.rejected == 200 and set(quarantine["reasons"].list.join("")) == {"y: target missing"}
    assert "200 of 400 rows (50.0%) break" in refused(tmp_path, table, {"columns": {"y": {"nullable": False}}})


def test_a_weight_is_a_number_of_at_least_0_that_no_row_lacks(tmp_path: Path) -> None:
    table = people().with_columns(w=pl.Series([1.0, 0.0, None, float("nan"), float("inf"), -0.5, 2.0, 3.0] * 50))
    role = {"columns": {"w": {"role": "weight"}}}
    told = refused(tmp_path, table, role)
    assert "200 of 400 rows (50.0%) break the contract" in told
    assert "100 x w: missing" in told and "50 x w: below 0" in told and "50 x w: infinite" in told
    found, quarantine = frozen(tmp_path, table, role | ANY_SHARE)
    assert len(quarantine) == 200 and kept(tmp_path)["w"].unique().sort().to_list() == [0, 1, 2, 3]
    assert {c.name: c.nullable for c in found.columns}["w"] is False
    assert validate(table, role).reasons == {"w: missing": 100, "w: below 0": 50, "w: infinite": 50}
    assert "column 'town' is string, and a weight is a number" in refused(
        tmp_path, table, {"columns": {"town": {"role": "weight"}}}
    )


def test_uniqueness_is_of_the_whole_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A duplicate far away, beyond any batch, is found; the first row stays; missing values are no duplicates."""
    monkeypatch.setattr("mlops_core.validation.tables.CELLS", 9000)
    monkeypatch.setattr("mlops_core.validation.whole.PART", 700)
    rng = np.random.default_rng(1)
    values = rng.permutation(20_000).astype(object)
    values[19_000] = values[3]
    values[[5, 6, 7]] = None
    table = people(20_000).with_columns(code=pl.Series(values.tolist()), name=pl.Series([f"n{v}" for v in values]))
    table = table.with_columns(name=pl.when(pl.col("code").is_not_null()).then("name"))
    contract = {"columns": {"code": {"unique": True}, "name": {"unique": True}, "id": {"unique": True}}}
    found, quarantine = frozen(tmp_path, table, contract)
    assert quarantine["row"].to_list() == [19_000]
    assert quarantine["reasons"].to_list() == [["code: seen before", "name: seen before"]]
    notes = {c["check"]: c["note"] for c in found.report["checks"]}
    assert notes["columns.id.unique"] == "grows from row to row" and found.rejected == 1
    assert "columns.town.unique: 19,997 rows seen before" in refused(
        tmp_path, table, {"columns": {"town": {"unique": True}}}
    )


def test_whole_table_checks(tmp_path: Path) -> None:
    table = people().with_columns(
        at=pl.datetime(2024, 5, 1) + pl.duration(hours=pl.col("id") // 10),
        gap=pl.when(pl.col("id") % 4 > 0).then("income"),
        flat=pl.lit(1.0),
    )
    now = dt.datetime(2024, 5, 10, tzinfo=dt.UTC)

    def says(contract: Mapping[str, Any], **around: Any) -> str:
        return refused(tmp_path, table, contract, now=now, **around).removeprefix("the data breaks its contract\n")

    assert says({"rows": {"at_least": 1000}}) == "rows.at_least: 400 rows, at least 1,000 expected"
    assert says({"rows": {"change": 0.5}}, previous=1000) == (
        "rows.change: 1,000 rows before, 400 now: 60.0% change, at most 50.0% allowed"
    )
    assert says({"columns": {"gap": {"missing": {"at_most": 0.2}}}}) == (
        "columns.gap.missing: 25.0% missing, at most 20.0% allowed"
    )
    assert says({"freshness": {"column": "at", "within": "7d"}}) == (
        "freshness: the newest 'at' is 2024-05-02 15:00:00, 7.4 days ago; at most 7.0 allowed"
    )
    assert says({"rules": [{"name": "rich", "sql": "income > 3000", "action": "fail"}]}) == "rules.rich: income > 3000"
    everything = {
        "columns": {
            "gap": {"missing": {"at_most": 0.3}},
            "flat": {"outliers": {}},
            "income": {"outliers": {"limit": 2}},
        },
        "rows": {"at_least": 400, "change": 0.1},
        "freshness": {"column": "at", "within": "2w"},
        "rules": [{"name": "rich", "sql": "income > 3000", "action": "warn"}],
    }
    found, _ = frozen(tmp_path, table, everything, now=now)
    checks = {c["check"]: c for c in found.report["checks"]}
    assert checks["rows.change"] | {"note": ""} == {
        "check": "rows.change", "state": "skipped", "failed": 0, "action": "fail", "note": "",
    }  # fmt: skip
    assert checks["columns.flat.outliers"]["state"] == "skipped" and checks["freshness"]["failed"] == 0
    income = table["income"]
    spread = 1.4826 * (income - income.median()).abs().median()
    far = int(((income - income.median()).abs() > 2 * spread).sum())
    assert (
        checks["columns.income.outliers"]["failed"] == far > 0 and checks["columns.income.outliers"]["action"] == "warn"
    )
    assert checks["rules.rich"]["failed"] == int((income <= 3000).sum())


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (people().clear(), {}, "the data has columns and no rows"),
        (
            people(),
            {"target": "z"},
            "the target 'z' is no column of the data; expected one of: age, id, income, town, y",
        ),
        (people().with_columns(y=pl.lit("good")), {}, "the target 'y' has the same value in every row ('good')"),
        (people().with_columns(y=pl.lit(None, pl.String)), {}, "no row is left: all 400 were rejected"),
        (people(), {"task": "regression"}, "a regression needs a number as its target, and 'y' is string"),
        (
            people(),
            {"target": "town", "task": "binary"},
            "a binary task needs two classes, and 'town' has 3: bonn, kiel, ulm",
        ),
        (
            people(),
            {"strategy": "time"},
            "a split by time needs a column of the data, and '' is none; name it in data.split",
        ),
        (
            people(),
            {"strategy": "time", "column": "tim"},
            "a split by time needs a column of the data, and 'tim' is none",
        ),
        (
            people(),
            {"strategy": "time", "column": "town"},
            "a split by time needs a date, datetime or whole-number column",
        ),
        (
            people(2).with_columns(y=pl.Series(["a", "b"])),
            {},
            "the split leaves no row for validation and test (train 2, validation 0, test 0 of 2 rows)",
        ),
        (people().with_columns(g=pl.lit("one")), {"strategy": "group", "column": "g"}, "the split leaves no row for"),
        (
            people(8000).with_columns(y=pl.col("id").cast(pl.String)),
            {},
            "the target 'y' has over 1000 different values",
        ),
        ("nonsense", {}, "a data source must give a polars frame or an Arrow stream, not str"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(tmp_path: Path, table: Any, options: Any, message: str) -> None:
    assert refused(tmp_path, table, **options).startswith(message)


def test_a_class_that_train_does_not_hold_is_told(tmp_path: Path) -> None:
    table = people().sort("id").with_columns(y=pl.when(pl.col("id") > 390).then(pl.lit("new")).otherwise("y"))
    message = refused(tmp_path, table, strategy="time", column="id")
    assert message.startswith("class 'new' of 'y' does not occur in the train split; split by 'stratified'")


def test_a_wrong_contract_is_refused_with_every_problem(tmp_path: Path) -> None:
    message = refused(tmp_path, people(), {"columns": {"age": {"rnge": [1, 2]}}, "onvalid": 1})
    assert message.splitlines() == [
        "contract: onvalid: unknown key; did you mean 'on_invalid'?",
        "contract: columns.age.rnge: unknown key; did you mean 'range'?",
    ]


@pytest.mark.parametrize(
    ("values", "options", "task", "classes"),
    [
        ([True, False] * 20, {}, "binary", ("false", "true")),
        (["good", "bad"] * 20, {"positive": "bad"}, "binary", ("good", "bad")),
        ([3, 20, 100] * 20, {}, "multiclass", ("3", "20", "100")),
        (list(range(40)), {}, "regression", ()),
        ([0.5, 1.5, 2.5] * 20, {}, "regression", ()),
        ([0.0, 1.0, None] * 20, {}, "binary", ("0", "1")),
        ([0, 1] * 20, {"task": "multiclass"}, "multiclass", ("0", "1")),
        ([1, 2, 3] * 20, {"task": "regression"}, "regression", ()),
    ],
)
def test_the_task_is_told_from_the_target(
    tmp_path: Path, values: list[Any], options: dict[str, Any], task: str, classes: tuple[str, ...]
) -> None:
    contract = {"columns": {"y": {"positive": options["positive"]}}} if "positive" in options else {}
    table = pl.DataFrame({"x": range(len(values)), "y": values})
    found, _ = frozen(tmp_path, table, contract, task=options.get("task", "auto"))
    assert (found.task, found.classes) == (task, classes)


def test_roles_and_kinds_follow_the_contract_and_the_split(tmp_path: Path) -> None:
    table = people(3000).with_columns(note=pl.col("id").cast(pl.String), code=pl.col("id").cast(pl.String))
    contract = {
        "columns": {
            "age": {"role": ["feature", "protected"], "nullable": False},
            "code": {"kind": "category"},
            "town": {"role": "protected"},
        }
    }
    found, _ = frozen(tmp_path, table, contract, strategy="time", column="id")
    columns = {c.name: c for c in found.columns}
    assert columns["id"].roles == ("time",) and columns["town"].roles == ("protected",)
    assert columns["age"].roles == ("feature", "protected") and not columns["age"].nullable
    assert columns["note"].kind == "text" and columns["note"].categories == ()
    assert columns["code"].kind == "category" and len(columns["code"].categories) == 2100
    assert len(columns["town"].categories) == 3


def test_pandera_switched_off_by_its_environment_still_validates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pandera.config.CONFIG.validation_enabled", False)
    monkeypatch.setattr("pandera.config.CONFIG.validation_depth", ValidationDepth.SCHEMA_ONLY)
    found, _ = frozen(tmp_path, people(), {"columns": {"age": {"range": [20, None]}}} | ANY_SHARE)
    assert found.rejected > 0


def test_validate_only_looks(tmp_path: Path) -> None:
    table = people().with_columns(code=pl.when(pl.col("id") == 399).then(0).otherwise(pl.col("id")))
    contract = {"columns": {"age": {"range": [20, None]}, "code": {"unique": True}}}
    young = int((table["age"] < 20).sum())
    for form in (table, table.lazy(), table.to_arrow().to_reader()):
        found = validate(form, contract)
        assert found.rows == 400 and not found.valid
        assert found.reasons == {"age: below 20": young, "code: seen before": 1}
    assert validate(table, {}).valid


def test_a_pandera_schema_comes_of_a_contract() -> None:
    schema = to_pandera(
        read_contract({"columns": {"age": {"range": [18, 100], "unique": True}}})[0], {"age": pl.Int64()}
    )
    assert isinstance(schema, pa.DataFrameSchema) and schema.columns["age"].unique
    assert schema.columns["age"].checks[0].error == "age: outside 18 to 100"


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_an_inferred_contract_is_right_and_kept_by_its_own_data(rows: list[tuple[Any, ...]]) -> None:
    table = rows_of(rows)
    contract = infer_contract(table.lazy())
    schema = {n: str(t) for n, t in table.schema.items()}
    assert contract_problems(contract, schema, "") == []
    found = validate(table, contract)
    assert found.valid and found.rejected == 0, (contract, found.reasons)


def test_an_inferred_contract_says_what_a_person_would() -> None:
    table = people().with_columns(income=pl.when(pl.col("id") % 10 > 0).then("income"))
    columns = infer_contract(table)["columns"]
    assert columns["id"] == {"dtype": "int64", "nullable": False, "unique": True, "role": "id"}
    assert columns["age"] == {"dtype": "int64", "nullable": False, "range": [0, 110]}
    assert columns["town"] == {"dtype": "string", "nullable": False, "in": ["bonn", "kiel", "ulm"]}
    assert columns["income"]["nullable"] and columns["income"]["missing"] == {"at_most": 0.16}
    with pytest.raises(DataError, match="cannot be drafted from a table without rows"):
        infer_contract(pyarrow.table({"a": pyarrow.array([], pyarrow.int64())}))


def test_a_contract_without_checks_of_values_can_be_looked_at() -> None:
    for name in ("a", "first", "times"):
        assert not validate(pl.DataFrame({name: [1, 1, 2]}), {"columns": {name: {"unique": True}}}).valid
    assert not validate(pl.DataFrame({"a": [1, 1, 2]}), {}).rejected


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (
            {"rules": [{"name": "own", "sql": "town = 'ulm'"}], "extra_columns": "ignore"},
            "rules.own needs column 'town', which is not kept; name it under 'columns', with role id",
        ),
        (
            {"columns": {"town": {"role": "ignore"}}, "rules": [{"name": "own", "sql": "town = 'ulm'"}]},
            "rules.own needs column 'town', which is not kept; name it under 'columns', with role id",
        ),
        (
            {"freshness": {"column": "seen", "within": "1d"}, "extra_columns": "ignore"},
            "freshness needs column 'seen', which is not kept; name it under 'columns', with role id",
        ),
        (
            {"columns": {"x": {"dtype": "array", "coerce": True}}},
            "column 'x' is string, which nothing converts to array",
        ),
        (
            {"columns": {"xs": {"dtype": "string", "coerce": True}}},
            "column 'xs' is list, which nothing converts to string",
        ),
    ],
)
def test_what_a_contract_cannot_do_with_a_column_is_told(contract: dict[str, Any], message: str) -> None:
    table = people().with_columns(seen=dt.datetime(2026, 1, 1), x=pl.lit("a"), xs=pl.concat_list("age", "id"))
    with pytest.raises(DataError) as error:
        validate(table, contract)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bound", ["2026-01-02T01:00:00+01:00", dt.datetime(2026, 1, 2, tzinfo=dt.UTC)])
def test_a_bound_with_a_zone_is_that_moment(bound: Any) -> None:
    table = pl.DataFrame({"seen": [dt.datetime(2026, 1, day) for day in (1, 2, 3)]})
    assert validate(table, {"columns": {"seen": {"range": [bound, None]}}}).rejected == 1
    assert validate(table, {"columns": {"seen": {"in": [bound]}}}).rejected == 2


def test_too_many_duplicates_are_counted_in_the_error(tmp_path: Path) -> None:
    table = people(100).with_columns(id=pl.Series([0, 0, *range(2, 100)]))
    said = refused(tmp_path, table, {"columns": {"id": {"unique": True}}, "max_rejected": 0})
    assert "columns.id.unique: 1 row seen before, more than max_rejected allows" in said


def test_columns_may_be_named_as_polars_names_its_counts(tmp_path: Path) -> None:
    table = people().rename({"town": "len", "y": "count"})
    found = freeze(table, declared(target="count"), tmp_path / "a", tmp_path / "q")
    assert {c.name: c.categories for c in found.columns}["len"]
    table = people().rename({"y": "len"})
    assert freeze(table, declared(target="len"), tmp_path / "b", tmp_path / "q").classes == ("bad", "good")
