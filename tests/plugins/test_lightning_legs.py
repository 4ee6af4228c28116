"""A fit of `trainer: lightning` in legs: each goes on from the checkpoint of another, with options of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_kit import frozen, job, table
from mlops_lightning.trainer import LightningTrainer, Network

from mlops_core.contracts import Dataset, Start
from mlops_core.errors import TrainingError

MODULE = """
import torch
import {namespace} as L


class Own(L.LightningModule):
    def __init__(self, inputs, lr=0.01, scheduled=""):
        super().__init__()
        self.lr, self.scheduled = lr, scheduled
        self.layers = torch.nn.Sequential(torch.nn.Linear(inputs, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2))

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, index):
        x, y = batch
        return torch.nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), self.lr)
        if self.scheduled == "step":
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]
        if self.scheduled == "plateau":
            found = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=10.0)
            return {{"optimizer": optimizer, "lr_scheduler": {{"scheduler": found, "monitor": "n"}}}}
        return optimizer

    def on_train_epoch_end(self):
        self.log("n", 1.0)
"""
SMALL = Network(hidden=(8,), members=2, bins=4)
KINDS = ("built-in", "pytorch_lightning", "lightning.pytorch")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return frozen(tmp_path_factory.mktemp("data"), table("binary", 300), "y", "binary")


def options(kind: str, folder: Path, *, lr: float = 0.01, scheduled: str = "", **more: Any) -> LightningTrainer:
    told: dict[str, Any] = {"epochs": 6, "patience": 0, "threads": 1, "batch_size": 32, "export": "safetensors"} | more
    if kind == "built-in":
        return LightningTrainer(lr=lr, model=SMALL, **told)
    file = f"own_{kind.partition('.')[0]}"
    (folder / f"{file}.py").write_text(MODULE.format(namespace=kind))
    given = {"inputs": "{features}", "lr": lr, "scheduled": scheduled}
    return LightningTrainer(module=f"{file}.Own", module_options=given, **told)


class Fits:
    """Legs in folders of their own, named by their numbers."""

    def __init__(self, root: Path, data: Dataset) -> None:
        self.root, self.data = root, data
        self.seen: list[tuple[int, float]] = []

    def leg(self, number: int, trainer: LightningTrainer, after: int | None = None, steps: int = 2) -> dict[str, Any]:
        """Its checkpoint, where it left one."""
        self.seen.clear()
        scratch = None if after is None else self.root / str(after) / "scratch"
        start = Start(steps=steps, scratch=scratch, after=after)
        self.fit(str(number), trainer, start)
        left = self.root / str(number) / "scratch" / "last.ckpt"
        return dict(torch.load(left, weights_only=True)) if left.exists() else {}

    def fit(self, name: str, trainer: LightningTrainer, start: Start | None = None) -> Any:
        def report(step: int, scores: Any) -> None:
            self.seen.append((step, scores["log_loss"]))

        told: dict[str, Any] = {"metric": "log_loss", "mode": "min", "project": self.root, "report": report}
        return trainer.fit(self.data, job(self.root / name, start=start, **told))


def group(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return dict(checkpoint["optimizer_states"][0]["param_groups"][0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_leg_goes_on_with_another_learning_rate(tmp_path: Path, data: Dataset, kind: str) -> None:
    fits = Fits(tmp_path, data)
    first = fits.leg(0, options(kind, tmp_path, lr=0.01))
    began = fits.seen.copy()
    assert [step for step, _ in began] == [1, 2] and group(first)["lr"] == 0.01
    second = fits.leg(1, options(kind, tmp_path, lr=0.002), after=0)
    assert [step for step, _ in fits.seen] == [3, 4]
    assert group(second)["lr"] == 0.002
    steps = [float(c["optimizer_states"][0]["state"][0]["step"]) for c in (first, second)]
    assert steps[1] == 2 * steps[0], "moments are kept"
    assert fits.seen[0][1] < began[0][1], "it does not begin anew"
    assert abs(fits.seen[0][1] - began[1][1]) < began[0][1] - began[1][1], "it goes on from where it was"
    third = fits.leg(2, options(kind, tmp_path, lr=0.002), after=1)
    assert [step for step, _ in fits.seen] == [5, 6]
    assert third == {}, "all epochs are made: nobody goes on from here"


SAME = [("built-in", {"schedule": name}) for name in ("constant", "cosine", "onecycle")]
SAME += [(kind, {"scheduled": name}) for kind in KINDS[1:] for name in ("", "step")]


@pytest.mark.parametrize(("kind", "told"), SAME)
def test_legs_with_the_same_options_are_one_fit(tmp_path: Path, data: Dataset, kind: str, told: Any) -> None:
    fits = Fits(tmp_path, data)
    for number, after in enumerate([None, 0, 1]):
        trainer = options(kind, tmp_path, epochs=7, **told)
        last = fits.leg(number, trainer, after)
    fits.fit("whole", trainer, Start(steps=6))
    whole = torch.load(tmp_path / "whole" / "scratch" / "last.ckpt", weights_only=True)
    for name, weights in whole["state_dict"].items():
        assert torch.equal(weights, last["state_dict"][name])
    assert group(whole) == group(last)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_a_schedule_of_the_built_in_network_comes_to_its_end_in_legs(
    tmp_path: Path, data: Dataset, schedule: str
) -> None:
    """Another rate scales it; with another batch size it is as far in its steps as it was."""
    fits = Fits(tmp_path, data)
    ways = [{"lr": 0.01, "batch_size": 32}, {"lr": 0.03, "batch_size": 16}, {"lr": 0.02, "batch_size": 64}]
    rates = []
    for number, way in enumerate(ways):
        trainer = options("built-in", tmp_path, schedule=schedule, epochs=7, **way)
        rates.append(group(fits.leg(number, trainer, number - 1 if number else None))["lr"])
    fits.fit("whole", options("built-in", tmp_path, schedule=schedule, epochs=7, lr=0.02), Start(steps=6))
    whole = group(torch.load(tmp_path / "whole" / "scratch" / "last.ckpt", weights_only=True))["lr"]
    assert rates[2] == pytest.approx(whole, rel=0.3)
    assert rates[0] < 0.01 and rates[2] < rates[1] < 0.03


def test_what_a_plateau_took_from_the_rate_stays_taken(tmp_path: Path, data: Dataset) -> None:
    """Lightning halves it after each epoch, after the checkpoint of that epoch."""
    fits, trainer = Fits(tmp_path, data), options(KINDS[1], tmp_path, scheduled="plateau")
    rates = [group(fits.leg(number, trainer, after))["lr"] for number, after in enumerate([None, 0])]
    assert rates == pytest.approx([0.005, 0.0025])


def test_a_schedule_of_the_users_own_goes_on_from_the_new_rate(tmp_path: Path, data: Dataset) -> None:
    """Halved after each epoch: two before, and two of its own."""
    fits = Fits(tmp_path, data)
    kind = KINDS[1]
    assert group(fits.leg(0, options(kind, tmp_path, lr=0.01, scheduled="step")))["lr"] == pytest.approx(0.0025)
    left = group(fits.leg(1, options(kind, tmp_path, lr=0.08, scheduled="step"), after=0))
    assert left["lr"] == pytest.approx(0.08 / 16)


@pytest.mark.parametrize("kind", KINDS)
def test_a_leg_with_another_batch_size_sees_every_row_each_epoch(tmp_path: Path, data: Dataset, kind: str) -> None:
    fits = Fits(tmp_path, data)
    rows, steps = data.rows["train"], []
    for number, size in enumerate([64, 16, 128]):
        left = fits.leg(number, options(kind, tmp_path, epochs=9, batch_size=size), number - 1 if number else None)
        steps.append(left["global_step"])
        assert [step for step, _ in fits.seen] == [2 * number + 1, 2 * number + 2]
    per = [2 * -(-rows // size) for size in (64, 16, 128)]
    assert steps == [per[0], per[0] + per[1], sum(per)]


def test_a_leg_does_not_inherit_what_was_best(tmp_path: Path, data: Dataset) -> None:
    fits = Fits(tmp_path, data)
    good = fits.fit("0", options("built-in", tmp_path, epochs=20, patience=1), Start(steps=4))
    wild = options("built-in", tmp_path, lr=30.0, epochs=20, patience=1)
    bad = fits.fit("1", wild, Start(steps=4, scratch=tmp_path / "0" / "scratch", after=0))
    assert bad["log_loss"] > good["log_loss"], "else a bad change looks as good as what it was made to"
    assert fits.seen[-1][0] > 5, "nor does patience count from there"


def test_a_leg_that_was_killed_is_made_again_from_where_it_began(tmp_path: Path, data: Dataset) -> None:
    fits = Fits(tmp_path, data)
    trainer = options("built-in", tmp_path, lr=0.02, epochs=9)
    fits.leg(0, options("built-in", tmp_path, lr=0.01, epochs=9))
    whole = fits.leg(1, trainer, after=0, steps=3)
    kept = [path.read_bytes() for path in sorted((tmp_path / "1" / "out").iterdir())]

    def dying(step: int, scores: Any) -> None:
        if step == 4:
            raise KeyboardInterrupt

    start = Start(steps=3, scratch=tmp_path / "0" / "scratch", after=0)
    told: dict[str, Any] = {"metric": "log_loss", "mode": "min", "project": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(data, job(tmp_path / "2", start=start, report=dying, **told))
    again = fits.leg(2, trainer, after=0, steps=3)
    assert [step for step, _ in fits.seen] == [5]
    assert again["state_dict"].keys() == whole["state_dict"].keys()
    assert [path.read_bytes() for path in sorted((tmp_path / "2" / "out").iterdir())] == kept
    fits.leg(2, trainer, after=0, steps=3)
    assert [step for step, _ in fits.seen] == [5], "who asks again is told the last step again"


def test_a_leg_without_its_start_says_so(tmp_path: Path, data: Dataset) -> None:
    with pytest.raises(TrainingError, match=r"cannot go on from .*last.ckpt: .*No such file"):
        Fits(tmp_path, data).leg(1, options("built-in", tmp_path), after=0)
