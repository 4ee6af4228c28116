"""Data sources csv, parquet and sql: what they read, and what they say when they cannot."""

from __future__ import annotations

import datetime as dt
import gzip
import re
import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from mlops_tabular import sqlrows
from polars.testing import assert_frame_equal

from mlops_core import file_digest
from mlops_core.contracts import Choice, Declaration, Split
from mlops_core.errors import DataError, PluginError
from mlops_core.plugins import Plugins
from mlops_core.validation import freeze, infer_contract
from mlops_core.validation.tables import batches, opened

TABLE = pl.DataFrame(
    {
        "n": [1, 2, None],
        "x": [1.5, None, -2.0],
        "s": ["a, b", None, 'say "ü"'],
        "b": [True, False, None],
        "d": [dt.date(2020, 1, 2), None, dt.date(1999, 12, 31)],
        "t": [dt.datetime(2020, 1, 2, 3, 4, 5), None, dt.datetime(1999, 12, 31, 23, 59)],
    }
)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


def rows(source: Any) -> pl.DataFrame:
    """All rows, as the core reads them."""
    return pl.concat(list(batches(opened(source.read()))))


def told(source: Any) -> str:
    with pytest.raises(DataError) as error:
        rows(source)
    return str(error.value)


@pytest.fixture
def csv(plugins: Plugins, tmp_path: Path) -> Any:
    """Writes files and gives the source that reads them."""

    def make(files: Mapping[str, str | bytes] = {}, /, path: str = "t.csv", **options: Any) -> Any:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return plugins.build("data", Choice(plugin="csv", options={"path": str(tmp_path / path)} | options))

    return make


def test_csv_reads_each_dtype_and_missing_values(csv: Any, tmp_path: Path) -> None:
    TABLE.write_csv(tmp_path / "t.csv")
    found = rows(csv())
    assert_frame_equal(found.cast({"t": pl.Datetime("us")}), TABLE)
    assert {n: d.lower().split("(")[0] for n, d in csv().schema().items()} == {
        "n": "int64", "x": "float64", "s": "string", "b": "boolean", "d": "date", "t": "datetime",
    }  # fmt: skip


def test_csv_dialects(csv: Any) -> None:
    assert rows(csv({"t.csv": "a;b\n1,5;é\nNA;-\n".encode("cp1252")}, separator=";", decimal=",", encoding="cp1252",
                    null_values=["NA", "-"])).rows() == [(1.5, "é"), (None, None)]  # fmt: skip
    assert rows(csv({"t.csv": "# made today\n1|2\n"}, separator="|", names=["a", "b"], skip_rows=1)).to_dicts() == [
        {"a": 1, "b": 2}
    ]
    assert rows(csv({"t.csv": "\ufeffa,b\r\n007,x\r\n"}, dtypes={"a": "string"})).rows() == [("007", "x")]
    assert rows(csv({"t.csv": 'a,b\n1,"two\nlines, one ""cell"""\n'}))["b"].to_list() == ['two\nlines, one "cell"']
    assert rows(csv({"t.csv": "a,b\n,1\n"})).schema == {"a": pl.String, "b": pl.Int64}


def test_csv_folders_patterns_and_packed_files(csv: Any, tmp_path: Path) -> None:
    source = csv(
        {
            "d/b.csv": "y,x\n2.5,3\n",
            "d/a.csv": "x,y\n1,\n2,7\n",
            "d/deep/c.csv.gz": gzip.compress(b"x,y\n4,9\n"),
            "d/.hidden.csv": "z\n1\n",
            "d/notes.txt": "no table",
        },
        path="d",
    )
    assert rows(source).rows() == [(1, None), (2, 7.0), (3, 2.5), (4, 9.0)]
    assert sorted(source.fingerprint()) == ["a.csv", "b.csv", "deep/c.csv.gz"]
    assert source.fingerprint()["a.csv"] == file_digest(tmp_path / "d/a.csv").sha256
    assert rows(csv(path="d/[ab].csv")).height == 3 and sorted(csv(path="d/[ab].csv").fingerprint()) == [
        "a.csv",
        "b.csv",
    ]
    assert list(csv(path="d/a.csv").fingerprint()) == ["a.csv"]


def test_a_fingerprint_changes_exactly_when_the_data_does(csv: Any, tmp_path: Path) -> None:
    source = csv({"t.csv": "a\n1\n"})
    before = source.fingerprint()
    assert source.fingerprint() == before
    (tmp_path / "t.csv").write_text("a\n2\n")
    assert source.fingerprint() != before


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n3\n", {}, "t.csv, row 3: 1 values where the header has 2: '3'"),
        ("a,b\n1,2\n3,4,5\n", {}, "t.csv, row 3: 3 values where the header has 2: '3,4,5'"),
        ("", {}, "t.csv is empty"),
        ("a;b\n1;2\n", {}, "t.csv has one column, 'a;b'; its separator seems to be ';': set data.separator"),
        ("a,b,a\n1,2,3\n", {}, "t.csv: the header names 'a' twice"),
        (
            "a,b\n1,\xe9\n".encode("latin-1"),
            {},
            "t.csv, column 'b': there are bytes that are no utf8; set data.encoding",
        ),
        ("a,b\n1,2\n", {"encoding": "utf9"}, "data.encoding: unknown encoding: utf9"),
        (
            "a,b\n1,x\n",
            {"dtypes": {"b": "int64"}},
            "t.csv, row 2, column 'b': 'x' is no int64; set data.dtypes.b: string",
        ),
        ("a,b\n1,x\n", {"dtypes": {"c": "int64"}}, "t.csv has no column 'c', which data.dtypes names"),
        ('a,b\n1,"open\n2,3\n', {}, "t.csv: a quote is opened near the end and never closed"),
    ],
)
def test_csv_says_what_is_wrong_and_where(csv: Any, tmp_path: Path, text: Any, options: Any, message: str) -> None:
    said = told(csv({"t.csv": text}, **options))
    assert said.removeprefix(f"{tmp_path}/").startswith(message) and "\n" not in said


def test_csv_finds_an_odd_value_far_from_the_beginning(
    csv: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_tabular.csvfile.SAMPLE", 2000)
    monkeypatch.setattr("mlops_tabular.csvfile.BLOCK", 2000)
    source = csv({"t.csv": "a,b\n" + "1,2\n" * 5000 + "oops,3\n"})
    assert told(source) == (
        f"{tmp_path}/t.csv, row 5002, column 'a': 'oops' is no int64; "
        "set data.dtypes.a: string, or name it in data.null_values if it means a missing value"
    )
    with pytest.raises(DataError, match="row 5002, column 'a': 'oops' is no int64"):  # through the core as well
        freeze(source.read(), _declared("b"), tmp_path / "out", tmp_path / "q.parquet")


def test_files_that_do_not_belong_together_are_named(csv: Any, tmp_path: Path) -> None:
    files = {"d/a.csv": "x,y\n1,2\n", "d/b.csv": "x,z\n1,2\n"}
    assert told(csv(files, path="d")) == f"{tmp_path}/d/b.csv and {tmp_path}/d/a.csv have different columns: 'y', 'z'"
    files = {"e/a.csv": "x,y\n1,2\n", "e/b.csv": "x,y\n1,two\n"}
    assert told(csv(files, path="e")) == (
        f"column 'y' is int64 in {tmp_path}/e/a.csv and string in {tmp_path}/e/b.csv; set data.dtypes.y"
    )
    assert rows(csv(path="e", dtypes={"y": "string"}))["y"].to_list() == ["2", "two"]


@pytest.mark.parametrize("plugin", ["csv", "parquet"])
def test_a_path_that_is_not_there(plugins: Plugins, tmp_path: Path, plugin: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / f"data/credit.{plugin}").touch()

    def says(path: str) -> str:
        return told(plugins.build("data", Choice(plugin=plugin, options={"path": str(tmp_path / path)})))

    here = f"{tmp_path}/data"
    assert (
        says(f"data/credti.{plugin}")
        == f"{here}/credti.{plugin} does not exist; did you mean '{here}/credit.{plugin}'?"
    )
    assert says(f"dat/credit.{plugin}") == f"{tmp_path}/dat/credit.{plugin} does not exist; did you mean '{here}'?"
    assert says("data/*.tsv") == f"no file matches {here}/*.tsv"
    (tmp_path / "none").mkdir()
    assert says("none").startswith(f"folder {tmp_path}/none holds no file that ends in .")


def test_options_are_checked_before_any_work(plugins: Plugins) -> None:
    with pytest.raises(PluginError, match="separator is one character, got ', '"):
        plugins.build("data", Choice(plugin="csv", options={"path": "t.csv", "separator": ", "}))
    with pytest.raises(PluginError, match="seperator: unknown option; did you mean 'separator'"):
        plugins.build("data", Choice(plugin="csv", options={"path": "t.csv", "seperator": ","}))
    with pytest.raises(PluginError, match="give either query or table"):
        plugins.build("data", Choice(plugin="sql", options={"url": "sqlite://"}))


@pytest.mark.parametrize("name", ["csv", "parquet", "sql"])
def test_every_option_has_its_line_in_the_manual(plugins: Plugins, name: str) -> None:
    assert all(o.doc for o in plugins.options("data", name)) and plugins.offer("data", name).summary


def parquet(plugins: Plugins, path: Path, **options: Any) -> Any:
    return plugins.build("data", Choice(plugin="parquet", options={"path": str(path), **options}))


def test_parquet_files_folders_and_partitions(plugins: Plugins, tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "one.parquet")
    assert_frame_equal(rows(parquet(plugins, tmp_path / "one.parquet")), TABLE)
    assert rows(parquet(plugins, tmp_path / "one.parquet", columns=["x", "n"])).columns == ["x", "n"]
    for year in (2023, 2024):
        (tmp_path / f"d/year={year}").mkdir(parents=True)
        order = TABLE.columns if year == 2023 else TABLE.columns[::-1]
        TABLE.select(order).write_parquet(tmp_path / f"d/year={year}/p.parquet")
    source = parquet(plugins, tmp_path / "d")
    assert_frame_equal(rows(source), pl.concat([TABLE, TABLE]))
    assert sorted(source.fingerprint()) == ["year=2023/p.parquet", "year=2024/p.parquet"]
    assert source.schema()["n"] == "Int64" and "year" in parquet(plugins, tmp_path / "d", hive=True).schema()


def test_parquet_says_what_is_wrong_and_where(plugins: Plugins, tmp_path: Path) -> None:
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    TABLE.write_parquet(a)
    TABLE.drop("x").write_parquet(b)
    assert told(parquet(plugins, tmp_path)) == f"{b} has no column 'x', which {a} has"
    TABLE.with_columns(pl.col("x").cast(pl.String)).write_parquet(b)
    assert told(parquet(plugins, tmp_path)) == f"column 'x' is Float64 in {a} and String in {b}"
    assert told(parquet(plugins, a, columns=["m"])).startswith(f"{a} has no column 'm'; ")
    b.write_text("no parquet")
    assert told(parquet(plugins, b)).startswith(f"{b} is no Parquet file: ")
    b.write_bytes(b"")
    assert told(parquet(plugins, b)) == f"{b} is empty"
    b.write_bytes(a.read_bytes()[:200] + b"\0" * 50 + a.read_bytes()[250:])
    assert "\n" not in told(parquet(plugins, b))


def sql(plugins: Plugins, url: str, **options: Any) -> Any:
    return plugins.build("data", Choice(plugin="sql", options={"url": url, **options}))


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "d.db") as db:
        db.execute("CREATE TABLE people (n INTEGER, x REAL, s TEXT, void TEXT)")
        db.executemany(
            "INSERT INTO people VALUES (?, ?, ?, NULL)", [(i, i / 2 if i else None, f"n{i}%:s") for i in range(25)]
        )
    db.close()
    return f"{tmp_path}/d.db"


@pytest.mark.parametrize("scheme", ["sqlite", "adbc+sqlite"])
def test_sqlite(plugins: Plugins, sqlite: str, scheme: str) -> None:
    url = f"{scheme}:///{sqlite}"
    found = rows(sql(plugins, url, table="people", batch=10))
    assert found["n"].to_list() == list(range(25)) and found["x"][:3].to_list() == [None, 0.5, 1.0]
    some = sql(plugins, url, query="SELECT n, s FROM people WHERE s LIKE 'n1%:s' AND ':a' <> '%s' ORDER BY n;")
    assert rows(some).rows() == [(i, f"n{i}%:s") for i in (1, *range(10, 20))]
    assert dict(some.schema()) == {"n": "Int64", "s": "String"} and some.fingerprint() is None
    version = sql(plugins, url, table="people", version_query="SELECT count(*), max(n) FROM people")
    before = version.fingerprint()
    assert version.fingerprint() == before
    with sqlite3.connect(sqlite) as db:
        db.execute("DELETE FROM people WHERE n = 3")
    db.close()
    assert version.fingerprint() != before


@pytest.mark.parametrize("scheme", ["sqlite", "adbc+sqlite"])
def test_sql_says_what_is_wrong(plugins: Plugins, sqlite: str, scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:///{sqlite}"
    assert "no such table: peple" in told(sql(plugins, url, table="peple"))
    assert 'near "SELEC": syntax error' in told(sql(plugins, url, query="SELEC 1"))
    assert told(sql(plugins, url, query="SELECT * FROM people WHERE n > 99")) == "the query gives no row"
    missing = told(sql(plugins, f"{scheme}:///{tmp_path}/dd.db", table="people"))
    assert missing == f"there is no database {tmp_path}/dd.db; did you mean '{tmp_path}/d.db'?"
    assert not (tmp_path / "dd.db").exists()


def test_sql_refuses_what_would_mix_dtypes(plugins: Plugins, sqlite: str) -> None:
    url = f"sqlite:///{sqlite}"
    mixed = sql(plugins, url, query="SELECT CASE WHEN n < 20 THEN n ELSE 'late' END AS v FROM people", batch=10)
    assert told(mixed).startswith("rows 21 to 25 of the query are of other types than the rows before; use CAST: ")
    twice = sql(plugins, url, query="SELECT n, n FROM people")
    assert told(twice) == "the query gives column 'n' twice; name one of them with AS"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://user:s3cret@host/db", "Can't load plugin: sqlalchemy.dialects:nosuch"),
        ("adbc+mysql://user:s3cret@host/db", "there is no ADBC driver for 'mysql'; there are postgresql, sqlite"),
        ("postgresql+psycopg://user:s3cret@127.0.0.1:1/db", "postgresql+psycopg://127.0.0.1/db: connection failed"),
        ("adbc+postgresql://user:s3cret@127.0.0.1:1/db", "postgresql://127.0.0.1/db: "),
        ("adbc+mysql://user:[s3cret@host/db", "there is no ADBC driver for 'mysql'; there are postgresql, sqlite"),
        ("adbc+mysql://user:x#s3cret@host/db", "there is no ADBC driver for 'mysql'; there are postgresql, sqlite"),
        ("s3cret", "Could not parse SQLAlchemy URL"),
    ],
)
def test_a_password_is_never_told(plugins: Plugins, url: str, message: str) -> None:
    source = sql(plugins, url, table="t")
    said = told(source)
    assert (
        message in said and "s3cret" not in said.replace("s3cret", "", url == "s3cret") and "s3cret" not in repr(source)
    )


def test_a_url_of_any_database_is_shown_without_what_may_be_its_password() -> None:
    for password in ("s3cret", "s3#cret", "s[3cret", "s3?c/r@et", "s3:cret"):
        url = f"mysql+driver://ann:{password}@db.host:3306/team?x=1"
        assert sqlrows._shown(url) == "mysql+driver://db.host/team"
        assert sqlrows._without_secret(f"no, {password}!", url) == "no, ***!"
        assert sqlrows._without_secret(f"no, {password}!", f"{url}&ca=a@b") == "no, ***!"
    assert sqlrows._without_secret("no, s3 cret", "mysql://ann:s3%20cret@[::1]/team") == "no, ***"
    assert sqlrows._shown("mysql://ann:s3%20cret@[::1]:3/team") == "mysql://[::1]/team"
    assert sqlrows._shown("sqlite:///data/x.db") == "sqlite:///data/x.db"


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "adbc+postgresql", "postgres"])
@pytest.mark.parametrize("raw", ["s3cret@xyzzy", "s3cret/xyzzy", "s3cret#xyz@zy"])
def test_a_password_that_could_be_meant_in_two_ways_is_refused_untold(plugins: Plugins, scheme: str, raw: str) -> None:
    said = told(sql(plugins, f"{scheme}://ann:{raw}@127.0.0.1:1/db", table="t"))
    assert said.startswith("data.url: ") and "percent-encoded: '@' as %40, '/' as %2F, " in said
    assert "s3cret" not in said and "zy" not in said


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "adbc+postgresql"])
@pytest.mark.parametrize("raw", ["s3cret#xyzzy", "s3cret?xyzzy", "s3cret[xyzzy"])
def test_a_raw_character_of_a_password_that_can_be_meant_in_one_way_is_taken(
    plugins: Plugins, postgres_database: str, scheme: str, raw: str
) -> None:
    user = f"raw_{raw.encode().hex()}_{scheme[0]}"
    with psycopg.connect(postgres_database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{raw}'")
    url = re.sub(r".*@", f"{scheme}://{user}:{raw}@", postgres_database)
    assert rows(sql(plugins, url, query="SELECT 1 AS n")).rows() == [(1,)]
    said = told(sql(plugins, url.replace("zzy@", "zzy2@"), query="SELECT 1 AS n"))
    assert "password authentication failed" in said and "s3cret" not in said and "zzy" not in said


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "adbc+postgresql"])
def test_postgresql(plugins: Plugins, postgres_database: str, scheme: str) -> None:
    with psycopg.connect(postgres_database) as connection:
        connection.execute(
            "CREATE TABLE people AS SELECT i AS n, i / 2.0::float8 AS x, 'n' || i AS s, i % 2 = 0 AS b, "
            "DATE '2020-01-01' + i AS d, TIMESTAMPTZ '2020-01-01 00:00:00+02' + i * INTERVAL '1 hour' AS t "
            "FROM generate_series(0, 2499) AS i"
        )
    url = postgres_database.replace("postgresql", scheme, 1)
    source = sql(plugins, url, query="SELECT * FROM people ORDER BY n", batch=1000)
    found = rows(source)
    assert found.height == 2500 and found["n"].to_list() == list(range(2500))
    assert found.select("x", "s", "b", "d").row(3) == (1.5, "n3", False, dt.date(2020, 1, 4))
    contract = infer_contract(source.read())["columns"]
    assert contract["t"] == {"dtype": "datetime", "nullable": False, "range": ["2019-12-31T22:00:00", None]}
    assert rows(sql(plugins, url, table="public.people")).height == 2500
    assert "nosuch" in told(sql(plugins, url, table="nosuch"))


def _declared(target: str) -> Declaration:
    return Declaration(
        name="t", seed=0, data=Choice(plugin="csv"), target=target, task="auto", contract={}, split=Split(),
        trainer=Choice(plugin="x"), metric="auroc",
    )  # fmt: skip


def test_a_text_of_several_lines_may_stand_in_the_last_row(csv: Any) -> None:
    assert rows(csv({"t.csv": 'a,b\n"x\ny",5\n"more\nlines",6\n'}))["a"].to_list() == ["x\ny", "more\nlines"]
    assert rows(csv({"t.csv": 'b,a\n5,"x"\n6,"more\nlines"\n'}))["a"].to_list() == ["x", "more\nlines"]
    assert "a quote is opened near the end" in told(csv({"t.csv": 'b,a\n5,"x"\n6,"never\n7,z\n'}))


def test_a_folder_that_is_named_as_a_file_is_looked_into(csv: Any) -> None:
    made = csv({"all/day.csv/part-0.csv": "a\n1\n", "all/day.csv/_SUCCESS": ""}, path="all")
    assert rows(made)["a"].to_list() == [1]
    assert list(made.fingerprint()) == ["day.csv/part-0.csv"]


def test_folder_names_stay_columns_where_files_order_theirs_otherwise(plugins: Plugins, tmp_path: Path) -> None:
    for year, names in ((2023, ["a", "b"]), (2024, ["b", "a"])):
        (tmp_path / f"year={year}").mkdir()
        pl.DataFrame({"a": [1], "b": [2]}).select(names).write_parquet(tmp_path / f"year={year}" / "p.parquet")
    made = plugins.build("data", Choice(plugin="parquet", options={"path": str(tmp_path), "hive": True}))
    assert rows(made).to_dicts() == [{"a": 1, "b": 2, "year": 2023}, {"a": 1, "b": 2, "year": 2024}]


def test_values_of_a_kind_of_their_own_are_text_in_every_batch(plugins: Plugins, tmp_path: Path) -> None:
    sqlite3.register_converter("uuid", lambda raw: uuid.UUID(raw.decode()))
    ids = [str(uuid.uuid4()) for _ in range(3)]
    with closing(sqlite3.connect(tmp_path / "t.db")) as db, db:
        db.execute("CREATE TABLE t (id uuid, n INTEGER)")
        db.executemany("INSERT INTO t VALUES (?, ?)", [(i, n) for n, i in enumerate(ids)])
    options = {"url": f"sqlite:///{tmp_path}/t.db?detect_types=1", "table": "t", "batch": 2}
    assert rows(plugins.build("data", Choice(plugin="sql", options=options)))["id"].to_list() == ids
