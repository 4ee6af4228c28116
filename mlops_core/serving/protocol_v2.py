"""The Open Inference Protocol v2 over REST: one tensor per column, shape [n], [n, 1] or [n, *cell].

Tensors are JSON, or raw bytes behind the JSON (the extension binary_tensor_data): then the body begins with
MARK and the JSON's length, however it came, so that it passes through other processes as one piece.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from struct import Struct
from typing import Any

import numpy as np
import orjson

from mlops_core.contracts import Columns
from mlops_core.serving import tensors
from mlops_core.serving.cells import Wrong, kind_of
from mlops_core.serving.models import Known, Loaded
from mlops_core.serving.problems import Fault, Refused
from mlops_core.serving.requests import parse
from mlops_core.serving.rows import Batch, Reader
from mlops_core.serving.tensors import Slot
from mlops_core.serving.tensors import datatype as datatype

MARK = b"\0"  # no JSON begins with it
HEAD = Struct("<cI")
EXTENSIONS = ("binary_tensor_data",)


def framed(json: bytes | int, rest: bytes) -> bytes:
    """JSON and the raw tensors behind it in one piece; or, where the JSON is in `rest`, only its length."""
    size, head = (json, b"") if isinstance(json, int) else (len(json), json)
    return HEAD.pack(MARK, size) + head + rest


def unframed(body: bytes) -> tuple[int, bytes]:
    """The length of the JSON that the second one begins with."""
    return HEAD.unpack_from(body)[1], body[HEAD.size :]


def parse_framed(body: bytes) -> Any:
    """The request, the bytes of each raw tensor as its `data`. Raises Refused."""
    size, content = unframed(body)
    request, rest, at = parse(content[:size]), content[size:], 0
    inputs = request.get("inputs") if isinstance(request, dict) else None
    for tensor in inputs if isinstance(inputs, list) else ():
        length = _parameter(tensor, "binary_data_size")
        if length is None:
            continue
        if type(length) is not int or not 0 <= length <= len(rest) - at:
            left = f"{len(rest) - at} bytes are left in the body"
            raise Refused.unfit([(None, str(tensor.get("name")), f"binary_data_size is {str(length)[:40]}, {left}")])
        if "data" in tensor:
            raise Refused.unfit([(None, str(tensor.get("name")), "has data beside binary_data_size; send one of them")])
        tensor["data"], at = rest[at : at + length], at + length
    if at != len(rest):
        raise Refused(422, f"{len(rest) - at} bytes of the body belong to no tensor")
    return request


def unraw(request: Any) -> Any:
    """A request with its raw tensors as lists; those that are not what they say are left out."""
    inputs = request.get("inputs") if isinstance(request, dict) else None
    found = []
    for tensor in inputs if isinstance(inputs, list) else ():
        if isinstance(tensor, dict) and isinstance(tensor.get("data"), bytes):
            with contextlib.suppress(Wrong, TypeError, KeyError):
                values = tensors.unpacked(tensor["datatype"], tensor["data"], math.prod(tensor["shape"]))
                found.append(tensor | {"data": values if isinstance(values, list) else values.tolist()})
        else:
            found.append(tensor)
    return {"inputs": found}


def read(reader: Reader, body: Any, limit: int) -> Batch:
    """The tensors of an inference request as columns. Raises Refused, naming the tensor."""
    if not isinstance(body, dict) or not isinstance(body.get("inputs"), list):
        raise Refused(422, 'the body has no list "inputs" of tensors')
    given: list[tuple[str, Callable[[Slot], Any]]] = []
    for i, tensor in enumerate(body["inputs"]):
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise Refused(422, f"inputs[{i}] is no tensor: expected name, shape, datatype and data")
        given.append((name, partial(_values, tensor, limit)))
    return gathered(reader, given, limit)


def gathered(reader: Reader, given: Iterable[tuple[str, Callable[[Slot], Any]]], limit: int) -> Batch:
    """Named tensors as columns; each gives its values for its slot, or raises Wrong. Raises Refused with every
    fault, each naming its tensor."""
    columns: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, values in given:
        slot = reader.slots.get(name)
        if name in columns:
            faults.append((None, name, "is given twice"))
        elif slot is None:
            faults.append((None, name, reader.unknown(name)))
        else:
            columns[name] = []
            try:
                columns[name] = values(slot)
            except Wrong as wrong:
                faults.append((None, name, str(wrong)))
    if faults:
        raise Refused.unfit(faults)
    return reader.columns(columns, limit)


def outputs(loaded: Loaded, answer: Columns, request: Any) -> tuple[list[dict[str, Any]], bytes]:
    """The answer as tensors, all or those that the request names, and the bytes of those that it wants raw."""
    asked = request.get("outputs") or []
    everything = _parameter(request, "binary_data_output") is True
    raw = {o["name"] for o in asked if _parameter(o, "binary_data", everything) is True}
    found, chunks = [], []
    for described in wanted(loaded, names(request)):
        array = np.asarray(answer[described["name"]])
        tensor = described | {"shape": list(array.shape)}
        if described["name"] in raw or (everything and not asked):
            chunks.append(tensors.packed(described["datatype"], array))
            tensor["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            tensor["data"] = array.reshape(-1).tolist()
        found.append(tensor)
    return found, b"".join(chunks)


def write(head: dict[str, Any], loaded: Loaded, answer: Columns, request: Any) -> bytes:
    """The answer's body, framed where a tensor is raw."""
    found, raw = outputs(loaded, answer, request)
    json = orjson.dumps(head | {"outputs": found})
    return framed(json, raw) if any("parameters" in tensor for tensor in found) else json


def names(request: dict[str, Any]) -> list[Any]:
    """The names of the outputs that a request asks for."""
    asked = request.get("outputs")
    if asked is not None and not isinstance(asked, list):
        raise Refused(422, f"outputs is {kind_of(asked)}, expected a list")
    return [o.get("name") if isinstance(o, dict) else None for o in asked or ()]


def wanted(loaded: Known, asked: Sequence[Any]) -> list[dict[str, Any]]:
    """The outputs of these names, all where there is none. Raises Refused for one that there is not."""
    there = {o["name"]: o for o in _outputs(loaded)}
    for name in asked:
        if not isinstance(name, str) or name not in there:
            raise Refused(422, f"there is no output {str(name)[:80]!r}; there is {', '.join(there)}")
    return [there[str(n)] for n in asked] or list(there.values())


def metadata(name: str, versions: list[int], loaded: Known) -> dict[str, Any]:
    """The model's description: `versions`, inputs and outputs with datatype and shape (-1: any number of rows)."""
    inputs = [
        {"name": c.name, "datatype": tensors.datatype(c), "shape": [-1, *c.shape]}
        for c in loaded.bundle.signature.inputs
    ]
    return {
        "name": name,
        "versions": [str(v) for v in versions],
        "platform": f"{loaded.bundle.model.format}_mlops_core",
        "inputs": inputs,
        "outputs": _outputs(loaded),
    }


def _outputs(loaded: Known) -> list[dict[str, Any]]:
    model = loaded.bundle.model
    if model.task == "regression":
        return [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    whole = model.target_dtype.startswith(("int", "uint"))
    kind = "INT64" if whole else "BOOL" if model.target_dtype == "boolean" else "BYTES"
    return [
        {"name": "prediction", "datatype": kind, "shape": [-1]},
        {"name": "probability", "datatype": "FP64", "shape": [-1, len(model.classes)]},
    ]


def _values(tensor: dict[str, Any], limit: int, slot: Slot) -> Any:
    """The rows of one tensor. Raises Wrong."""
    kind, shape, data = tensor.get("datatype"), tensor.get("shape"), tensor.get("data")
    wrong = slot.misfit(kind, shape, limit)
    if wrong:
        raise Wrong(wrong)
    assert isinstance(kind, str) and isinstance(shape, list)
    if type(data) is bytes:
        return slot.values(tensors.unpacked(kind, data, math.prod(shape)), shape)
    if not isinstance(data, list):
        header = "; binary data needs the header inference-header-content-length"
        raise Wrong(f"data is {kind_of(data)}, expected a list" + header * (data is None))
    flat = _flat(data, len(shape))
    if len(flat) != math.prod(shape):
        raise Wrong(f"has {len(flat)} values, its shape {shape} says {math.prod(shape)}")
    return slot.texts(flat) if kind == "BYTES" else _rows(flat, slot.cell)


def _flat(data: list[Any], depth: int) -> list[Any]:
    """Nested row-major data as one list; what is nested deeper than the shape stays, and is refused later."""
    while depth > 1 and data and all(type(v) is list for v in data):
        data, depth = [v for inner in data for v in inner], depth - 1
    return data


def _rows(flat: list[Any], cell: list[int]) -> list[Any]:
    for size in reversed(cell):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)]
    return flat


def _parameter(of: Any, name: str, default: Any = None) -> Any:
    found = of.get("parameters") if isinstance(of, dict) else None
    return found.get(name, default) if isinstance(found, dict) else default
