"""`trainer: lightning` with the built-in network, on small tables with missing values."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightning_kit import frozen, job, split_columns, table
from mlops_lightning.trainer import LightningTrainer, Network

from mlops_core import ModelFile, load_onnx, score
from mlops_core.contracts import Choice, Pruned
from mlops_core.errors import PluginError, TrainingError
from mlops_core.plugins import Plugins, options_of

SMALL = Network(hidden=(32,), members=4, bins=8)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.mark.parametrize(
    ("task", "metric", "bound"), [("binary", "auroc", 0.85), ("multiclass", "accuracy", 0.6), ("regression", "r2", 0.5)]
)
def test_learns_each_task_with_missing_values_and_exports_it(
    tmp_path: Path, task: Any, metric: str, bound: float
) -> None:
    data = frozen(tmp_path / "data", table(task, 600), "y", task)
    seen: list[int] = []
    work = job(tmp_path, metric=metric, report=lambda step, scores: seen.append(step))
    scores = LightningTrainer(threads=1, epochs=25, lr=0.01, batch_size=64, model=SMALL).fit(data, work)

    assert seen == list(range(1, len(seen) + 1))
    assert scores[metric] > bound
    columns, target = split_columns(data, "test")
    answer = load_onnx(work.out)(columns)
    assert score(task, target, answer)[metric] > bound - 0.15
    model = ModelFile.read(work.out)
    assert (model.format, model.task, model.classes) == ("onnx", task, data.classes)
    if task == "multiclass":
        assert set(answer["prediction"]) <= {0, 1, 2}, "labels come back as the type of the target column"
    if task != "regression":
        assert np.allclose(np.asarray(answer["probability"]).sum(1), 1, atol=1e-5)


def test_answers_for_unknown_categories_and_rows_of_nothing(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    work = job(tmp_path)
    LightningTrainer(threads=1, epochs=1, model=SMALL).fit(data, work)
    nothing = {
        "a": np.array([np.nan]), "b": np.array([np.nan]), "home": np.array([None], object),
        "married": np.array([np.nan]), "since": np.array(["NaT"], "datetime64[us]"),
    }  # fmt: skip
    for row in (nothing, nothing | {"home": np.array(["castle"], object), "a": np.array([1e30])}):
        assert np.isfinite(load_onnx(work.out)(row)["probability"]).all()


def test_same_seed_and_data_leave_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    left = []
    for number, seed in enumerate((1, 1, 2)):
        work = job(tmp_path / str(number), seed=seed)
        LightningTrainer(threads=1, epochs=3, model=SMALL).fit(data, work)
        left.append(digests(work.out))
    assert left[0] == left[1]
    assert left[0]["model.onnx"] != left[2]["model.onnx"]


def test_the_best_epoch_is_kept_and_patience_ends_the_fit(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    seen: list[float] = []
    work = job(tmp_path, metric="log_loss", mode="min", report=lambda step, scores: seen.append(scores["log_loss"]))
    scores = LightningTrainer(threads=1, epochs=200, lr=0.05, batch_size=32, patience=4, model=SMALL).fit(data, work)
    assert len(seen) < 200
    assert seen.index(min(seen)) == len(seen) - 5
    assert scores["log_loss"] == min(seen)
    columns, target = split_columns(data, "validation")
    assert score("binary", target, load_onnx(work.out)(columns))["log_loss"] == pytest.approx(min(seen), abs=1e-4)


def test_a_pruned_trial_passes_through(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")

    def report(step: int, scores: Any) -> None:
        if step == 2:
            raise Pruned

    with pytest.raises(Pruned):
        LightningTrainer(threads=1, epochs=5, model=SMALL).fit(data, job(tmp_path, report=report))


def test_what_a_tuner_raises_is_not_blamed_on_the_module(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")

    def report(step: int, scores: Any) -> None:
        raise RuntimeError("the tuner's own")

    with pytest.raises(RuntimeError, match="the tuner's own"):
        LightningTrainer(threads=1, epochs=5, model=SMALL).fit(data, job(tmp_path, report=report))


def test_ctrl_c_stays_an_interrupt_and_works_again(tmp_path: Path) -> None:
    import signal

    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    before = signal.getsignal(signal.SIGINT)

    def report(step: int, scores: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LightningTrainer(threads=1, epochs=5, model=SMALL).fit(data, job(tmp_path, report=report))
    assert signal.getsignal(signal.SIGINT) is before


def test_prints_nothing_and_leaves_the_process_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging
    import random

    import torch

    monkeypatch.chdir(tmp_path)
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    states = (
        torch.get_rng_state(),
        random.getstate(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
    )
    level = logging.getLogger("pytorch_lightning").level
    LightningTrainer(epochs=2, threads=1, model=SMALL).fit(data, job(tmp_path))
    out, err = capfd.readouterr()
    assert out + err == ""
    assert {p.name for p in tmp_path.iterdir()} == {"data", "out", "scratch"}
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())
    assert logging.getLogger("pytorch_lightning").level == level


def test_rare_classes_count_as_much_when_balanced(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary", 600), "y", "binary")
    means = []
    for weight in ("none", "balanced"):
        work = job(tmp_path / weight)
        LightningTrainer(threads=1, epochs=5, lr=0.01, class_weight=weight, model=SMALL).fit(data, work)  # type: ignore[arg-type]
        means.append(np.mean(np.asarray(load_onnx(work.out)(split_columns(data, "test")[0])["probability"])[:, 1]))
    assert means[1] > means[0] + 0.05


def test_rows_count_by_their_weight(tmp_path: Path) -> None:
    frame = table("regression", 300).with_columns(w=pl.Series(np.r_[np.zeros(150), np.ones(150)]))
    frame = frame.with_columns(y=pl.when(pl.col("w") == 0).then(1e6).otherwise(pl.col("y")))
    data = frozen(tmp_path / "data", frame, "y", "regression", roles={"w": "weight"})
    work = job(tmp_path, metric="mae", mode="min")
    scores = LightningTrainer(threads=1, epochs=40, lr=0.05, patience=0, batch_size=64, model=SMALL).fit(data, work)
    assert scores["mae"] < 2e5, "rows of weight 0 pull nothing"


def test_arrays_and_numbers_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(300, 2, 3)).astype(np.float32)
    frame = pl.DataFrame(
        {
            "p": pl.Series(pixels, dtype=pl.Array(pl.Float32, (2, 3))),
            "n": rng.normal(size=300),
            "y": (pixels[:, 0, 0] > 0).astype(int),
        }
    )
    data = frozen(tmp_path / "data", frame, "y", "binary")
    work = job(tmp_path)
    assert LightningTrainer(threads=1, epochs=15, lr=0.01, batch_size=32, model=SMALL).fit(data, work)["auroc"] > 0.85
    answer = load_onnx(work.out)(split_columns(data, "test")[0])
    assert set(answer["prediction"]) <= {0, 1}


def test_a_streamed_split_gives_every_row_once(tmp_path: Path) -> None:
    from mlops_lightning.learning.data import Batches

    from mlops_core import Encoder

    data = frozen(tmp_path / "data", table("regression", 300), "y", "regression")
    encoder = Encoder.fit(data, layout="split")
    whole = Batches(data, "train", encoder, 32)
    rows = sorted(v for batch in whole for v in batch.target.tolist())
    for seed in (None, 5):
        streamed = Batches(data, "train", encoder, 32, seed=seed, budget=10_000)
        assert len(streamed.pieces) > 3
        assert sorted(v for batch in streamed for v in batch.target.tolist()) == rows
        assert len(list(streamed)) == len(streamed) == math.ceil(len(rows) / 32)
    streamed.epoch = 1
    first = next(iter(streamed)).target.tolist()
    assert first == next(iter(streamed)).target.tolist()
    streamed.epoch = 2
    assert first != next(iter(streamed)).target.tolist()


def test_a_split_larger_than_its_budget_is_learnt_from_in_pieces(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary", 20_000), "y", "binary")
    work = job(tmp_path)
    scores = LightningTrainer(threads=1, epochs=1, lr=0.01, memory_mb=1, model=SMALL).fit(data, work)
    assert scores["auroc"] > 0.85


def test_a_lone_last_row_is_left_out_of_training_batches(tmp_path: Path) -> None:
    from mlops_lightning.learning.data import Batches

    from mlops_core import Encoder

    data = frozen(tmp_path / "data", table("regression", 300), "y", "regression")
    size = data.rows["train"] - 1
    batches = Batches(data, "train", Encoder.fit(data), size, seed=0)
    assert [len(b) for b in batches] == [size]
    assert len(batches) == 1
    assert [len(b) for b in Batches(data, "train", Encoder.fit(data), size)] == [size, 1]


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_schedules_and_optimisers_run(tmp_path: Path, schedule: Any, optimizer: Any) -> None:
    data = frozen(tmp_path / "data", table("binary", 100), "y", "binary")
    trainer = LightningTrainer(
        threads=1, epochs=2, schedule=schedule, optimizer=optimizer, gradient_clip=1.0, model=SMALL
    )
    assert math.isfinite(trainer.fit(data, job(tmp_path))["auroc"])


def test_wrong_ways_are_told_before_any_work(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    with pytest.raises(TrainingError, match="metric 'aurok' is none of a binary task; did you mean 'auroc'"):
        LightningTrainer().fit(data, job(tmp_path, metric="aurok"))
    with pytest.raises(TrainingError, match=r"Lightning refuses accelerator, devices or precision: .*abacus"):
        LightningTrainer(accelerator="abacus").fit(data, job(tmp_path))
    with pytest.raises(TrainingError, match="auroc was never a finite number in 1 epochs"):
        LightningTrainer(threads=1, epochs=1, lr=1e30, optimizer="sgd", schedule="constant").fit(data, job(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "epoch: unknown option; did you mean 'epochs'?"),
        ({"epochs": 0}, "epochs: expected whole number, at least 1, got 0"),
        ({"model": {"hiden": [3]}}, "model.hiden: unknown option; did you mean 'hidden'?"),
        ({"model": {"dropout": 1.0}}, "model.dropout: expected number, at least 0, less than 1, got 1.0"),
        ({"schedule": "cosin"}, "schedule: unknown value 'cosin'; did you mean 'cosine'?"),
        ({"module_options": {"a": 1}}, "module_options needs module"),
        ({"output": "logits"}, "output needs module"),
        ({"layout": "ordinal"}, "layout needs module"),
        ({"module": "net.Net", "lr": 0.1}, "lr is an option of the built-in network and does nothing for net.Net"),
    ],
)
def test_wrong_options_are_told_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match="cannot be built") as caught:
        Plugins().build("trainer", Choice(plugin="lightning", options=options))
    assert message in str(caught.value)


def test_every_option_is_documented_and_lists_become_tuples() -> None:
    assert [o.name for o in options_of(LightningTrainer) if not o.doc] == []
    assert [o.name for o in options_of(Network) if not o.doc] == []
    built = Plugins().build(
        "trainer", Choice(plugin="lightning", options={"model": {"hidden": [8, 4]}, "devices": [0]})
    )
    assert (built.model.hidden, built.devices) == ((8, 4), (0,))
