"""A trained module written as ONNX and proved equal to itself, or as safetensors. Nothing is pickled."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlops_core.errors import TrainingError
from mlops_lightning.imports import words
from mlops_lightning.learning.answers import Answering

TOLERANCE = 1e-4
ROWS = 8  # that the module is traced with


class Unexportable(Exception):
    """ONNX cannot express the module; the reason in words."""


def write_onnx(path: Path, answering: Answering, output: str, batches: Callable[[], Any]) -> None:
    """`path`, giving what the module gives on every row of `batches()`, and on one row alone.

    Torch's first exporter takes a tenth of a second and its second some seconds; the second is asked where the
    first cannot, or errs. Raises Unexportable, or TrainingError where the export answers differently.
    """
    inputs = {name: t[:ROWS] for name, t in next(iter(batches())).inputs.items() if name in answering.names}
    failures = []
    for export in (_traced, _captured):
        try:
            path.write_bytes(export(path, answering, inputs, output))
            difference, row = _difference(path, answering, output, batches)
        except Exception as error:  # exporters raise of all kinds, and the runtime of what they write
            failures.append(re.sub(r"\x1b\[\d*m", "", words(error).splitlines()[0]))
            continue
        if difference <= TOLERANCE:
            return
        failures.append("")
    path.unlink(missing_ok=True)
    if "" in failures:
        raise TrainingError(
            f"the exported model answers differently from the trained one: by up to {difference:.2g} "
            f"(row {row} of the validation split; allowed is {TOLERANCE:g}), so it is not kept; "
            "make forward the same in export, or set trainer.export=safetensors"
        )
    raise Unexportable(failures[-1])


def _traced(path: Path, answering: Answering, inputs: Mapping[str, Tensor], output: str) -> bytes:
    torch.onnx.export(
        answering,
        tuple(inputs[n] for n in answering.names),
        path,
        dynamo=False,
        input_names=list(answering.names),
        output_names=[output],
        dynamic_axes={name: {0: "rows"} for name in (*answering.names, output)},
        opset_version=17,
    )
    return _bare(path.read_bytes())


def _captured(path: Path, answering: Answering, inputs: Mapping[str, Tensor], output: str) -> bytes:
    rows = {0: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        answering,
        tuple(inputs[n] for n in answering.names),
        dynamo=True,
        verbose=False,
        input_names=list(answering.names),
        output_names=[output],
        dynamic_shapes=(tuple(rows for _ in answering.names),),
    )
    assert program is not None
    return _bare(program.model_proto.SerializeToString())


def _bare(graph: bytes) -> bytes:
    """The graph without places in source files, which differ from machine to machine."""
    import onnx

    model = onnx.load_model_from_string(graph)
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _difference(path: Path, answering: Answering, output: str, batches: Callable[[], Any]) -> tuple[float, int]:
    """The largest difference, as a share of the largest answer where that is beyond 1; and its row."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = [i.name for i in session.get_inputs()]
    worst, at, largest, start = 0.0, 0, 1.0, 0
    for rows in batches():
        for part in (rows, rows.take(slice(0, 1))) if not start else (rows,):
            given = session.run([output], {name: part.inputs[name].numpy() for name in wanted})[0]
            with torch.no_grad():
                true = answering.of(part.inputs).numpy()
            gaps = _gaps(given.reshape(true.shape), true)
            worst, at = max((worst, at), (float(gaps.max()), start + int(gaps.argmax())))
            largest = max(largest, float(np.nanmax(np.abs(true))))
        start += len(rows)
    return worst / largest, at


def _gaps(given: Any, true: Any) -> Any:
    """The largest difference of each row; infinite where only one of the two is a number."""
    both = np.isnan(given) & np.isnan(true)
    gaps = np.nan_to_num(np.abs(given.astype(np.float64) - true), nan=np.inf)
    return np.where(both, 0.0, gaps).reshape(len(true), -1).max(1)


def write_safetensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """The weights, each by its name; tensors that share memory are written twice."""
    from safetensors.torch import save_file

    save_file({name: t.detach().cpu().contiguous().clone() for name, t in weights.items()}, path)
