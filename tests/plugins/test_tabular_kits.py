"""Our data sources and the sklearn trainer keep what every plugin promises."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_core.contracts import Choice
from mlops_core.plugins import Plugins
from mlops_core.testing import check_data, check_trainer


def built(kind: Any, plugin: str, **options: Any) -> Any:
    return Plugins().build(kind, Choice(plugin=plugin, options=options))


def table(value: int) -> pl.DataFrame:
    return pl.DataFrame({"a": [1, 2, value], "b": ["x", None, "z"], "c": [0.5, None, 2.0]})


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table(3).write_csv(path)
    source, missing = built("data", "csv", path=str(path)), built("data", "csv", path=str(tmp_path / "none.csv"))
    check_data(source, tmp_path, missing=missing, change=lambda: table(4).write_csv(path))


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table(3).write_parquet(path)
    source, missing = built("data", "parquet", path=str(path)), built("data", "parquet", path=str(tmp_path / "none"))
    check_data(source, tmp_path, missing=missing, change=lambda: table(4).write_parquet(path))


@pytest.mark.parametrize("scheme", ["sqlite", "adbc+sqlite"])
def test_sql(tmp_path: Path, scheme: str) -> None:
    def run(statement: str) -> None:
        with sqlite3.connect(tmp_path / "t.db") as db:
            db.execute(statement)
        db.close()

    run("CREATE TABLE t AS SELECT 1 AS a, 'x' AS b, 0.5 AS c")
    options = {"url": f"{scheme}:///{tmp_path}/t.db", "version_query": "SELECT count(*) FROM t"}
    source, missing = built("data", "sql", table="t", **options), built("data", "sql", table="none", **options)
    check_data(source, tmp_path, missing=missing, change=lambda: run("INSERT INTO t VALUES (2, 'y', 1.5)"))


def test_sklearn(tmp_path: Path) -> None:
    check_trainer(built("trainer", "sklearn", params={"max_iter": 20}), tmp_path)
