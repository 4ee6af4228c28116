"""The Open Inference Protocol v2 over gRPC, by calls of our own: what is asked, refused, and in which words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from endpoint_kit import answering
from tritonclient.grpc import service_pb2 as published

from mlops_core.access import issue, write_keys
from mlops_core.contracts import Serving
from mlops_core.serving import create_app
from mlops_core.serving.messages import SERVICE, described, messages
from mlops_core.serving.tensors import packed

Servings = Callable[..., Serving]
MAX_BYTES = 20_000
TENSORS: dict[str, tuple[str, Any]] = {
    "age": ("FP64", [30.0, np.nan]),
    "income": ("FP32", [1000.0, 2000.5]),
    "home": ("BYTES", ["rent", ""]),
    "married": ("BOOL", [True, False]),
    "since": ("BYTES", ["2020-01-01T00:00:00", ""]),
}
FIELDS = {"FP64": "fp64", "FP32": "fp32", "BYTES": "bytes", "BOOL": "bool", "INT64": "int64", "UINT64": "uint64"} | {
    k: "int" if k[0] == "I" else "uint" for k in ("INT8", "INT16", "INT32", "UINT8", "UINT16", "UINT32")
}


class Caller:
    def __init__(self, channel: grpc.Channel, http: str) -> None:
        self.channel = channel
        self.http = http

    def __call__(self, method: str, request: Any = None, *metadata: tuple[str, str]) -> Any:
        made = messages()
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=made[f"{method}Response"].FromString,
        )
        return call(made[f"{method}Request"]() if request is None else request, metadata=metadata, timeout=20)

    def refused(self, request: Any, method: str = "ModelInfer", *metadata: tuple[str, str]) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self(method, request, *metadata)
        error: Any = caught.value
        return error.code().name, error.details()


@pytest.fixture(scope="module")
def call(module_serving: Servings) -> Iterator[Caller]:
    serving = module_serving({1: 100.0, 2: 0.0}, max_rows=50, max_bytes=MAX_BYTES)
    with answering(create_app(serving)) as (http, target), grpc.insecure_channel(target) as channel:
        yield Caller(channel, http)


def asking(tensors: dict[str, tuple[str, Any]], raw: bool = False, **more: Any) -> Any:
    request = messages()["ModelInferRequest"](**{"model_name": "credit", **more})
    for name, (kind, values) in tensors.items():
        tensor = request.inputs.add(name=name, datatype=kind, shape=[len(values)])
        if raw:
            request.raw_input_contents.append(packed(kind, np.array(values, object if kind == "BYTES" else None)))
        else:
            given = [str(v).encode() for v in values] if kind == "BYTES" else values
            getattr(tensor.contents, f"{FIELDS[kind]}_contents").extend(given)
    return request


def arrays(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i, tensor in enumerate(answer.outputs):
        if answer.raw_output_contents:
            data = answer.raw_output_contents[i]
            flat = np.frombuffer(data, "<f8") if tensor.datatype == "FP64" else texts(data)
        else:
            flat = np.array(tensor.contents.fp64_contents or [v.decode() for v in tensor.contents.bytes_contents])
        found[tensor.name] = flat.reshape(tuple(tensor.shape))
    return found


def texts(data: bytes) -> Any:
    found = []
    while data:
        size = int.from_bytes(data[:4], "little")
        found.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return np.array(found)


def test_the_messages_are_the_published_ones() -> None:
    """tritonclient's have more; what ours have, they have under the same numbers."""
    pool = published.DESCRIPTOR

    def compare(ours: Any, theirs: Any) -> None:
        assert ours.GetOptions().map_entry == theirs.GetOptions().map_entry
        for field in ours.fields:
            same = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (same.number, same.type, same.is_repeated)
            assert (field.containing_oneof is None) == (same.containing_oneof is None)
            if field.message_type:
                assert field.message_type.full_name == same.message_type.full_name
                compare(field.message_type, same.message_type)

    for name, made in messages().items():
        compare(made.DESCRIPTOR, pool.message_types_by_name[name])
    service = pool.services_by_name["GRPCInferenceService"]
    for method in described().service[0].method:
        same = service.methods_by_name[method.name]
        assert method.input_type == f".{same.input_type.full_name}"
        assert method.output_type == f".{same.output_type.full_name}"


def test_health_and_metadata(call: Caller) -> None:
    made = messages()
    assert call("ServerLive").live and call("ServerReady").ready
    for version in ("", "2"):
        assert call("ModelReady", made["ModelReadyRequest"](name="credit", version=version)).ready
    server = call("ServerMetadata")
    assert (server.name, server.version) == ("mlops_core", "2")
    model = call("ModelMetadata", made["ModelMetadataRequest"](name="credit"))
    rest = httpx.get(f"http://{call.http}/v2/models/credit", trust_env=False).json()
    assert (model.name, list(model.versions), model.platform) == (rest["name"], rest["versions"], rest["platform"])
    for mine, theirs in ((model.inputs, rest["inputs"]), (model.outputs, rest["outputs"])):
        assert [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in mine] == theirs
    assert list(call("ModelMetadata", made["ModelMetadataRequest"](name="credit", version="2")).versions) == ["2"]
    unknown = "there is no model 'credits' here; this is 'credit'"
    for method in ("ModelReady", "ModelMetadata"):
        assert call.refused(made[f"{method}Request"](name="credits"), method) == ("NOT_FOUND", unknown)


@pytest.mark.parametrize("raw", [False, True])
def test_the_same_answer_as_plain_json(call: Caller, raw: bool) -> None:
    rows = [
        {"age": 30, "income": 1000.0, "home": "rent", "married": True, "since": "2020-01-01"},
        {"income": 2000.5, "married": False},
    ]
    plain = httpx.post(f"http://{call.http}/predict", json={"rows": rows}, trust_env=False).json()["predictions"]
    answer = call("ModelInfer", asking(TENSORS, raw, id="q-1"))
    assert (answer.model_name, answer.model_version, answer.id) == ("credit", "1", "q-1")
    assert bool(answer.raw_output_contents) == raw
    found = arrays(answer)
    assert found["prediction"].tolist() == [p["prediction"] for p in plain]
    assert found["probability"].tolist() == [list(p["probability"].values()) for p in plain]
    second = arrays(call("ModelInfer", asking(TENSORS, raw, model_version="2")))
    assert (second["probability"][:, 1] > found["probability"][:, 1]).all()
    request = asking(TENSORS, raw)
    request.outputs.add(name="probability")
    assert list(arrays(call("ModelInfer", request))) == ["probability"]


@pytest.mark.parametrize("kind", [k for k in FIELDS if k not in ("BYTES", "BOOL")])
@pytest.mark.parametrize("raw", [False, True])
def test_numbers_of_any_type(call: Caller, kind: str, raw: bool) -> None:
    dtype = {"F": "float", "I": "int", "U": "uint"}[kind[0]] + kind.lstrip("UINTFP")
    tensors = {"income": (kind, np.array([100, 7], dtype)), "age": (kind, np.array([1, 2], dtype))}
    found = arrays(call("ModelInfer", asking(tensors, raw)))["probability"].tolist()
    wanted = {"income": ("FP64", [100.0, 7.0]), "age": ("INT64", [1, 2])}
    assert found == arrays(call("ModelInfer", asking(wanted)))["probability"].tolist()


def changed(**how: Any) -> Any:
    """A raw request of one tensor with something else in it."""
    request = asking({"income": ("FP64", [1.0, 2.0])}, raw=True)
    for name, value in how.items():
        if name == "raw":
            del request.raw_input_contents[:]
            request.raw_input_contents.extend(value)
        elif name == "shape":
            request.inputs[0].shape[:] = value
        else:
            setattr(request.inputs[0], name, value)
    return request


def with_contents() -> Any:
    request = changed()
    request.inputs[0].contents.fp64_contents.append(1.0)
    return request


def raw_text(data: bytes, name: str = "home") -> Any:
    request = asking({"income": ("FP64", [1.0, 2.0])}, raw=True)
    request.inputs.add(name=name, datatype="BYTES", shape=[2])
    request.raw_input_contents.append(data)
    return request


def twice() -> Any:
    request = asking({"income": ("FP64", [1.0])})
    request.inputs.append(request.inputs[0])
    return request


def output(name: str) -> Any:
    request = asking({"income": ("FP64", [1.0])})
    request.outputs.add(name=name)
    return request


WRONG = {
    "unknown tensor": (asking({"incom": ("FP64", [1.0])}), "column 'incom': unknown column; did you mean 'income'?"),
    "the target": (asking({"status": ("BYTES", ["x"])}), "column 'status': is what the model predicts; leave it out"),
    "twice": (twice(), "column 'income': is given twice"),
    "no datatype": (changed(datatype=""), "column 'income': has no datatype"),
    "unknown datatype": (changed(datatype="FP65"), "column 'income': unknown datatype 'FP65'"),
    "another datatype": (
        asking({"income": ("BYTES", ["1"])}),
        "column 'income': datatype BYTES does not fit, expected FP64",
    ),
    "another shape": (changed(shape=[1, 2]), "column 'income': has shape [1, 2], expected [n]"),
    "no shape": (changed(shape=[]), "column 'income': has no shape of whole numbers"),
    "a negative shape": (changed(shape=[-1]), "column 'income': has no shape of whole numbers"),
    "too few bytes": (changed(raw=[b"1234567"]), "column 'income': has 7 bytes, 2 values of FP64 are 16"),
    "too few raw": (changed(raw=[b"", b""]), "raw_input_contents has 2 entries for 1 inputs; each has one"),
    "raw and typed": (with_contents(), "column 'income': has contents beside raw_input_contents; send one of them"),
    "no contents": (changed(raw=[]), "column 'income': has 0 values, its shape [2] says 2"),
    "FP16 typed": (
        changed(raw=[], datatype="FP16"),
        "column 'income': datatype FP16 can only come in raw_input_contents",
    ),
    "INT8 over": (asking({"income": ("INT8", [300])}), "column 'income': holds a number that is no INT8"),
    "bad length": (raw_text(b"\x09\0\0\0ab"), "column 'home': has 6 bytes, which are not 2 texts with their lengths"),
    "cut length": (raw_text(b"\x01\0\0\0a\1"), "column 'home': has 6 bytes, which are not 2 texts with their lengths"),
    "no UTF-8": (raw_text(b"\1\0\0\0a\1\0\0\0\xff"), "column 'home': value 1 is no text in UTF-8"),
    "no time": (
        raw_text(b"\4\0\0\0soon\0\0\0\0", "since"),
        "row 0, column 'since': expected a date or time in ISO 8601 (2026-01-31 or 2026-01-31T12:00:00Z), "
        "got text 'soon'",
    ),
    "NaN where none may be": (asking({"income": ("FP64", [1.0, np.nan])}), "row 1, column 'income': must not be null"),
    "infinity": (asking({"income": ("FP64", [np.inf])}), "row 0, column 'income': is too large a number"),
    "half a year": (
        asking({"income": ("FP64", [1.0]), "age": ("FP64", [30.5])}),
        "row 0, column 'age': expected a whole number, got 30.5",
    ),
    "a missing column": (asking({"age": ("INT64", [3])}), "row 0, column 'income': is missing"),
    "unequal rows": (
        asking({"income": ("FP64", [1.0, 2.0]), "age": ("INT64", [3])}),
        "column 'age': has 1 values, others have 2",
    ),
    "no rows": (asking({}), "there are no rows; send at least one"),
    "no bool": (
        changed(name="married", datatype="BOOL", raw=[b"\1\2"]),
        "column 'married': has bytes other than 0 and 1 as BOOL",
    ),
    "unknown output": (output("logits"), "there is no output 'logits'; there is prediction, probability"),
    "a bad id": (
        asking({"income": ("FP64", [1.0])}, id="a b"),
        "the request id must be 1 to 128 letters, digits or any of . _ : -",
    ),
    "no message": (b"\xff\xff", "the message is no ModelInferRequest"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit(call: Caller, name: str) -> None:
    request, words = WRONG[name]
    assert call.refused(request) == ("INVALID_ARGUMENT", words)


def test_unknown_and_too_large(call: Caller) -> None:
    one = {"income": ("FP64", [1.0])}
    assert call.refused(asking(one, model_name="credits")) == (
        "NOT_FOUND",
        "there is no model 'credits' here; this is 'credit'",
    )
    assert call.refused(asking(one, model_version="9"))[0] == "NOT_FOUND"
    rows = call.refused(asking({"income": ("FP64", [1.0] * 51)}))
    assert rows == (
        "RESOURCE_EXHAUSTED",
        "51 rows are more than the 50 that one request may hold; send several requests",
    )
    assert call.refused(asking({"home": ("BYTES", ["x" * MAX_BYTES])}))[0] == "RESOURCE_EXHAUSTED"
    assert call("ModelInfer", asking(one)).model_version == "1"


def test_keys(tiny_serving: Servings) -> None:
    serving = tiny_serving(auth="keys")
    key, text = issue("predict")
    feedback, other = issue("feedback")
    write_keys(serving.state, lambda: [key, feedback])
    request = asking({"income": ("FP64", [1.0])})
    with answering(create_app(serving)) as (http, target), grpc.insecure_channel(target) as channel:
        call = Caller(channel, http)
        assert call("ServerLive").live and call("ServerReady").ready
        assert call.refused(request)[0] == call.refused(None, "ServerMetadata")[0] == "UNAUTHENTICATED"
        assert call.refused(request, "ModelInfer", ("authorization", f"Bearer {text}x"))[0] == "UNAUTHENTICATED"
        assert call.refused(request, "ModelInfer", ("authorization", f"Bearer {other}"))[0] == "PERMISSION_DENIED"
        assert call("ModelInfer", request, ("authorization", f"Bearer {text}")).model_version == "1"


def test_what_is_answered_is_logged(tiny_serving: Servings, tmp_path: Path) -> None:
    serving = tiny_serving()
    with answering(create_app(serving)) as (http, target), grpc.insecure_channel(target) as channel:
        id = Caller(channel, http)("ModelInfer", asking(TENSORS, raw=True), ("x-request-id", "mine")).id
    assert id == "mine"
    written = "".join(p.read_text() for p in serving.log.glob("*.jsonl"))
    assert written.count('"mine"') == 1 and '"home":["rent",null]' in written


def test_candidates_answer_from_their_process(tiny_serving: Servings) -> None:
    serving = tiny_serving({1: 50.0, 2: 50.0}, deadline=10.0)
    with answering(create_app(serving)) as (http, target), grpc.insecure_channel(target) as channel:
        call = Caller(channel, http)
        for raw in (False, True):
            first, second = (arrays(call("ModelInfer", asking(TENSORS, raw, model_version=v))) for v in ("1", "2"))
            assert (second["probability"][:, 1] > first["probability"][:, 1]).all()
        assert {call("ModelInfer", asking(TENSORS)).model_version for _ in range(40)} == {"1", "2"}


def test_a_caller_sticks_to_a_version_by_a_field_however_it_is_sent(tiny_serving: Servings) -> None:
    serving = tiny_serving({1: 50.0, 2: 50.0}, deadline=10.0, sticky="field:home")
    with answering(create_app(serving)) as (http, target), grpc.insecure_channel(target) as channel:
        call = Caller(channel, http)
        for home in ("rent", "own", "a", "b", "c", "d"):
            plain = {"income": 1.0, "home": home}
            versions = {str(httpx.post(f"http://{http}/predict", json=plain, trust_env=False).json()["version"])}
            tensors = {"income": ("FP64", [1.0]), "home": ("BYTES", [home])}
            versions |= {call("ModelInfer", asking(tensors, raw)).model_version for raw in (False, True)}
            assert len(versions) == 1
