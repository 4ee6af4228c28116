"""What `trainer: lightning` leaves: ONNX that is proved equal, or safetensors; never a pickle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_kit import frozen, job, split_columns, table
from mlops_lightning.trainer import LightningTrainer, Network

from mlops_core import ModelFile, load_onnx
from mlops_core.contracts import Dataset
from mlops_core.errors import BundleError, TrainingError

NET = """
import torch
import pytorch_lightning as L


class Net(L.LightningModule):
    def __init__(self, inputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, 2)

    def forward(self, x):
        {forward}

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
"""
UNEXPORTABLE = "return self.layer(torch.special.bessel_j0(x))"
DIFFERENT = "return self.layer(x) + 0.5 * torch.tensor([1.0, 0.0]) * torch.onnx.is_in_onnx_export()"
FORGETFUL = """if self.training:
            self.bias = 1.0
        return self.layer(x) + getattr(self, "bias", 0.0) * torch.tensor([1.0, 0.0])"""
OPTIONS: Any = {"epochs": 1, "threads": 1, "module": "net.Net", "module_options": {"inputs": "{features}"}}


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return frozen(tmp_path / "data", table("binary"), "y", "binary")


def write(folder: Path, forward: str) -> None:
    (folder / "net.py").write_text(NET.replace("{forward}", forward))


def test_an_export_that_answers_differently_is_refused(tmp_path: Path, data: Dataset) -> None:
    write(tmp_path, DIFFERENT)
    work = job(tmp_path)
    with pytest.raises(TrainingError, match=r"answers differently from the trained one: by up to 0\.\d+ \(row \d+ of"):
        LightningTrainer(**OPTIONS).fit(data, work)
    assert not list(work.out.iterdir())


def test_a_batch_of_one_row_is_compared_too(tmp_path: Path, data: Dataset) -> None:
    write(tmp_path, "return self.layer(x) if len(x) > 1 else self.layer(x) + torch.tensor([9.0, 0.0])")
    with pytest.raises(TrainingError, match="answers differently from the trained one"):
        LightningTrainer(**OPTIONS).fit(data, job(tmp_path))


def test_an_export_that_takes_only_the_rows_it_was_made_with_is_not_kept(tmp_path: Path, data: Dataset) -> None:
    write(tmp_path, "return torch.stack([self.layer(x[i]) for i in range(len(x))])")
    work = job(tmp_path / ".mlops", project=tmp_path)
    LightningTrainer(**OPTIONS).fit(data, work)
    assert {p.name for p in work.out.iterdir()} == {"encoder.json", "model.json", "model.safetensors"}


def test_layers_that_are_made_late_are_made_again(tmp_path: Path, data: Dataset) -> None:
    late = (
        NET.replace("self.layer =", "self.wanted, self.layer = inputs, None #")
        + """
    def configure_model(self):
        self.layer = self.layer or torch.nn.Linear(self.wanted, 2)
"""
    )
    (tmp_path / "net.py").write_text(late.replace("{forward}", "return self.layer(x)"))
    trainer = LightningTrainer(**OPTIONS, export="safetensors")
    work = job(tmp_path / ".mlops", project=tmp_path)
    scores = trainer.fit(data, work)
    assert trainer.fit(data, work) == scores, "a fit that was killed in its export goes on"
    assert len(trainer.load(work.out)(split_columns(data, "test")[0])["probability"]) == data.rows["test"]


def test_what_onnx_cannot_express_is_left_as_safetensors(tmp_path: Path, data: Dataset) -> None:
    project = tmp_path / "project"
    project.mkdir()
    write(project, UNEXPORTABLE)
    work = job(project / ".mlops" / "work", project=project)
    LightningTrainer(**OPTIONS).fit(data, work)
    assert {p.name for p in work.out.iterdir()} == {"encoder.json", "model.json", "model.safetensors"}
    model = ModelFile.read(work.out)
    assert model.format == "lightning-safetensors"
    assert str(tmp_path) not in (work.out / "model.json").read_text()

    columns, _ = split_columns(data, "test")
    answer = LightningTrainer(**OPTIONS).load(work.out)(columns)
    assert np.allclose(np.asarray(answer["probability"]).sum(1), 1, atol=1e-5)
    with pytest.raises(TrainingError, match=r"net.Net cannot be exported to ONNX: .*; set trainer.export=safetensors"):
        LightningTrainer(**OPTIONS, export="onnx").fit(data, job(tmp_path / "strict", project=project))


def test_safetensors_answer_as_onnx_does_and_load_in_a_fresh_process(tmp_path: Path, data: Dataset) -> None:
    options: Any = {"epochs": 2, "threads": 1, "model": Network(hidden=(8,), members=2)}
    answers = []
    for form in ("onnx", "safetensors"):
        work = job(tmp_path / form)
        LightningTrainer(**options, export=form).fit(data, work)
        load = load_onnx if form == "onnx" else LightningTrainer().load
        answers.append(np.asarray(load(work.out)(split_columns(data, "test")[0])["probability"]))
    assert np.allclose(*answers, atol=1e-5)

    code = (
        "import sys, json; from pathlib import Path; import numpy as np\n"
        "from mlops_lightning.trainer import LightningTrainer\n"
        "row = {'a': np.array([50.0]), 'b': np.array([10.0]), 'home': np.array(['rent'], object),"
        " 'married': np.array([1.0]), 'since': np.array(['2020-01-01'], 'datetime64[us]')}\n"
        "answer = LightningTrainer().load(Path(sys.argv[1]))(row)\n"
        "print(json.dumps([answer['probability'].tolist(), 'pytorch_lightning' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(work.out)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    probability, lightning = json.loads(done.stdout)
    assert np.shape(probability) == (1, 2)
    assert not lightning, "the built-in network is served without Lightning"


def test_safetensors_are_refused_where_weights_and_options_do_not_make_it_again(tmp_path: Path, data: Dataset) -> None:
    write(tmp_path, FORGETFUL)
    with pytest.raises(TrainingError, match="state outside of parameters and buffers is lost"):
        LightningTrainer(**OPTIONS, export="safetensors").fit(data, job(tmp_path))


def test_a_folder_whose_code_is_gone_or_changed_is_told(tmp_path: Path, data: Dataset) -> None:
    write(tmp_path, "return self.layer(x)")
    work = job(tmp_path / ".mlops", project=tmp_path)
    LightningTrainer(**OPTIONS, export="safetensors").fit(data, work)
    (tmp_path / "net.py").write_text((tmp_path / "net.py").read_text().replace("self.layer", "self.other"))
    with pytest.raises(BundleError, match=r"needs net.Net as it was in training: .*other.weight"):
        LightningTrainer().load(work.out)
    (tmp_path / "net.py").unlink()
    with pytest.raises(BundleError, match=r"needs net.Net as it was in training: .*no module 'net' in .*PYTHONPATH"):
        LightningTrainer().load(work.out)


def test_the_graph_names_no_place_of_this_machine(tmp_path: Path, data: Dataset) -> None:
    from mlops_lightning.learning.answers import Answering
    from mlops_lightning.learning.export import _captured
    from mlops_lightning.learning.quiet import no_chatter, no_warnings

    path = tmp_path / "model.onnx"
    answering = Answering(torch.nn.Linear(3, 2), ("matrix",), as_dict=False, kind="softmax").eval()
    with no_warnings(), no_chatter():
        path.write_bytes(_captured(path, answering, {"matrix": torch.zeros(4, 3)}, "probability"))
    assert b".py" not in path.read_bytes()
    assert str(Path.cwd()).encode() not in path.read_bytes()
