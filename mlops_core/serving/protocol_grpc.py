"""The Open Inference Protocol v2 in messages: what `protocol_v2` does for JSON, for a ModelInferRequest.

Tensors come raw (`raw_input_contents`) or typed (`contents`), and the answer's come as the request's did.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from mlops_core.contracts import Columns
from mlops_core.serving import protocol_v2, tensors
from mlops_core.serving.cells import Wrong
from mlops_core.serving.messages import messages
from mlops_core.serving.models import Loaded
from mlops_core.serving.problems import Refused
from mlops_core.serving.rows import Batch, Reader

CONTENTS = {
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
}


def parse(data: bytes, name: str = "ModelInferRequest") -> Any:
    """The message of this name. Raises Refused."""
    from google.protobuf.message import DecodeError

    try:
        return messages()[name].FromString(data)
    except DecodeError:
        raise Refused(400, f"the message is no {name}") from None


def read(reader: Reader, request: Any, limit: int) -> Batch:
    """The tensors of a request as columns. Raises Refused, naming the tensor."""
    raw, inputs = request.raw_input_contents, request.inputs
    if raw and len(raw) != len(inputs):
        raise Refused(422, f"raw_input_contents has {len(raw)} entries for {len(inputs)} inputs; each has one")
    given = [(t.name, partial(_values, t, raw[i] if raw else None, limit)) for i, t in enumerate(inputs)]
    return protocol_v2.gathered(reader, given, limit)


def plain(request: Any) -> dict[str, Any]:
    """The inputs of a request as JSON spells them, raw ones as bytes."""
    raw, found = request.raw_input_contents, []
    for i, t in enumerate(request.inputs):
        data: Any = raw[i] if i < len(raw) else list(getattr(t.contents, CONTENTS.get(t.datatype, ""), ()))
        if t.datatype == "BYTES" and not raw:
            data = [v.decode(errors="replace") for v in data]
        found.append({"name": t.name, "datatype": t.datatype, "shape": list(t.shape), "data": data})
    return {"inputs": found}


def write(name: str, model: Loaded, id: str, answer: Columns, request: Any) -> bytes:
    """The ModelInferResponse."""
    response = messages()["ModelInferResponse"](model_name=name, model_version=str(model.version), id=id)
    for described in protocol_v2.wanted(model, [o.name for o in request.outputs]):
        kind, array = described["datatype"], np.asarray(answer[described["name"]])
        tensor = response.outputs.add(name=described["name"], datatype=kind, shape=array.shape)
        if request.raw_input_contents:
            response.raw_output_contents.append(tensors.packed(kind, array))
        else:
            flat = array.reshape(-1).tolist()
            getattr(tensor.contents, CONTENTS[kind]).extend(
                [str(v).encode() for v in flat] if kind == "BYTES" else flat
            )
    found: bytes = response.SerializeToString()
    return found


def _values(tensor: Any, raw: bytes | None, limit: int, slot: tensors.Slot) -> Any:
    """The rows of one tensor. Raises Wrong."""
    kind, shape = tensor.datatype, list(tensor.shape)
    wrong = slot.misfit(kind, shape, limit)
    if wrong:
        raise Wrong(wrong)
    if raw is not None:
        if tensor.HasField("contents"):
            raise Wrong("has contents beside raw_input_contents; send one of them")
        return slot.values(tensors.unpacked(kind, raw, math.prod(shape)), shape)
    if kind not in CONTENTS:
        raise Wrong(f"datatype {kind} can only come in raw_input_contents")
    flat = getattr(tensor.contents, CONTENTS[kind])
    if kind == "BYTES":
        return slot.values(tensors.decoded(flat), shape)
    try:
        return slot.values(np.array(flat, tensors.LITTLE[kind]), shape)
    except OverflowError:
        raise Wrong(f"holds a number that is no {kind}") from None
