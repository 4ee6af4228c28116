"""Our own plugins keep the promises of their kinds: the kits that strangers run."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import polars as pl
import pytest
from mlops_drift.drift import Drift
from mlops_local.deployer import HttpDeployer
from mlops_local.tuner import GridTuner
from mlops_tabular import mlops_data
from mlops_tabular.estimator import Sklearn

from mlops_core.contracts import Task
from mlops_core.testing import check_data, check_deployer, check_monitor, check_trainer, check_tuner

FRAME = pl.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 2.5], "c": ["x", "y", None]})


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    FRAME.write_csv(path)
    source = mlops_data()["csv"]
    check_data(
        source(path=path),
        tmp_path,
        missing=source(path=tmp_path / "gone.csv"),
        change=lambda: path.write_text(path.read_text() + "4,1.5,z\n"),
    )


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    FRAME.write_parquet(path)
    source = mlops_data()["parquet"]
    check_data(
        source(path=path),
        tmp_path,
        missing=source(path=tmp_path / "gone.parquet"),
        change=lambda: FRAME.head(2).write_parquet(path),
    )


def test_sql(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "data.db") as connection:
        connection.execute("create table t (a integer, b real, c text)")
        connection.executemany("insert into t values (?, ?, ?)", FRAME.rows())
    connection.close()
    url = f"sqlite:///{tmp_path / 'data.db'}"
    source = mlops_data()["sql"]
    check_data(
        source(url=url, query="select * from t order by a"),
        tmp_path,
        missing=source(url=url, query="select * from gone"),
    )


@pytest.mark.parametrize(
    ("estimator", "params"), [("HistGradientBoosting", {"max_iter": 8}), ("RandomForest", {"n_estimators": 8})]
)
def test_sklearn(estimator: str, params: dict[str, int], tmp_path: Path) -> None:
    check_trainer(Sklearn(estimator=estimator, params=params), tmp_path)


def test_sklearn_linear(tmp_path: Path) -> None:
    check_trainer(Sklearn(estimator="LogisticRegression"), tmp_path / "classes", tasks=("binary", "multiclass"))
    check_trainer(Sklearn(estimator="Ridge"), tmp_path / "values", tasks=("regression",))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_lightning(task: Task, tmp_path: Path) -> None:
    from mlops_lightning.trainer import LightningTrainer

    check_trainer(LightningTrainer(epochs=3), tmp_path, tasks=(task,), tolerance=0.01)


def test_grid(tmp_path: Path) -> None:
    check_tuner(GridTuner(), tmp_path)


def test_grid_in_processes(tmp_path: Path) -> None:
    check_tuner(GridTuner(workers=2), tmp_path, modes=("max",))


def test_http(tmp_path: Path) -> None:
    check_deployer(HttpDeployer(auth="none"), tmp_path)


def test_drift(tmp_path: Path) -> None:
    check_monitor(Drift(), tmp_path)
