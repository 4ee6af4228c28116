"""The Open Inference Protocol v2 (REST, JSON tensors): one tensor per column, shape [n], [n, 1] or [n, *cell]."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlops_core.contracts import Column, Columns
from mlops_core.serving.models import Loaded
from mlops_core.serving.problems import Refused
from mlops_core.serving.rows import Batch, Reader, kind_of

WHOLE = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")
REAL = ("FP64", "FP32", "FP16")
DATATYPES = ("BOOL", "BYTES", *REAL, *WHOLE)


def read(reader: Reader, body: Any, limit: int) -> Batch:
    """The tensors of an inference request as columns. Raises Refused, naming the tensor."""
    if not isinstance(body, dict) or not isinstance(body.get("inputs"), list):
        raise Refused(422, 'the body has no list "inputs" of tensors')
    columns: dict[str, list[Any]] = {}
    faults: list[tuple[int | None, str, str]] = []
    known = {c.name: c for c in reader.signature.inputs}
    for i, tensor in enumerate(body["inputs"]):
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(tensor, dict) or not isinstance(name, str):
            faults.append((None, "", f"inputs[{i}] is no tensor: expected name, shape, datatype and data"))
        elif name in columns:
            faults.append((None, name, "is given twice"))
        elif name not in known:
            faults.append((None, name, reader.unknown(name)))
        else:
            wrong, values = _values(tensor, known[name], limit)
            columns[name] = values
            faults += [(None, name, wrong)] * bool(wrong)
    if faults:
        raise Refused.unfit(faults)
    return reader.columns(columns, limit)


def outputs(loaded: Loaded, answer: Columns, body: Any) -> list[dict[str, Any]]:
    """The answer as tensors: all, or those named in the request's `outputs`."""
    found = []
    for described in wanted(loaded, body):
        array = np.asarray(answer[described["name"]])
        found.append(described | {"shape": list(array.shape), "data": array.reshape(-1).tolist()})
    return found


def wanted(loaded: Loaded, body: Any) -> list[dict[str, Any]]:
    """The outputs that a request asks for. Raises Refused for one that there is not."""
    there = {o["name"]: o for o in _outputs(loaded)}
    asked = body.get("outputs")
    if asked is None or asked == []:
        return list(there.values())
    if not isinstance(asked, list):
        raise Refused(422, f"outputs is {kind_of(asked)}, expected a list")
    names = [o.get("name") if isinstance(o, dict) else None for o in asked]
    for name in names:
        if not isinstance(name, str) or name not in there:
            raise Refused(422, f"there is no output {str(name)[:80]!r}; there is {', '.join(there)}")
    return [there[str(n)] for n in names]


def metadata(name: str, versions: list[int], loaded: Loaded) -> dict[str, Any]:
    """The model's description: `versions`, inputs and outputs with datatype and shape (-1: any number of rows)."""
    inputs = [
        {"name": c.name, "datatype": datatype(c), "shape": [-1, *c.shape]} for c in loaded.bundle.signature.inputs
    ]
    return {
        "name": name,
        "versions": [str(v) for v in versions],
        "platform": f"{loaded.bundle.model.format}_mlops_core",
        "inputs": inputs,
        "outputs": _outputs(loaded),
    }


def datatype(column: Column) -> str:
    """The datatype in which a column is best sent."""
    if column.kind == "number":
        return "INT64" if column.dtype.startswith(("int", "uint")) else "FP64"
    return {"boolean": "BOOL", "array": "FP32"}.get(column.kind, "BYTES")


def _outputs(loaded: Loaded) -> list[dict[str, Any]]:
    model = loaded.bundle.model
    if model.task == "regression":
        return [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    whole = model.target_dtype.startswith(("int", "uint"))
    kind = "INT64" if whole else "BOOL" if model.target_dtype == "boolean" else "BYTES"
    return [
        {"name": "prediction", "datatype": kind, "shape": [-1]},
        {"name": "probability", "datatype": "FP64", "shape": [-1, len(model.classes)]},
    ]


def _values(tensor: dict[str, Any], column: Column, limit: int) -> tuple[str, list[Any]]:
    """What is wrong with a tensor, and its rows as JSON values."""
    kind, shape, data = tensor.get("datatype"), tensor.get("shape"), tensor.get("data")
    if kind not in DATATYPES:
        return f"unknown datatype {kind!r}" if isinstance(kind, str) else "has no datatype", []
    if kind not in _accepted(column):
        return f"datatype {kind} does not fit, expected {datatype(column)}", []
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**40 for n in shape) or not shape:
        return "has no shape of whole numbers", []
    if shape[0] > limit:
        raise Refused(
            413, f"{shape[0]} rows are more than the {limit} that one request may hold; send several requests"
        )
    cell = list(column.shape)
    if shape[1:] != cell and not (column.kind != "array" and shape[1:] == [1]):
        return f"has shape {shape}, expected {['n', *cell]}".replace("'", ""), []
    if not isinstance(data, list):
        return f"data is {kind_of(data)}, expected a list (binary data is not supported)", []
    flat = _flat(data, len(shape))
    if len(flat) != math.prod(shape):
        return f"has {len(flat)} values, its shape {shape} says {math.prod(shape)}", []
    return "", _rows(flat, cell)


def _accepted(column: Column) -> tuple[str, ...]:
    if column.kind == "number" or column.kind == "array":
        return REAL + WHOLE
    if column.kind == "boolean" or column.dtype == "boolean":
        return ("BOOL",)
    if column.dtype.startswith(("int", "uint")):
        return ("BYTES", *WHOLE)
    return ("BYTES", *REAL, *WHOLE) if column.dtype.startswith("float") else ("BYTES",)


def _flat(data: list[Any], depth: int) -> list[Any]:
    """Nested row-major data as one list; what is nested deeper than the shape stays, and is refused later."""
    while depth > 1 and data and all(type(v) is list for v in data):
        data, depth = [v for inner in data for v in inner], depth - 1
    return data


def _rows(flat: list[Any], cell: list[int]) -> list[Any]:
    for size in reversed(cell):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)]
    return flat
