"""Trainers xgboost and lightgbm: what they leave answers as the libraries do, and a killed fit loses nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import polars as pl
import pytest
import xgboost
from lightning_kit import frozen, job, split_columns, table
from mlops_boosting.progress import read_progress
from mlops_boosting.trees import _float32
from threadpoolctl import threadpool_limits

from mlops_core import Encoder, ModelFile, load_onnx, read_split, score
from mlops_core.config import declare
from mlops_core.contracts import Artifact, Choice, Dataset, Mode, Pruned, Scores, Start, Task, restore
from mlops_core.errors import DeclarationError, TrainingError
from mlops_core.flow.failing import told
from mlops_core.plugins import Plugins
from mlops_core.shipped import shipped
from mlops_core.testing import check_trainer
from mlops_core.validation import freeze

BOTH = ("xgboost", "lightgbm")
METRIC: dict[Task, tuple[str, Mode]] = {
    "binary": ("auroc", "max"),
    "multiclass": ("log_loss", "min"),
    "regression": ("rmse", "min"),
}


def trainer(name: str, **options: Any) -> Any:
    return Plugins().build("trainer", Choice(plugin=name, options={"threads": 1, "rounds": 30, **options}))


def work(folder: Path, task: Task, report: Callable[[int, Scores], None] | None = None) -> Any:
    metric, mode = METRIC[task]
    return job(folder, metric=metric, mode=mode, report=report)


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def rich(task: Task, rows: int = 600) -> pl.DataFrame:
    """Numbers, a category of few and one of many values, a boolean, a time and an array; with missing values."""
    rng = np.random.default_rng(1)
    frame = table(task, rows)
    return frame.with_columns(
        town=pl.Series([f"t{i}" for i in rng.integers(0, 40, rows)]),
        whole=pl.Series(rng.integers(0, 9, rows)),
        image=pl.Series(rng.normal(size=(rows, 2, 2)).astype(np.float32)),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Dataset]:
    folder = tmp_path_factory.mktemp("data")
    return {task: frozen(folder / task, rich(task), "y", task) for task in METRIC}


@pytest.mark.parametrize("name", BOTH)
def test_the_contract(name: str, tmp_path: Path) -> None:
    check_trainer(trainer(name, rounds=12), tmp_path)


def native(name: str, folder: Path, columns: Any, rounds: int) -> Any:
    """What the library itself answers, from the checkpoint that the fit left."""
    content, _ = read_progress(folder / "scratch")
    encoder = restore(Encoder, json.loads((folder / "out" / "encoder.json").read_text()))
    inputs = encoder.encode(columns)
    matrix = np.concatenate([inputs["matrix"], inputs["image"].reshape(len(inputs["image"]), -1)], 1)
    if name == "lightgbm":
        return lightgbm.Booster(model_str=content.decode()).predict(matrix, num_iteration=rounds)
    booster = xgboost.Booster(model_file=bytearray(content))
    found = xgboost.DMatrix(matrix, feature_types=booster.feature_types, enable_categorical=True)
    return booster.predict(found, iteration_range=(0, rounds))


def strange(columns: Any) -> Any:
    """Rows as they may be asked: nothing there at all, towns and homes never seen, the edges of what 32 bits hold."""
    rows = len(columns["a"])
    return {
        "a": np.resize([np.nan, 0.0, -1e38, 1e38, np.inf], rows),
        "b": np.full(rows, np.nan),
        "home": np.array(["castle"] * rows, object),
        "married": np.full(rows, np.nan),
        "since": np.full(rows, np.datetime64("NaT"), "datetime64[us]"),
        "town": np.array([None] * rows, object),
        "whole": np.resize([np.nan, -0.0, 4.0], rows),
        "image": np.full((rows, 2, 2), np.nan, np.float32),
    }


@pytest.mark.parametrize("layout", ["native", "ordinal", "onehot"])
@pytest.mark.parametrize("task", METRIC)
@pytest.mark.parametrize("name", BOTH)
def test_onnx_answers_as_the_library(
    name: str, task: Task, layout: str, data: dict[Task, Dataset], tmp_path: Path
) -> None:
    made = trainer(name, layout=layout, subsample=0.8, colsample=0.8, checkpoint_rounds=12)
    scores = made.fit(data[task], work(tmp_path, task))
    model = ModelFile.read(tmp_path / "out")
    predict = load_onnx(tmp_path / "out")
    columns, target = read_split(data[task], "test")
    for asked in (columns, strange(columns)) if name == "lightgbm" else (columns, finite(strange(columns))):
        answer = predict(asked)["prediction" if task == "regression" else "probability"]
        true = native(name, tmp_path, asked, model.extra["rounds"])
        found = answer[:, 1] if task == "binary" else answer
        assert np.abs(found - true).max() <= 1e-5 * max(1.0, np.abs(true).max())
    if task == "regression":
        assert scores["r2"] > 0.5
    else:
        assert scores["auroc"] > 0.8 and score(task, target, predict(columns))["auroc"] > 0.8
    assert sorted(digest(tmp_path / "out")) == ["encoder.json", "model.json", "model.onnx"]


def finite(columns: Any) -> Any:
    """XGBoost refuses to be asked for an infinite number."""
    return {**columns, "a": np.where(np.isinf(columns["a"]), 0.0, columns["a"])}


def test_a_threshold_between_two_numbers_is_rounded_down() -> None:
    for exact in (0.1, -0.1, 1 / 3, 1e300, -1e300, 5e-324, 0.5):
        stored = np.float32(_float32(exact, down=True))
        with np.errstate(all="ignore"):
            around = [np.nextafter(stored, np.float32(to)) for to in (-np.inf, np.inf)]
        for x in (*around, stored, np.float32(np.inf), np.float32(-np.inf)):
            assert (float(x) <= exact) == bool(x <= stored), (exact, x)


@pytest.mark.parametrize("name", BOTH)
def test_numbers_that_lie_on_a_threshold(name: str, data: dict[Task, Dataset], tmp_path: Path) -> None:
    trainer(name, layout="ordinal").fit(data["binary"], work(tmp_path, "binary"))
    (trees,) = (
        n for n in onnx.load(tmp_path / "out" / "model.onnx").graph.node if n.op_type.startswith("TreeEnsemble")
    )
    stored = np.array(next(a.floats for a in trees.attribute if a.name == "nodes_values"), np.float32)
    stored = np.unique(stored[np.abs(stored) > 1e-30])  # what is nearer to 0 LightGBM takes for 0
    beside = [np.nextafter(stored, np.float32(to)) for to in (-np.inf, np.inf)]
    asked = np.concatenate([stored, *beside]).astype(np.float64)
    columns = {k: np.resize(v, (len(asked), *v.shape[1:])) for k, v in split_columns(data["binary"], "test")[0].items()}
    columns |= {"a": asked, "b": asked, "whole": asked}
    answer = load_onnx(tmp_path / "out")(columns)["probability"][:, 1]
    rounds = ModelFile.read(tmp_path / "out").extra["rounds"]
    assert np.abs(answer - native(name, tmp_path, columns, rounds)).max() <= 1e-6


@pytest.mark.parametrize("loss", ["absolute", "huber", "poisson", "gamma", "tweedie"])
@pytest.mark.parametrize("name", BOTH)
def test_losses_of_a_regression(name: str, loss: str, tmp_path: Path) -> None:
    frame = table("regression").with_columns(y=(pl.col("y") / 200).exp())
    found = frozen(tmp_path / "d", frame, "y", "regression")
    scores = trainer(name, loss=loss).fit(found, work(tmp_path, "regression"))
    assert scores["r2"] > 0.2
    with pytest.raises(TrainingError, match=f"loss '{loss}' is for regression, and this is a binary task"):
        binary = frozen(tmp_path / "b", table("binary"), "y", "binary")
        trainer(name, loss=loss).fit(binary, work(tmp_path / "w", "binary"))


@pytest.mark.parametrize("name", BOTH)
def test_the_best_round_is_kept(name: str, data: dict[Task, Dataset], tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    made = trainer(name, rounds=400, learning_rate=0.5, patience=20, score_rounds=4)
    scores = made.fit(data["binary"], work(tmp_path, "binary", lambda step, s: seen.append((step, s["auroc"]))))
    best = max(value for _, value in seen)
    kept = ModelFile.read(tmp_path / "out").extra["rounds"]
    assert scores["auroc"] == pytest.approx(best, abs=1e-6)
    assert kept == next(step for step, value in seen if value == best)
    assert [step for step, _ in seen] == list(range(4, kept + 21, 4))  # and not the 400 rounds declared


@pytest.mark.parametrize("name", BOTH)
def test_a_tuner_ends_a_fit(name: str, data: dict[Task, Dataset], tmp_path: Path) -> None:
    seen: list[int] = []

    def report(step: int, scores: Scores) -> None:
        seen.append(step)
        if step == 10:
            raise Pruned

    with pytest.raises(Pruned):
        trainer(name).fit(data["binary"], work(tmp_path, "binary", report))
    assert seen == [5, 10] and not list((tmp_path / "out").iterdir())


KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {kits!r})
    from lightning_kit import frozen, job, table
    from mlops_core.contracts import Choice
    from mlops_core.plugins import Plugins

    def report(step, scores):
        if step == 25:
            os.kill(os.getpid(), signal.SIGKILL)

    data = frozen(Path({data!r}), table("binary", 400), "y", "binary")
    made = Plugins().build("trainer", Choice(plugin={name!r}, options={options!r}))
    made.fit(data, job(Path({folder!r}), report=report))
"""


@pytest.mark.parametrize("name", BOTH)
def test_a_killed_fit_goes_on_and_leaves_the_same_bytes(name: str, tmp_path: Path) -> None:
    options = {"threads": 1, "rounds": 40, "checkpoint_rounds": 10, "subsample": 0.7, "colsample": 0.7}
    kits = str(Path(__file__).parents[1] / "kits")
    words = {"kits": kits, "data": str(tmp_path / "d"), "folder": str(tmp_path / "killed")}
    code = textwrap.dedent(KILLED).format(name=name, options=options, **words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    _, progress = read_progress(tmp_path / "killed" / "scratch")
    assert progress.rounds == 20 and not progress.finished

    whole = frozen(tmp_path / "d", table("binary", 400), "y", "binary")
    seen: list[int] = []
    made = Plugins().build("trainer", Choice(plugin=name, options=options))
    scores = made.fit(whole, work(tmp_path / "killed", "binary", lambda step, _: seen.append(step)))
    assert seen == [25, 30, 35, 40]
    assert scores == made.fit(whole, work(tmp_path / "unbroken", "binary"))
    assert digest(tmp_path / "killed" / "out") == digest(tmp_path / "unbroken" / "out")

    (checkpoint,) = (tmp_path / "killed" / "scratch").glob("*.model")
    os.truncate(checkpoint, 1000)
    seen.clear()
    made.fit(whole, work(tmp_path / "killed", "binary", lambda step, _: seen.append(step)))
    assert seen[0] == 5  # a damaged checkpoint counts for nothing
    assert digest(tmp_path / "killed" / "out") == digest(tmp_path / "unbroken" / "out")


@pytest.mark.parametrize("name", BOTH)
def test_a_fit_killed_after_its_last_round_is_only_left_again(
    name: str, data: dict[Task, Dataset], tmp_path: Path
) -> None:
    first = trainer(name).fit(data["binary"], work(tmp_path, "binary"))
    left = digest(tmp_path / "out")
    seen: list[int] = []
    assert trainer(name).fit(data["binary"], work(tmp_path, "binary", lambda step, _: seen.append(step))) == first
    assert (seen, digest(tmp_path / "out")) == ([], left)


@pytest.mark.parametrize("name", BOTH)
def test_a_leg_goes_on_with_other_options(name: str, data: dict[Task, Dataset], tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    def leg(number: int, after: int | None, steps: int = 12, **options: Any) -> Any:
        seen.clear()
        scratch = None if after is None else tmp_path / str(after) / "scratch"
        told = work(tmp_path / str(number), "multiclass", lambda step, scores: seen.append((step, scores["log_loss"])))
        start = Start(steps=steps, scratch=scratch, after=after)
        return trainer(name, **options).fit(data["multiclass"], dataclasses.replace(told, start=start))

    def trees(number: int) -> int:
        card = json.loads((tmp_path / str(number) / "out" / "model.json").read_text())
        return int(card["extra"]["rounds"])

    first = leg(0, None, learning_rate=0.1)
    began = seen.copy()
    assert [step for step, _ in seen] == [5, 10, 12]
    mild = leg(1, 0, learning_rate=0.1, max_depth=3)
    assert [step for step, _ in seen] == [15, 20, 24] and began[-1][1] > seen[0][1]
    left = digest(tmp_path / "1" / "out")
    assert leg(1, 0, learning_rate=0.1, max_depth=3) == mild and [step for step, _ in seen] == [24]
    assert digest(tmp_path / "1" / "out") == left, "who asks again is told the last round again"
    assert trees(1) > 12 and mild["log_loss"] < first["log_loss"]
    wild = leg(2, 0, learning_rate=1.0, patience=2)
    assert wild["log_loss"] != mild["log_loss"] and trees(2) > 12, "what was best begins anew"
    leg(3, 1, learning_rate=0.2)
    assert seen[-1][0] == 30 and not any((tmp_path / "3" / "scratch").iterdir()), "all rounds are made"
    with pytest.raises(TrainingError, match=r"cannot go on from .*: it holds no whole checkpoint"):
        leg(4, 3)


@pytest.mark.parametrize("name", BOTH)
def test_another_seed_gives_other_trees(name: str, data: dict[Task, Dataset], tmp_path: Path) -> None:
    def left(seed: int, place: str) -> dict[str, str]:
        trainer(name, subsample=0.7).fit(data["binary"], job(tmp_path / place, seed=seed))
        return digest(tmp_path / place / "out")

    assert left(2**40, "a") == left(2**40, "b") != left(2, "c")


@pytest.mark.parametrize("name", BOTH)
def test_weights_and_balance_count(name: str, tmp_path: Path) -> None:
    frame = table("binary", 400).with_columns(w=pl.when(pl.col("y") == "yes").then(20.0).otherwise(1.0))
    data = frozen(tmp_path / "d", frame, "y", "binary", roles={"w": "weight"})
    plain = frozen(tmp_path / "p", frame.drop("w"), "y", "binary")

    def share(found: Dataset, place: str, **options: Any) -> float:
        trainer(name, patience=0, **options).fit(found, work(tmp_path / place, "binary"))
        return float(load_onnx(tmp_path / place / "out")(read_split(found, "test")[0])["probability"][:, 1].mean())

    bare = share(plain, "bare")
    assert share(data, "weighed") > bare + 0.1
    assert share(plain, "balanced", class_weight="balanced") > bare + 0.05


@pytest.mark.parametrize("name", BOTH)
def test_an_answer_may_only_rise(name: str, data: dict[Task, Dataset], tmp_path: Path) -> None:
    columns, _ = split_columns(data["binary"], "test")
    rows = {k: np.repeat(v[:20], 50, 0) for k, v in columns.items()} | {"a": np.tile(np.linspace(20, 80, 50), 20)}

    def steps(place: str, **options: Any) -> Any:
        trainer(name, **options).fit(data["binary"], work(tmp_path / place, "binary"))
        answer = load_onnx(tmp_path / place / "out")(rows)["probability"][:, 1]
        return np.diff(answer.reshape(20, 50), axis=1)

    free, held = steps("free"), steps("held", monotone={"a": 1})
    assert free.min() < -1e-3 and free.max() > 0.1
    assert held.min() >= -1e-6 and held.max() > 0.1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("xgboost", {"params": {"gama": 1}}, "params.gama: XGBoost's trees have no such parameter; did you mean 'ga"),
        ("xgboost", {"params": {"max_bin": "many"}}, "XGBoost refuses: Invalid Parameter format for max_bin expect"),
        ("xgboost", {"params": {"max_bin": -1}}, "XGBoost refuses: value -1 for Parameter max_bin should be greater"),
        ("xgboost", {"params": {"device": "cuda:7"}}, "params.device: XGBoost finds no device 'cuda:7' here"),
        ("lightgbm", {"params": {"max_bim": 9}}, "params.max_bim: LightGBM has no such parameter by this name; did"),
        ("lightgbm", {"params": {"max_bin": "many"}}, "LightGBM refuses: Parameter max_bin should be of type int, got"),
        ("lightgbm", {"params": {"max_bin": -4}}, "LightGBM refuses: Check failed: (max_bin) > (1)"),
        ("xgboost", {"monotone": {"aa": 1}}, "monotone.aa is no number, boolean or time feature; did you mean 'a'?"),
        ("lightgbm", {"monotone": {"home": 1}}, "monotone.home is no number, boolean or time feature; "),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_told(
    name: str, options: Any, message: str, data: dict[Task, Dataset], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError) as error:
        trainer(name, **options).fit(data["binary"], work(tmp_path, "binary"))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", BOTH)
def test_data_that_cannot_be_fitted_is_told(name: str, tmp_path: Path) -> None:
    frame = table("binary").with_columns(b=pl.when(pl.col("b") > 2000).then(1e39).otherwise(pl.col("b")))
    huge = frozen(tmp_path / "d", frame, "y", "binary")
    with pytest.raises(TrainingError, match=r"column 'b' holds a number that is infinite, or beyond what 32 bits hold"):
        trainer(name).fit(huge, work(tmp_path, "binary"))
    fine = frozen(tmp_path / "f", table("binary"), "y", "binary")
    with pytest.raises(TrainingError, match=r"metric 'rmse' is none of a binary task; "):
        trainer(name).fit(fine, work(tmp_path, "regression"))
    one = frozen(tmp_path / "o", table("binary"), "y", "binary")
    pl.read_parquet(one.split("train")).filter(pl.col("y") == "no").write_parquet(one.split("train"))
    with pytest.raises(TrainingError, match=r"the train split holds no row of class 'yes' that weighs something"):
        trainer(name).fit(one, work(tmp_path, "binary"))
    frame = table("binary").with_columns(w=pl.lit(-1.0))
    below = frozen(tmp_path / "w", frame, "y", "binary", roles={"w": "weight"})
    with pytest.raises(TrainingError, match=r"column 'w' has role weight and holds a number below 0"):
        trainer(name).fit(below, work(tmp_path, "binary"))
    counts = frozen(tmp_path / "r", table("regression"), "y", "regression")  # with values below 0
    with pytest.raises(TrainingError, match=r"refuses: "):
        trainer(name, loss="gamma").fit(counts, work(tmp_path, "regression"))


@pytest.mark.parametrize("name", BOTH)
def test_columns_that_tell_nothing(name: str, tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1.0] * 200, "y": ["no", "no", "yes", "no"] * 50})
    data = frozen(tmp_path / "d", frame, "y", "binary")
    scores = trainer(name, patience=0).fit(data, work(tmp_path, "binary"))
    answer = load_onnx(tmp_path / "out")(read_split(data, "test")[0])["probability"]
    assert scores["auroc"] == 0.5 and answer[:, 1] == pytest.approx(0.25, abs=0.02)


def test_threads_follow_the_job(tmp_path: Path) -> None:
    given = job(tmp_path, resources={"cpus": 1.5})
    assert trainer("xgboost", threads=0).cpus(given, 10) == 2
    assert trainer("lightgbm", threads=3).cpus(given, 10) == 3
    assert trainer("lightgbm", threads=0).cpus(job(tmp_path), 10) == 1
    assert trainer("lightgbm", threads=0).cpus(job(tmp_path), 10**12) == os.cpu_count()


@pytest.mark.parametrize("name", BOTH)
def test_a_missing_library_is_told(name: str, tmp_path: Path) -> None:
    error = ModuleNotFoundError(f"No module named {name!r}", name=name)
    words = str(told(tmp_path, tmp_path, "train", error))
    assert words == (
        f"train needs {name!r}, which is not installed; run python -m pip install 'mlops-core-framework[{name}]'"
    )


def declaration(folder: Path, name: str, trainer: str, space: str) -> Any:
    (folder / "conf").mkdir(exist_ok=True)
    (folder / "conf" / "config.yaml").write_text(
        f"defaults: [base, {{data: csv}}, {{trainer: {name}}}, {{tuner: grid}}, _self_]\n"
        "name: p\nmetric: auroc\ndata: {path: data.csv, target: y}\n"
        f"trainer: {trainer}\ntuner:\n  space: {space}\n"
    )
    (folder / "data.csv").write_text("a,y\n1,0\n")
    return declare(folder)


@pytest.mark.parametrize("name", BOTH)
def test_the_declaration_is_checked(name: str, tmp_path: Path) -> None:
    found = declaration(tmp_path, name, "{rounds: 20, params: {max_bin: 64}}", "{trainer.max_depth: 'randint(2, 8)'}")
    assert found.trainer.plugin == name and found.space["trainer.max_depth"].args == (2, 8)
    for trainer, space, message in (
        ("{}", "{trainer.max_depth: 'uniform(-3, 8)'}", "it reaches a value that trainer.max_depth cannot have"),
        ("{}", "{trainer.max_dept: 'randint(2, 8)'}", "did you mean 'trainer.max_depth'?"),
        ("{subsample: 0}", "{trainer.max_depth: 'randint(2, 8)'}", "trainer.subsample: expected number, more than 0"),
        ("{params: {eta: 0.1}}", "{trainer.max_depth: 'randint(2, 8)'}", "params.eta: set the option learning_rate"),
        ("{params: {seed: 1}}", "{trainer.max_depth: 'randint(2, 8)'}", "params.seed cannot be set: the seed is"),
    ):
        with pytest.raises(DeclarationError) as error:
            declaration(tmp_path, name, trainer, space)
        assert message in str(error.value)


def test_credit_is_as_good_as_with_scikit_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declared = declare(shipped("recipes") / "credit")
    (tmp_path / "data").mkdir()
    source = Plugins().build("data", declared.data)
    left = freeze(source.read(), declared, tmp_path / "data", tmp_path / "quarantine.parquet")
    data = Dataset(
        name="credit", artifact=Artifact(address="", sha256="", size=0, files=3), path=tmp_path / "data",
        columns=left.columns, rows=left.rows, task=left.task, target=left.target, classes=left.classes,
    )  # fmt: skip
    columns, target = read_split(data, "test")
    found = {}
    for name in (*BOTH, "sklearn"):
        made = Plugins().build("trainer", Choice(plugin=name))
        with threadpool_limits(1):
            made.fit(data, work(tmp_path / name, "binary"))
        found[name] = score("binary", target, load_onnx(tmp_path / name / "out")(columns))["auroc"]
    with capsys.disabled():
        print("\ncredit, AUROC on the test split: " + ", ".join(f"{n} {v:.4f}" for n, v in found.items()))
    assert min(found["xgboost"], found["lightgbm"]) >= found["sklearn"] - 0.02
