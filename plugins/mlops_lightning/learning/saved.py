"""The model folder: left by a fit, loaded by any host that has torch where it is not ONNX."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlops_core import Encoder, ModelFile, save_onnx
from mlops_core.contracts import Columns, Dataset, Predict, restore
from mlops_core.errors import BundleError, MlopsError, TrainingError
from mlops_lightning import imports
from mlops_lightning.learning.answers import Answering
from mlops_lightning.learning.export import TOLERANCE, Unexportable, write_onnx, write_safetensors
from mlops_lightning.learning.subject import BUILT_IN, Subject, input_names
from mlops_lightning.learning.validation import Validation

FORMAT = "lightning-safetensors"


def leave(export: str, dataset: Dataset, out: Path, encoder: Encoder, subject: Subject, validation: Validation) -> None:
    """Writes the model folder: ONNX where asked for or possible, else safetensors."""
    kind = validation.kind(validation.ask(subject.module))
    answering = Answering(subject.served, subject.names, as_dict=subject.as_dict, kind=kind).eval()
    output = "prediction" if dataset.task == "regression" else "probability"
    if export != "safetensors":
        try:
            write_onnx(out / "model.onnx", answering, output, validation.rows)
            save_onnx(out, encoder, _model_file("onnx", dataset, {}))
            return
        except Unexportable as error:
            if export == "onnx":
                raise TrainingError(
                    f"{subject.path} cannot be exported to ONNX: {error}; set trainer.export=safetensors"
                ) from error
    write_safetensors(out / "model.safetensors", subject.served.state_dict())
    extra = {"module": subject.path, "options": subject.options, "kind": kind}
    save_onnx(out, encoder, _model_file(FORMAT, dataset, extra))
    _prove(out, answering, validation)


def load(folder: Path) -> Predict:
    """The predictor of a folder of safetensors. The module's code is imported by name, never unpickled."""
    model = ModelFile.read(folder)
    if model.format != FORMAT:
        raise BundleError(f"{folder} holds a model of format {model.format!r}; expected {FORMAT!r}")
    encoder = restore(Encoder, json.loads((folder / "encoder.json").read_text()))
    answering = _answering(folder, model, encoder)

    def predict(columns: Columns) -> Columns:
        inputs = {name: torch.from_numpy(array) for name, array in encoder.encode(columns).items()}
        with torch.inference_mode():
            return model.answer(answering.of(inputs).numpy())

    return predict


def _answering(folder: Path, model: ModelFile, encoder: Encoder) -> Answering:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    names = input_names(encoder)
    path, options, kind = (model.extra[key] for key in ("module", "options", "kind"))
    project = next((p.parent for p in folder.resolve().parents if p.name == ".mlops"), None)
    try:
        with imports.importable(project) if project else contextlib.nullcontext():
            module: Any = _make(path, options)
        module.load_state_dict(load_file(folder / "model.safetensors"))
    except (MlopsError, RuntimeError, OSError, SafetensorError) as error:
        why = " ".join(str(error).split())  # torch's list of keys comes in lines
        raise BundleError(f"{folder} needs {path} as it was in training: {why}; put its code on PYTHONPATH") from error
    return Answering(module, names, as_dict=len(names) > 1 or path == BUILT_IN, kind=kind).eval()


def _make(path: str, options: dict[str, Any]) -> nn.Module:
    if path == BUILT_IN:
        from mlops_lightning.learning.network import TabularNet

        return TabularNet(**options)
    found = imports.find(path, "trainer.module", "LightningModule")
    made: Any = imports.make(found, options, "trainer.module_options")
    made.configure_model()
    module: nn.Module = made
    return module


def _prove(out: Path, answering: Answering, validation: Validation) -> None:
    """What was left, loaded again, answers as the trained module does."""
    again = _answering(out, ModelFile.read(out), validation.batches.encoder)
    with torch.no_grad():
        gap = max(float((again.of(r.inputs) - answering.of(r.inputs)).abs().max()) for r in validation.rows())
    if not gap <= TOLERANCE:
        raise TrainingError(
            f"the model made again from its weights and options answers differently, by up to {gap:.2g}; "
            "state outside of parameters and buffers is lost: register it as a buffer"
        )


def _model_file(form: str, dataset: Dataset, extra: dict[str, Any]) -> ModelFile:
    dtype = next((c.dtype for c in dataset.columns if c.name == dataset.target), "string")
    return ModelFile(
        format=form, task=dataset.task, target=dataset.target, target_dtype=dtype, classes=dataset.classes, extra=extra
    )
