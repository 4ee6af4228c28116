"""The Open Inference Protocol v2, by a client of our own over real HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mlops_core.bundle import open_bundle, seal
from mlops_core.contracts import Choice, Column, Route, Serving, Signature
from mlops_core.features import ArrayFeature, Encoder, ModelFile, save_onnx
from mlops_core.serving import create_app

Servings = Callable[..., Serving]
DTYPES = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_, "BYTES": object}


class Client:
    """What a client of the protocol does, from its specification only."""

    def __init__(self, http: httpx.Client, model: str) -> None:
        self.http = http
        self.model = f"/v2/models/{model}"

    def infer(self, tensors: dict[str, Any], version: int | None = None, **more: Any) -> dict[str, Any]:
        answer = self.post(tensors, version, **more)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        arrays = {o["name"]: np.array(o["data"], DTYPES[o["datatype"]]).reshape(o["shape"]) for o in found["outputs"]}
        return {**found, "arrays": arrays}

    def post(self, tensors: dict[str, Any], version: int | None = None, **more: Any) -> httpx.Response:
        path = self.model + (f"/versions/{version}" if version else "") + "/infer"
        inputs = [{"name": n, "datatype": d, "shape": s, "data": v} for n, (d, s, v) in tensors.items()]
        return self.http.post(path, json={"inputs": inputs, **more})


@pytest.fixture
def client(tiny_serving: Servings, http: Callable[[Any], httpx.Client]) -> Iterator[Client]:
    app = create_app(tiny_serving({1: 100.0, 2: 0.0}, max_rows=50))
    yield Client(http(app), "credit")
    app.close()


TENSORS = {
    "age": ("INT64", [2], [30, None]),
    "income": ("FP64", [2, 1], [[1000.0], [2000.5]]),
    "home": ("BYTES", [2], ["rent", None]),
    "married": ("BOOL", [2, 1], [True, False]),
    "since": ("BYTES", [2], ["2020-01-01T00:00:00", None]),
}


def test_metadata_and_health(client: Client) -> None:
    get = client.http.get
    assert get("/v2").json() == {"name": "mlops_core", "version": "2", "extensions": ["binary_tensor_data"]}
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    for ready in ("/v2/models/credit/ready", "/v2/models/credit/versions/2/ready"):
        assert get(ready).json() == {"name": "credit", "ready": True}
    model = get("/v2/models/credit").json()
    assert model["versions"] == ["1", "2"] and get("/v2/models/credit/versions/2").json()["versions"] == ["2"]
    assert [(i["name"], i["datatype"], i["shape"]) for i in model["inputs"]] == [
        ("age", "INT64", [-1]),
        ("income", "FP64", [-1]),
        ("home", "BYTES", [-1]),
        ("married", "BOOL", [-1]),
        ("since", "BYTES", [-1]),
    ]
    assert [(o["name"], o["datatype"], o["shape"]) for o in model["outputs"]] == [
        ("prediction", "BYTES", [-1]),
        ("probability", "FP64", [-1, 2]),
    ]


def test_the_same_answer_as_plain_json(client: Client) -> None:
    found = client.infer(TENSORS, id="q-1")
    rows = [
        {"age": 30, "income": 1000.0, "home": "rent", "married": True, "since": "2020-01-01"},
        {"income": 2000.5, "married": False},
    ]
    plain = client.http.post("/predict", json={"rows": rows}).json()
    assert found["model_name"] == "credit" and found["model_version"] == "1" and found["id"] == "q-1"
    assert found["arrays"]["probability"].tolist() == [list(p["probability"].values()) for p in plain["predictions"]]
    assert found["arrays"]["prediction"].tolist() == [p["prediction"] for p in plain["predictions"]]


def test_a_version_is_called_by_its_number_whatever_its_weight(client: Client) -> None:
    first, second = client.infer(TENSORS), client.infer(TENSORS, version=2)
    assert second["model_version"] == "2"
    assert (second["arrays"]["probability"][:, 1] > first["arrays"]["probability"][:, 1]).all()


def test_only_the_outputs_asked_for(client: Client) -> None:
    assert list(client.infer(TENSORS, outputs=[{"name": "probability"}])["arrays"]) == ["probability"]


@pytest.mark.parametrize(
    "kind", ["FP64", "FP32", "FP16", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT8"]
)
def test_numbers_of_any_type(client: Client, kind: str) -> None:
    assert client.infer({"income": (kind, [1], [100])})["outputs"][0]["shape"] == [1]


@pytest.mark.parametrize(
    ("tensors", "status", "detail"),
    [
        ({"incom": ("FP64", [1], [1])}, 422, "column 'incom': unknown column; did you mean 'income'?"),
        ({"status": ("BYTES", [1], ["x"])}, 422, "column 'status': is what the model predicts; leave it out"),
        ({"income": ("FP65", [1], [1])}, 422, "column 'income': unknown datatype 'FP65'"),
        ({"income": (None, [1], [1])}, 422, "column 'income': has no datatype"),
        ({"income": ("BYTES", [1], ["1"])}, 422, "column 'income': datatype BYTES does not fit, expected FP64"),
        ({"home": ("FP64", [1], [1])}, 422, "column 'home': datatype FP64 does not fit, expected BYTES"),
        ({"income": ("FP64", [2, 2], [1, 2, 3, 4])}, 422, "column 'income': has shape [2, 2], expected [n]"),
        ({"income": ("FP64", [], [])}, 422, "column 'income': has no shape of whole numbers"),
        ({"income": ("FP64", [-1], [1])}, 422, "column 'income': has no shape of whole numbers"),
        ({"income": ("FP64", [2], [1])}, 422, "column 'income': has 1 values, its shape [2] says 2"),
        (
            {"income": ("FP64", [1], "AAAA")},
            422,
            "column 'income': data is text, expected a list",
        ),
        ({"income": ("FP64", [1], [[[1]]])}, 422, "row 0, column 'income': expected a number, got a list"),
        ({"income": ("FP64", [1], [None])}, 422, "row 0, column 'income': must not be null"),
        ({"income": ("FP64", [1], ["x"])}, 422, "row 0, column 'income': expected a number, got text 'x'"),
        (
            {"income": ("FP64", [2], [1, 2]), "age": ("INT64", [1], [3])},
            422,
            "column 'age': has 1 values, others have 2",
        ),
        ({"age": ("INT64", [1], [3])}, 422, "row 0, column 'income': is missing"),
        (
            {"income": ("FP64", [51], [1.0] * 51)},
            413,
            "51 rows are more than the 50 that one request may hold; send several requests",
        ),
        (
            {"income": ("FP64", [10**11], [1.0])},
            413,
            "100000000000 rows are more than the 50 that one request may hold; send several requests",
        ),
        ({}, 422, "there are no rows; send at least one"),
    ],
)
def test_what_does_not_fit(client: Client, tensors: dict[str, Any], status: int, detail: str) -> None:
    answer = client.post(tensors)
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)
    assert answer.json()["error"] == detail


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ([], 'the body has no list "inputs" of tensors'),
        ({"inputs": {}}, 'the body has no list "inputs" of tensors'),
        ({"inputs": [3]}, "inputs[0] is no tensor: expected name, shape, datatype and data"),
        (
            {"inputs": [{"name": "income", "datatype": "FP64", "shape": [1], "data": [1]}] * 2},
            "column 'income': is given twice",
        ),
    ],
)
def test_what_is_no_request(client: Client, body: Any, detail: str) -> None:
    answer = client.http.post("/v2/models/credit/infer", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)


def test_unknown_outputs_and_bad_ids(client: Client) -> None:
    tensors = {"income": ("FP64", [1], [1])}
    wrong = client.post(tensors, outputs=[{"name": "logits"}])
    assert wrong.json()["detail"] == "there is no output 'logits'; there is prediction, probability"
    assert client.post(tensors, outputs=3).json()["detail"] == "outputs is a number, expected a list"
    assert client.post(tensors, id="a b").json()["detail"].startswith("the request id must be 1 to 128 letters")
    assert client.post(tensors, id=7).status_code == 400


def seal_array_model(folder: Path) -> Path:
    """A regression on a 2 x 3 array column: the sum of its cells."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = folder / "model"
    model.mkdir(parents=True)
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["image", "axes"], ["prediction"], keepdims=0)],
        "sum",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 2, 3])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array([1, 2], np.int64), "axes")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, str(model / "model.onnx"))
    encoder = Encoder(arrays=(ArrayFeature(name="image", shape=(2, 3)),))
    save_onnx(model, encoder, ModelFile(format="onnx", task="regression", target="sum"))
    image = Column(name="image", kind="array", dtype="array", shape=(2, 3))
    samples = {"image": np.ones((1, 2, 3), np.float32), "prediction": np.array([6.0])}
    signature = Signature(inputs=(image,), task="regression", target="sum")
    return seal(
        model,
        folder / "bundle",
        signature=signature,
        trainer=Choice(plugin="sum"),
        lineage={},
        profile=None,
        samples=samples,
    )


def test_arrays_and_regression(tmp_path: Path, http: Callable[[Any], httpx.Client]) -> None:
    bundle = seal_array_model(tmp_path)
    route = Route(version=1, bundle=bundle, sha256=open_bundle(bundle).sha256)
    app = create_app(Serving(name="sum", routes=(route,), state=tmp_path, log=tmp_path / "log"))
    client = Client(http(app), "sum")
    flat = client.infer({"image": ("FP32", [2, 2, 3], [1.0] * 12)})
    nested = client.infer({"image": ("FP32", [2, 2, 3], [[[1, 1, 1], [1, 1, 1]]] * 2)})
    assert flat["arrays"]["prediction"].tolist() == [6.0, 6.0] == nested["arrays"]["prediction"].tolist()
    plain = client.http.post("/predict", json={"rows": [{"image": [[1, 2, 3], [4, 5, 6]]}]})
    assert plain.json()["predictions"] == [{"prediction": 21.0}]
    for image, message in (
        ([[1, 2], [3, 4]], "expected 2 x 3 numbers as nested lists, got a list"),
        ([[1, 2, 3], [4, 5]], "expected 2 x 3 numbers as nested lists, got a list"),
        ([[1, 2, "3"], [4, 5, 6]], "expected 2 x 3 numbers as nested lists, got a list"),
        ([[1, 2, 1e300], [4, 5, 6]], "holds too large a number"),
        (None, "must not be null"),
        (7, "expected 2 x 3 numbers as nested lists, got 7"),
    ):
        wrong = client.http.post("/predict", json={"rows": [{"image": image}]})
        assert wrong.json()["errors"] == [{"row": 0, "column": "image", "message": message}]
    refused = client.post({"image": ("FP32", [1, 6], [1.0] * 6)})
    assert refused.json()["detail"] == "column 'image': has shape [1, 6], expected [n, 2, 3]"
    row = client.http.get("/openapi.json").json()["components"]["schemas"]["Row"]["example"]
    assert client.http.post("/predict", json=row).status_code == 200
    app.close()
