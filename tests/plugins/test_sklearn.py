"""Trainer sklearn: what it leaves answers as the fitted estimator does, and scores as scikit-learn by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mlops_tabular.export import to_onnx
from mlops_tabular.lookup import estimator_class
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score, root_mean_squared_error
from threadpoolctl import threadpool_info

from mlops_core import ModelFile, load_onnx, read_split
from mlops_core.contracts import Artifact, Choice, Dataset, Declaration, Job, Scores, Split
from mlops_core.errors import TrainingError
from mlops_core.plugins import Plugins
from mlops_core.validation import freeze


def dataset(
    folder: Path, table: Any, target: str = "target", contract: Mapping[str, Any] = {}, **split: Any
) -> Dataset:
    declaration = Declaration(
        name="t", seed=0, data=Choice(plugin="csv"), target=target, task="auto", contract=contract,
        split=Split(**split), trainer=Choice(plugin="sklearn"), metric="auroc",
    )  # fmt: skip
    found = freeze(table, declaration, folder, folder / "quarantine.parquet")
    return Dataset(
        name="t", artifact=Artifact(address="", sha256="", size=0, files=3), path=folder, columns=found.columns,
        rows=found.rows, task=found.task, target=target, classes=found.classes,
    )  # fmt: skip


def mixed(rows: int = 600) -> pl.DataFrame:
    """Numbers, categories, booleans and times, all with gaps; the target depends on each."""
    rng = np.random.default_rng(0)
    age, town, member = rng.normal(40, 12, rows), rng.choice(["ulm", "bonn", "kiel"], rows), rng.random(rows) < 0.5
    since = rng.integers(0, 3000, rows)
    logit = (age - 40) / 8 + 2 * (town == "ulm") - 1.5 * member + (since - 1500) / 1000
    table = pl.DataFrame({"age": age, "town": town, "member": member, "since": since}).with_columns(
        since=pl.datetime(2015, 1, 1) + pl.duration(days="since"),
        target=pl.Series(np.where(rng.random(rows) < 1 / (1 + np.exp(-logit)), "bad", "good")),
    )
    gaps = [pl.when(pl.Series(rng.random(rows) > 0.1)).then(c).alias(c) for c in ("age", "town", "member", "since")]
    return table.with_columns(gaps)


def fit(
    data: Dataset, out: Path, trust: tuple[str, ...] = (), seed: int = 0, **options: Any
) -> tuple[Scores, list[Any]]:
    out.mkdir()
    told: list[Any] = []
    metric = "rmse" if data.task == "regression" else "auroc"
    job = Job(
        out=out, scratch=out, project=out, seed=seed, metric=metric, mode="max", trust=trust,
        report=lambda step, scores: told.append((step, dict(scores))),
    )  # fmt: skip
    return Plugins().build("trainer", Choice(plugin="sklearn", options=options)).fit(data, job), told


def refused(data: Dataset, out: Path, **options: Any) -> str:
    with pytest.raises(TrainingError) as error:
        fit(data, out, **options)
    return str(error.value)


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return dataset(tmp_path_factory.mktemp("cancer"), load_breast_cancer(as_frame=True).frame)


def test_breast_cancer_scores_as_scikit_learn_does_by_hand(cancer: Dataset, tmp_path: Path) -> None:
    scores, told = fit(cancer, tmp_path / "m", seed=3)
    parts = {s: pl.read_parquet(cancer.split(s)) for s in ("train", "validation", "test")}  # type: ignore[arg-type]
    by_hand = HistGradientBoostingClassifier(random_state=3)
    by_hand.fit(parts["train"].drop("target").to_numpy().astype(np.float32), parts["train"]["target"].to_numpy())
    for part, found in (("validation", scores["auroc"]), ("test", None)):
        frame = parts[part]
        wanted = roc_auc_score(
            frame["target"], by_hand.predict_proba(frame.drop("target").to_numpy().astype(np.float32))[:, 1]
        )
        if found is None:
            columns, target = read_split(cancer, "test")
            found = roc_auc_score(target, load_onnx(tmp_path / "m")(columns)["probability"][:, 1])
        assert found == pytest.approx(wanted, abs=1e-6) and wanted > 0.95
    assert told == [(1, dict(scores))]
    assert ModelFile.read(tmp_path / "m").format == "onnx"


def test_diabetes_is_a_regression(tmp_path: Path) -> None:
    data = dataset(tmp_path / "d", load_diabetes(as_frame=True).frame)
    scores, _ = fit(data, tmp_path / "m", estimator="HistGradientBoosting", params={"max_iter": 50})
    (x, y), (vx, vy) = (_by_hand(data, s) for s in ("train", "validation"))
    by_hand = HistGradientBoostingRegressor(max_iter=50, random_state=0).fit(x, y)
    assert data.task == "regression" and set(scores) == {"rmse", "mae", "r2"}
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(vy, by_hand.predict(vx)), rel=1e-4)


def _by_hand(data: Dataset, split: Any) -> tuple[Any, Any]:
    frame = pl.read_parquet(data.split(split))
    return frame.drop("target").to_numpy().astype(np.float32), frame["target"].to_numpy()


@pytest.mark.parametrize(
    "estimator", ["HistGradientBoosting", "LogisticRegression", "RandomForest", "sklearn.svm.NuSVR"]
)
def test_mixed_columns_with_gaps(tmp_path: Path, estimator: str) -> None:
    table = mixed() if "NuSVR" not in estimator else mixed().with_columns(target=pl.col("age").fill_null(30.0) * 2)
    data = dataset(tmp_path / "d", table)
    scores, _ = fit(data, tmp_path / "m", estimator=estimator)
    answer = load_onnx(tmp_path / "m")(read_split(data, "test")[0])
    if data.task == "binary":
        assert scores["auroc"] > 0.68 and answer["probability"].shape == (90, 2)
        assert set(answer["prediction"]) <= {"good", "bad"} and data.classes == ("bad", "good")
    else:
        assert scores["r2"] > 0.05 and answer["prediction"].shape == (90,)


def test_many_classes_and_arrays(tmp_path: Path) -> None:
    wine = dataset(tmp_path / "w", load_wine(as_frame=True).frame)
    assert fit(wine, tmp_path / "wm")[0]["auroc"] > 0.95 and wine.task == "multiclass"
    pixels, digit = load_digits(return_X_y=True)
    images = pl.DataFrame(
        {"target": digit, "image": pl.Series(pixels.reshape(-1, 8, 8).astype(np.float32)), "n": digit * 0 + 1}
    )
    digits = dataset(tmp_path / "d", images)
    scores, _ = fit(digits, tmp_path / "dm", estimator="LogisticRegression", params={"max_iter": 50})
    assert scores["accuracy"] > 0.9 and next(c.shape for c in digits.columns if c.name == "image") == (8, 8)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, cancer: Dataset) -> None:
    def digest(name: str, seed: int) -> list[str]:
        fit(cancer, tmp_path / name, seed=seed, estimator="RandomForest", params={"n_estimators": 5})
        return [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / name).iterdir())]

    assert digest("a", 1) == digest("b", 1) != digest("c", 2)


def test_weights_count(tmp_path: Path) -> None:
    table = mixed().with_columns(w=pl.when(pl.col("target") == "bad").then(50.0).otherwise(1.0))
    data = dataset(tmp_path / "d", table, contract={"columns": {"w": {"role": "weight"}}})
    fit(data, tmp_path / "m", estimator="LogisticRegression")
    answer = load_onnx(tmp_path / "m")(read_split(data, "test")[0])["prediction"]
    assert np.mean(answer == "bad") > 0.9


def test_what_onnx_cannot_express_needs_trust(tmp_path: Path, cancer: Dataset) -> None:
    message = refused(cancer, tmp_path / "a", estimator="DummyClassifier")
    assert message.startswith("ONNX cannot express DummyClassifier (") and message.endswith("trust: [pickle]")
    scores, _ = fit(cancer, tmp_path / "b", estimator="DummyClassifier", trust=("pickle",))
    trainer = Plugins().build("trainer", Choice(plugin="sklearn"))
    columns, _ = read_split(cancer, "test")
    answer = trainer.load(tmp_path / "b")(columns)
    assert ModelFile.read(tmp_path / "b").format == "pickle" and answer["probability"].shape == (86, 2)
    assert scores["auroc"] == 0.5 and set(answer["prediction"]) == {1}


def test_an_export_that_differs_is_refused(tmp_path: Path, cancer: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(fitted: Any, encoder: Any, task: Any, path: Path) -> None:
        fitted.coef_ = fitted.coef_ * 0.9
        to_onnx(fitted, encoder, task, path)
        fitted.coef_ = fitted.coef_ / 0.9

    monkeypatch.setattr("mlops_tabular.estimator.to_onnx", other)
    message = refused(cancer, tmp_path / "m", estimator="LogisticRegression")
    assert message.startswith("the ONNX export of LogisticRegression differs from the fitted estimator by up to 0.")
    assert "of 86 validation rows" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"estimator": "LogisticRegresion"},
            "scikit-learn has no estimator 'LogisticRegresion'; did you mean 'LogisticRegr",
        ),
        ({"estimator": "Ridge"}, "Ridge is no classifier, and the task is binary; did you mean 'RidgeClassifier'?"),
        (
            {"estimator": "RidgeClassifier"},
            "RidgeClassifier gives no probabilities (no predict_proba); choose one that",
        ),
        (
            {"estimator": "os.system"},
            "estimator 'os.system' is not of scikit-learn; write your own trainer as a plugin",
        ),
        ({"estimator": "sklearn.svm.SVM"}, "sklearn.svm has no 'SVM'; did you mean 'SV"),
        ({"estimator": "sklearn.svn.SVC"}, "estimator 'sklearn.svn.SVC': No module named 'sklearn.svn'"),
        (
            {"params": {"max_dept": 3}},
            "HistGradientBoostingClassifier has no parameter 'max_dept'; did you mean 'max_depth'?",
        ),
        ({"params": {"max_depth": -3}}, "HistGradientBoostingClassifier cannot be fitted: The 'max_depth' parameter"),
    ],
)
def test_what_cannot_be_trained_is_told(tmp_path: Path, cancer: Dataset, options: Any, message: str) -> None:
    assert refused(cancer, tmp_path / "m", **options).startswith(message)


@pytest.mark.parametrize(
    ("metric", "rows", "message"),
    [
        ("rmse", {}, "metric 'rmse' is none of a binary task; "),
        ("aurok", {}, "metric 'aurok' is none of a binary task; did you mean 'auroc'"),
        ("auroc", {"validation": 0}, "the validation split has no rows; "),
    ],
)
def test_what_cannot_end_well_is_refused(
    tmp_path: Path, cancer: Dataset, metric: str, rows: dict[str, int], message: str
) -> None:
    job = Job(
        out=tmp_path, scratch=tmp_path, project=tmp_path, seed=0, metric=metric, mode="min", report=lambda *_: None
    )
    dataset = replace(cancer, rows={**cancer.rows, **rows})
    with pytest.raises(TrainingError, match=message):
        Plugins().build("trainer", Choice(plugin="sklearn")).fit(dataset, job)


def test_an_estimator_that_yaml_cannot_make_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"VotingClassifier cannot be made from a declaration: .*'estimators'"):
        estimator_class("VotingClassifier", "binary")


def test_a_trial_takes_no_more_threads_than_it_was_given(
    tmp_path: Path, cancer: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the estimator has no n_jobs and would take every core."""
    seen, fit = [], HistGradientBoostingClassifier.fit

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append({p["num_threads"] for p in threadpool_info() if p["user_api"] == "openmp"})
        return fit(*args, **kwargs)

    monkeypatch.setattr(HistGradientBoostingClassifier, "fit", counted)
    for cpus in (1, 2):
        job = Job(
            out=tmp_path, scratch=tmp_path, project=tmp_path, seed=0, metric="auroc", mode="max",
            report=lambda step, scores: None, resources={"cpus": cpus},
        )  # fmt: skip
        Plugins().build("trainer", Choice(plugin="sklearn", options={"params": {"max_iter": 3}})).fit(cancer, job)
    assert seen == [{1}, {2}]


def test_part_of_a_processor_is_one_job(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", mixed())
    made = Plugins().build("trainer", Choice(plugin="sklearn", options={"estimator": "RandomForest"}))
    job = Job(
        out=tmp_path, scratch=tmp_path, project=tmp_path, seed=0, metric="auroc", mode="max",
        report=lambda step, scores: None, resources={"cpus": 0.5},
    )  # fmt: skip
    assert made._made(data, job).n_jobs == 1
