"""`trainer: lightning` with modules of the user's own, unchanged, of both namespaces."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightning_kit import frozen, job, split_columns, table
from mlops_lightning.trainer import LightningTrainer

from mlops_core import load_onnx, score
from mlops_core.contracts import Dataset
from mlops_core.errors import TrainingError

NET = """
import torch
import {lightning} as L
from torch import nn
from torch.nn import functional as F
from sizes import HIDDEN


class Net(L.LightningModule):
    def __init__(self, inputs, classes: int = 2, lr: float = 0.01):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.hparams.lr)


class NotOne(nn.Module):
    pass


class Data(L.LightningDataModule):
    def __init__(self, train: str, held: str, size: int = 16):
        super().__init__()
        self.train, self.held, self.size = train, held, size

    def loader(self, path, shuffle):
        import polars as pl

        frame = pl.read_parquet(path)
        x = torch.tensor(frame["p"].to_numpy().reshape(len(frame), -1))
        y = torch.tensor(frame["y"].to_list())
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), self.size, shuffle=shuffle)

    def train_dataloader(self):
        return self.loader(self.train, True)

    def val_dataloader(self):
        return self.loader(self.held, False)
"""
OPTIONS = {"inputs": "{features}", "classes": "{classes}"}


def write(project: Path, code: str = NET, name: str = "net", lightning: str = "pytorch_lightning") -> None:
    project.mkdir(exist_ok=True)
    (project / f"{name}.py").write_text(textwrap.dedent(code).replace("{lightning}", lightning))
    (project / "sizes.py").write_text("HIDDEN = 8\n")


def pixels(path: Path, rows: int = 300) -> Dataset:
    """2 x 3 pixels; the class is told by two of them."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(rows, 2, 3)).astype(np.float32)
    y = (image[:, 0, 0] > 0).astype(int) + (image[:, 1, 1] > 0)
    frame = pl.DataFrame({"p": pl.Series(image, dtype=pl.Array(pl.Float32, (2, 3))), "y": y})
    return frozen(path, frame, "y", "multiclass")


@pytest.mark.parametrize("lightning", ["pytorch_lightning", "lightning.pytorch"])
def test_a_module_of_either_namespace_is_trained_as_it_is(tmp_path: Path, lightning: str) -> None:
    project = tmp_path / "project"
    write(project, lightning=lightning)
    data = pixels(tmp_path / "data")
    seen: list[Any] = []
    work = job(tmp_path, metric="accuracy", project=project, report=lambda step, scores: seen.append(scores))
    trainer = LightningTrainer(epochs=12, threads=1, batch_size=16, module="net.Net", module_options=OPTIONS)
    scores = trainer.fit(data, work)
    assert scores["accuracy"] > 0.7
    assert {"val_loss", "auroc", "log_loss"} <= set(scores)
    assert scores["val_loss"] == pytest.approx(scores["log_loss"], abs=0.02), "the module's loss and the core's agree"
    assert len(seen) <= 12
    columns, target = split_columns(data, "test")
    assert score("multiclass", target, load_onnx(work.out)(columns))["accuracy"] > 0.65


def test_a_table_reaches_a_module_as_one_matrix(tmp_path: Path) -> None:
    write(tmp_path)
    data = frozen(tmp_path / "data", table("binary"), "y", "binary")
    options: Any = {"module": "net:Net", "module_options": {"inputs": "{features}"}}
    trainer = LightningTrainer(epochs=8, threads=1, batch_size=16, **options)
    assert trainer.fit(data, job(tmp_path))["auroc"] > 0.8
    assert trainer.modules() == ("net",)


def test_a_datamodule_brings_its_own_batches(tmp_path: Path) -> None:
    write(tmp_path)
    data = pixels(tmp_path / "data")
    trainer = LightningTrainer(
        epochs=12, threads=1, module="net.Net", module_options=OPTIONS, datamodule="net.Data",
        datamodule_options={"train": "{train}", "held": "{validation}"},
    )  # fmt: skip
    work = job(tmp_path, metric="accuracy")
    assert trainer.fit(data, work)["accuracy"] > 0.7
    first = (work.out / "model.onnx").read_bytes()
    again = job(tmp_path / "again", metric="accuracy", project=tmp_path)
    trainer.fit(data, again)
    assert (again.out / "model.onnx").read_bytes() == first, "shuffling of its own is seeded too"


def test_a_metric_that_the_module_logs_can_be_the_one(tmp_path: Path) -> None:
    write(tmp_path)
    data = pixels(tmp_path / "data")
    trainer = LightningTrainer(epochs=3, threads=1, module="net.Net", module_options=OPTIONS)
    assert trainer.fit(data, job(tmp_path, metric="val_loss", mode="min"))["val_loss"] < 1.5


def test_what_a_module_logs_only_a_fit_can_tell() -> None:
    assert LightningTrainer(module="nets.Net").reports() is None
    assert LightningTrainer().reports() == ()


def test_answers_overheard_in_validation_equal_those_asked_for(tmp_path: Path) -> None:
    silent = NET.replace("F.cross_entropy(self(x), y))", "F.cross_entropy(self.layers(x), y))")
    scores = []
    for name, code in (("heard", NET), ("silent", silent)):
        write(tmp_path / name, code)
        asked = job(tmp_path / name, metric="auroc", project=tmp_path / name)
        options: Any = {"epochs": 3, "threads": 1, "module": "net.Net", "module_options": OPTIONS}
        scores.append(LightningTrainer(**options).fit(pixels(tmp_path / "data"), asked))
    assert scores[0] == scores[1]


HEADS = """
    import torch, pytorch_lightning as L

    class {name}(L.LightningModule):
        def __init__(self, inputs=5):
            super().__init__()
            self.layer = torch.nn.LazyLinear({outputs})

        def forward(self, x):
            return {answer}

        def training_step(self, batch, index):
            x, y = batch
            return ((self.layer(x)[:, 0] - y.float()) ** 2).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.05)
"""


@pytest.mark.parametrize(
    ("task", "outputs", "answer"),
    [
        ("binary", 1, "self.layer(x)"),
        ("binary", 1, "self.layer(x).sigmoid().squeeze(1)"),
        ("binary", 2, "(self.layer(x).softmax(1), None)"),
        ("regression", 1, "self.layer(x)[:, 0]"),
    ],
)
def test_answers_of_any_usual_form_are_understood(tmp_path: Path, task: Any, outputs: int, answer: str) -> None:
    code = HEADS.replace("{name}", "Head").replace("{outputs}", str(outputs)).replace("{answer}", answer)
    write(tmp_path, code, name="heads")
    data = frozen(tmp_path / "data", table(task), "y", task)
    metric = "rmse" if task == "regression" else "auroc"
    work = job(tmp_path, metric=metric, mode="min" if task == "regression" else "max")
    LightningTrainer(epochs=1, threads=1, module="heads.Head").fit(data, work)
    answers = load_onnx(work.out)(split_columns(data, "test")[0])
    if task == "binary":
        given = np.asarray(answers["probability"])
        assert given.shape == (data.rows["test"], 2)
        assert np.allclose(given.sum(1), 1, atol=1e-5)
        assert given.min() >= 0


def test_parts_that_the_module_froze_stay_frozen(tmp_path: Path) -> None:
    frozen_part = "nn.Linear(HIDDEN, classes))\n        self.part = nn.Dropout().eval()"
    code = NET.replace("nn.Linear(HIDDEN, classes))", frozen_part)
    write(
        tmp_path,
        code.replace("x, y = batch\n        return", "x, y = batch; assert not self.part.training\n        return"),
    )
    trainer = LightningTrainer(epochs=2, threads=1, module="net.Net", module_options=OPTIONS)
    trainer.fit(pixels(tmp_path / "data", 60), job(tmp_path, metric="accuracy"))


def test_what_a_module_does_to_its_checkpoints_does_not_touch_the_best_weights(tmp_path: Path) -> None:
    code = NET.replace(
        "class NotOne",
        """    def on_save_checkpoint(self, checkpoint):
        import numpy as np

        checkpoint["told"] = np.float64(1)
        checkpoint["state_dict"].clear()


class NotOne""",
    )
    write(tmp_path, code)
    work = job(tmp_path, metric="accuracy")
    LightningTrainer(epochs=1, threads=1, module="net.Net", module_options=OPTIONS).fit(pixels(tmp_path / "data"), work)
    assert (work.out / "model.onnx").exists()


@pytest.mark.parametrize("helper", ["sizes", "mlops_sizes"])
def test_an_edited_module_is_taken_anew_in_the_same_process(tmp_path: Path, helper: str) -> None:
    write(tmp_path, NET.replace("from sizes", f"from {helper}"))
    data = pixels(tmp_path / "data")
    sizes = []
    for hidden in (8, 64):
        (tmp_path / f"{helper}.py").write_text(f"HIDDEN = {hidden}\n")
        work = job(tmp_path / str(hidden), metric="accuracy", project=tmp_path)
        LightningTrainer(epochs=1, threads=1, module="net.Net", module_options=OPTIONS).fit(data, work)
        sizes.append((work.out / "model.onnx").stat().st_size)
    assert sizes[1] > sizes[0] + 1000, "an edited helper module counts too"


def test_modules_of_one_name_in_two_projects_are_two(tmp_path: Path) -> None:
    data = pixels(tmp_path / "data")
    for number, name in enumerate(("one", "two")):
        write(tmp_path / name, NET.replace("nn.Flatten()", "nn.Flatten(), nn.Tanh()" if number else "nn.Flatten()"))
        work = job(tmp_path / name, metric="accuracy", project=tmp_path / name)
        LightningTrainer(epochs=1, threads=1, module="net.Net", module_options=OPTIONS).fit(data, work)
        assert (b"Tanh" in (work.out / "model.onnx").read_bytes()) is bool(number)


def made(module: str = "net.Net", /, **options: Any) -> dict[str, Any]:
    return {"module": module, "module_options": OPTIONS} | options


WRONG = [
    ({"module": "Net"}, r"trainer.module 'Net' is no import path; expected file.ClassName"),
    ({"module": "nett.Net"}, r"'nett.Net': no module 'nett' in .* or installed; did you mean 'net'\?"),
    ({"module": "net.Nett"}, r"trainer.module 'net.Nett': .*net.py has no 'Nett'; did you mean 'Net'\?"),
    ({"module": "net.NotOne"}, r"must be a LightningModule of .* or lightning.pytorch, and is a class on torch.nn"),
    ({"module": "net.HIDDEN"}, r"must be a LightningModule .*, and is int 8"),
    ({"module": "net.Net"}, r"trainer.module_options: Net also needs inputs; it takes \(inputs, classes: int = 2"),
    (
        made(module_options={"inputs": 6, "clases": 3}),
        r"options.clases: Net takes no such .*; did you mean 'classes'\?",
    ),
    (made(module_options={"inputs": "six"}), r"module_options: Net cannot be made: .*net.py:13: TypeError"),
    (made(module_options={"inputs": 7}), r"net.Net does not take x \(p \[2, 2, 3\] float32\): .*RuntimeError: mat1"),
    (made(module_options={"inputs": 6, "classes": 7}), r"gives shape \[2, 7\]; expected .* of the 3 classes: \[n, 3\]"),
    (made("broken.Net"), r"trainer.module 'broken.Net' cannot be imported: .*broken.py:2: invalid syntax"),
    (made("lacking.Net"), r"cannot be imported: .*lacking.py:2: ModuleNotFoundError: No module named 'nowhere'"),
    (made(datamodule="net.Dat"), r"trainer.datamodule 'net.Dat': .*did you mean 'Data'\?"),
    (made(datamodule="other.Data"), r"net.Net is of pytorch_lightning and other.Data of lightning.pytorch"),
    (made(output="value"), r"output 'value' is for regression"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_what_is_wrong_with_a_module_is_told_before_any_work(tmp_path: Path, options: Any, message: str) -> None:
    write(tmp_path)
    write(tmp_path, name="other", lightning="lightning.pytorch")
    write(tmp_path, "import torch\nclass Net(:", name="broken")
    write(tmp_path, "import torch\nimport nowhere", name="lacking")
    work = job(tmp_path, metric="accuracy")
    with pytest.raises(TrainingError, match=message):
        LightningTrainer(epochs=1, threads=1, **options).fit(pixels(tmp_path / "data", 60), work)
    assert not list(work.out.iterdir())
    assert not list(work.scratch.iterdir())


def test_an_error_in_training_is_told_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, NET.replace("x, y = batch\n        return", "x, y = batch\n        y = y[:-1]\n        return"))
    with pytest.raises(TrainingError, match=r"Net failed in training: .*net.py:\d+: ValueError: Expected input"):
        LightningTrainer(epochs=1, threads=1, module="net.Net", module_options=OPTIONS).fit(
            pixels(tmp_path / "data", 60), job(tmp_path, metric="accuracy")
        )


def test_a_metric_that_nothing_reports_is_told_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(TrainingError, match=r"metric 'val_los' is never reported; did you mean 'val_loss'\?"):
        LightningTrainer(epochs=1, threads=1, module="net.Net", module_options=OPTIONS).fit(
            pixels(tmp_path / "data", 60), job(tmp_path, metric="val_los")
        )
