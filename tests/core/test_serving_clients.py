"""The endpoint by clients that others wrote: tritonclient over HTTP and gRPC with its own defaults, and KServe's."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
from endpoint_kit import answering
from tritonclient.utils import InferenceServerException

from mlops_core.contracts import Serving
from mlops_core.serving import create_app

HERE = Path(__file__).parent
ROWS = [
    {"age": 30, "income": 1000.0, "home": "rent", "married": True, "since": "2020-01-01"},
    {"income": 2000.5, "home": "ünder", "married": False},
    {"age": 55, "income": 10.0, "married": True, "since": "2021-06-01T12:00:00"},
]
ARRAYS: dict[str, tuple[str, Any]] = {
    "age": ("FP64", np.array([30, np.nan, 55])),
    "income": ("FP64", np.array([1000.0, 2000.5, 10.0])),
    "home": ("BYTES", np.array(["rent", "ünder", ""], object)),
    "married": ("BOOL", np.array([True, False, True])),
    "since": ("BYTES", np.array(["2020-01-01", "", "2021-06-01T12:00:00"], object)),
}
Ports = tuple[str, str]


@pytest.fixture(scope="module")
def ports(module_serving: Callable[..., Serving]) -> Iterator[Ports]:
    with answering(create_app(module_serving({1: 100.0, 2: 0.0}, max_rows=5000))) as found:
        yield found


@pytest.fixture(params=["http", "grpc"])
def triton(ports: Ports, request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """tritonclient's module, and a client of it."""
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[request.param]
    with module.InferenceServerClient(ports[request.param == "grpc"]) as client:
        yield module, client


def plain(ports: Ports, rows: Any = ROWS) -> tuple[list[Any], list[list[float]]]:
    found = httpx.post(f"http://{ports[0]}/predict", json={"rows": rows}, trust_env=False).json()["predictions"]
    return [p["prediction"] for p in found], [list(p["probability"].values()) for p in found]


def inputs(module: Any, arrays: Any = ARRAYS, **how: Any) -> list[Any]:
    made = []
    for name, (kind, array) in arrays.items():
        made.append(module.InferInput(name, list(array.shape), kind))
        made[-1].set_data_from_numpy(array, **how)
    return made


def answered(result: Any) -> tuple[list[Any], list[list[float]]]:
    labels = result.as_numpy("prediction").tolist()
    return [v.decode() if isinstance(v, bytes) else v for v in labels], result.as_numpy("probability").tolist()


def test_triton_health_and_metadata(triton: tuple[Any, Any]) -> None:
    module, client = triton
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("credit") and client.is_model_ready("credit", "2")
    assert not client.is_model_ready("credits") if module is tritonclient.http else True
    as_json = {} if module is tritonclient.http else {"as_json": True}
    assert client.get_server_metadata(**as_json)["name"] == "mlops_core"
    model = client.get_model_metadata("credit", **as_json)
    assert model["versions"] == ["1", "2"] and [i["name"] for i in model["inputs"]] == list(ARRAYS)


def test_triton_as_it_comes(triton: tuple[Any, Any], ports: Ports) -> None:
    module, client = triton
    result = client.infer("credit", inputs(module), request_id="t-1")
    assert answered(result) == plain(ports)
    assert result.as_numpy("probability").dtype == np.float64
    response = result.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "t-1"
    second = client.infer("credit", inputs(module), model_version="2")
    assert (second.as_numpy("probability")[:, 1] > result.as_numpy("probability")[:, 1]).all()


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_triton_with_tensors_raw_or_as_json(ports: Ports, sent: bool, wanted: bool) -> None:
    arrays = ARRAYS if sent else ARRAYS | {"age": ("FP64", np.array([30.0, 0.0, 55.0]))}
    rows = ROWS if sent else [ROWS[0], ROWS[1] | {"age": 0}, ROWS[2]]  # its JSON would hold NaN, which is none
    asked = [tritonclient.http.InferRequestedOutput(n, binary_data=wanted) for n in ("probability", "prediction")]
    with tritonclient.http.InferenceServerClient(ports[0]) as client:
        result = client.infer("credit", inputs(tritonclient.http, arrays, binary_data=sent), outputs=asked)
    assert answered(result) == plain(ports, rows)
    assert [("parameters" in o) == wanted for o in result.get_response()["outputs"]] == [True, True]


def test_triton_with_raw_tensors_beside_json(ports: Ports) -> None:
    module = tritonclient.http
    given = inputs(module, {k: ARRAYS[k] for k in ("age", "home")})
    given += inputs(module, {k: ARRAYS[k] for k in ("income", "married", "since")}, binary_data=False)
    asked = [module.InferRequestedOutput("probability", binary_data=False), module.InferRequestedOutput("prediction")]
    with module.InferenceServerClient(ports[0]) as client:
        assert answered(client.infer("credit", given, outputs=asked)) == plain(ports)


@pytest.mark.parametrize(
    "kind", ["FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT32", "UINT64"]
)
def test_triton_numbers_of_any_type(triton: tuple[Any, Any], kind: str, ports: Ports) -> None:
    module, client = triton
    dtype = {"F": "float", "I": "int", "U": "uint"}[kind[0]] + kind.lstrip("UINTFP")
    result = client.infer("credit", inputs(module, {"income": (kind, np.array([[100], [7]], dtype))}))
    assert answered(result) == plain(ports, [{"income": 100.0}, {"income": 7.0}])


def test_triton_many_rows(triton: tuple[Any, Any], ports: Ports) -> None:
    module, client = triton
    arrays = {name: (kind, np.resize(array, 4000)) for name, (kind, array) in ARRAYS.items()}
    labels, shares = answered(client.infer("credit", inputs(module, arrays)))
    assert (labels[:3], shares[:3]) == plain(ports) and len(labels) == 4000
    too_many = {"income": ("FP64", np.ones(5001))}
    with pytest.raises(InferenceServerException, match="5001 rows are more than the 5000 that one request may hold"):
        client.infer("credit", inputs(module, too_many))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"incom": ("FP64", np.ones(1))}, "column 'incom': unknown column; did you mean 'income'?"),
        ({"income": ("BYTES", np.array(["1"], object))}, "column 'income': datatype BYTES does not fit, expected FP64"),
        ({"income": ("FP64", np.ones((1, 2)))}, r"column 'income': has shape \[1, 2\], expected \[n\]"),
        ({"income": ("FP64", np.array([np.nan]))}, "row 0, column 'income': must not be null"),
        ({"age": ("INT64", np.array([3]))}, "row 0, column 'income': is missing"),
        (
            {"income": ("FP64", np.ones(2)), "age": ("FP64", np.array([1, 2.5]))},
            "row 1, column 'age': expected a whole number, got 2.5",
        ),
    ],
)
def test_triton_is_told_what_is_wrong(triton: tuple[Any, Any], arrays: Any, words: str) -> None:
    module, client = triton
    with pytest.raises(InferenceServerException, match=words) as caught:
        client.infer("credit", inputs(module, arrays))
    assert caught.value.status() in ("422", "StatusCode.INVALID_ARGUMENT")
    for name, version, told in (("credits", "", "no model 'credits'"), ("credit", "9", "no version '9'")):
        with pytest.raises(InferenceServerException, match=told) as caught:
            client.infer(name, inputs(module), model_version=version)
        assert caught.value.status() in ("404", "StatusCode.NOT_FOUND")


def test_triton_without_waiting(ports: Ports) -> None:
    module = tritonclient.grpc.aio

    async def ask() -> list[Any]:
        async with module.InferenceServerClient(ports[1]) as client:
            asked = [client.infer("credit", inputs(module)) for _ in range(20)]
            return [answered(result) for result in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [plain(ports)] * 20


@pytest.mark.parametrize(
    ("length", "body", "status", "detail"),
    [
        ("x", b"{}", 400, "inference-header-content-length is 'x', the body has 2 bytes"),
        ("-1", b"{}", 400, "inference-header-content-length is '-1', the body has 2 bytes"),
        ("99999999999", b"{}", 400, "inference-header-content-length is '99999999999', the body has 2 bytes"),
        ("0", b"{}", 400, "the body is empty; send JSON"),
        ("1", b"{}", 400, "the body is no JSON from line 1, column 2 on"),
        ("2", b"{}", 422, 'the body has no list "inputs" of tensors'),
        ("2", b"{}abc", 422, "3 bytes of the body belong to no tensor"),
        ("2", b"[]abc", 422, "3 bytes of the body belong to no tensor"),
    ],
)
def test_bodies_that_are_no_raw_tensors(ports: Ports, length: str, body: bytes, status: int, detail: str) -> None:
    url, headers = f"http://{ports[0]}/v2/models/credit/infer", {"inference-header-content-length": length}
    found = httpx.post(url, content=body, headers=headers, trust_env=False)
    assert (found.status_code, found.json()["detail"]) == (status, detail)


@pytest.mark.parametrize(
    ("tensor", "raw", "detail"),
    [
        ({"parameters": {"binary_data_size": 9}}, b"12345678", "binary_data_size is 9, 8 bytes are left in the body"),
        ({"parameters": {"binary_data_size": -1}}, b"", "binary_data_size is -1, 0 bytes are left in the body"),
        ({"parameters": {"binary_data_size": "8"}}, b"12345678", "binary_data_size is 8, 8 bytes are left in the body"),
        (
            {"parameters": {"binary_data_size": 8}, "data": [1]},
            b"12345678",
            "has data beside binary_data_size; send one of them",
        ),
        ({"parameters": {"binary_data_size": 4}}, b"1234", "has 4 bytes, 1 values of FP64 are 8"),
        (
            {},
            b"",
            "data is null, expected a list; binary data needs the header inference-header-content-length",
        ),
    ],
)
def test_raw_tensors_that_are_not_what_they_say(ports: Ports, tensor: Any, raw: bytes, detail: str) -> None:
    body = {"inputs": [{"name": "income", "datatype": "FP64", "shape": [1], **tensor}]}
    text = json.dumps(body).encode()
    url, headers = f"http://{ports[0]}/v2/models/credit/infer", {"inference-header-content-length": str(len(text))}
    found = httpx.post(url, content=text + raw, headers=headers, trust_env=False)
    assert (found.status_code, found.json()["detail"]) == (422, f"column 'income': {detail}")


KSERVE = """
import asyncio, json, sys
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

http, grpc = sys.argv[1:]
KINDS = {"age": "FP64", "income": "FP64", "home": "BYTES", "married": "BOOL", "since": "BYTES"}
COLUMNS = {
    "age": [30.0, float("nan"), 55.0], "income": [1000.0, 2000.5, 10.0], "home": ["rent", "ünder", ""],
    "married": [True, False, True], "since": ["2020-01-01", "", "2021-06-01T12:00:00"],
}

def request(raw, **wrong):
    inputs = []
    for name, values in (COLUMNS | wrong).items():
        array = np.array(values, object if KINDS[name] == "BYTES" else None)
        inputs.append(InferInput(name, list(array.shape), KINDS[name]))
        inputs[-1].set_data_from_numpy(array, binary_data=raw)
    return InferRequest("credit", inputs, request_id="k-1")

def told(answer):
    found = {o.name: o.as_numpy().tolist() for o in answer.outputs}
    labels = [v.decode() if isinstance(v, bytes) else v for v in found["prediction"]]
    return [labels, found["probability"], answer.id]

async def main():
    found = {}
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    url = f"http://{http}"
    found["rest"] = [await rest.is_server_live(url), await rest.is_server_ready(url)]
    found["rest"].append(await rest.is_model_ready(url, "credit"))
    found["rest raw"] = told(await rest.infer(url, request(True), model_name="credit"))
    found["rest json"] = told(await rest.infer(url, request(False, age=[30.0, 0.0, 55.0]), model_name="credit"))
    await rest.close()
    async with InferenceGRPCClient(grpc) as client:
        found["grpc"] = [await client.is_server_live(), await client.is_server_ready()]
        found["grpc"].append(await client.is_model_ready("credit"))
        for raw in (True, False):
            found[f"grpc {'raw' if raw else 'typed'}"] = told(await client.infer(request(raw)))
    print(json.dumps(found))

asyncio.run(main())
"""


def kserve_python() -> str:
    own = HERE.parents[1] / ".nox" / "kserve" / "bin" / "python"
    found = os.environ.get("KSERVE_PYTHON") or (str(own) if own.exists() else "")
    if not found:
        pytest.skip("KServe's client needs an environment of its own (psutil<6, pandas<3): 'nox -s kserve' makes it")
    return found


def test_kserve(ports: Ports) -> None:
    command = [kserve_python(), "-W", "ignore", "-c", KSERVE, *ports]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    labels, shares = plain(ports)
    assert found["rest"] == found["grpc"] == [True, True, True]
    for how in ("rest raw", "grpc raw", "grpc typed"):
        assert found[how] == [labels, shares, "k-1"], how
    filled = plain(ports, [ROWS[0], ROWS[1] | {"age": 0}, ROWS[2]])
    assert found["rest json"] == [*map(list, filled), "k-1"]
