"""What a request costs by the way it is spelled: CPU us in the serving process, without a network.

The same rows as plain rows, plain columns, JSON tensors, raw tensors over REST, and a gRPC message, to the same app:
reading, validation, the model, the prediction log and the spelling of the answer. The ways take turns; the figures are
the least of many, since other work on the machine only ever adds. 20 columns, 13 of them categories; then 7 numbers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper

from mlops_core.bundle import open_bundle, seal
from mlops_core.contracts import Choice, Column, Route, Serving, Signature
from mlops_core.features import CategoryFeature, Encoder, ModelFile, NumberFeature, load_onnx, save_onnx
from mlops_core.serving import create_app
from mlops_core.serving.messages import messages
from mlops_core.serving.rpc import Rpc
from mlops_core.serving.tensors import packed

NUMBERS = tuple(f"n{i}" for i in range(7))
VALUES = tuple("abcde")
INFER = "/v2/models/credit/infer"


def main() -> None:
    for categories in (13, 0):
        with tempfile.TemporaryDirectory() as folder:
            app = create_app(serving(Path(folder), tuple(f"c{i}" for i in range(categories))))
            for rows in (1, 64):
                taken = least(ways(app, rows, categories), 60, 100 if rows == 1 else 20)
                told = "  ".join(f"{name} {us:.0f}" for name, us in taken.items())
                print(f"{7 + categories:>2} columns, {rows:>2} rows: CPU us  {told}", flush=True)
            app.close()


def serving(folder: Path, categories: tuple[str, ...]) -> Serving:
    numbers = tuple(NumberFeature(name=n, mean=5, scale=2) for n in NUMBERS)
    words = tuple(CategoryFeature(name=c, values=VALUES) for c in categories)
    encoder = Encoder(numbers=numbers, categories=words, layout="onehot")
    weight = np.linspace(-1, 1, encoder.width * 2, dtype=np.float32).reshape(encoder.width, 2)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["matrix", "w"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probability"], axis=1),
        ],
        "linear",
        [helper.make_tensor_value_info("matrix", TensorProto.FLOAT, ["n", encoder.width])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = folder / "model"
    model.mkdir()
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, str(model / "model.onnx"))
    save_onnx(model, encoder, ModelFile(format="onnx", task="binary", target="y", classes=("bad", "good")))
    inputs = tuple(Column(name=n, kind="number", dtype="int64") for n in NUMBERS)
    inputs += tuple(Column(name=c, kind="category", dtype="string", categories=VALUES) for c in categories)
    samples: dict[str, Any] = {n: np.arange(3.0) for n in NUMBERS}
    samples |= {c: np.array(["a", "b", None], object) for c in categories}
    bundle = seal(
        model,
        folder / "bundle",
        signature=Signature(inputs=inputs, task="binary", target="y", classes=("bad", "good")),
        trainer=Choice(plugin="linear"),
        lineage={},
        profile=None,
        samples={**samples, **load_onnx(model)(samples)},
    )
    route = Route(version=1, bundle=bundle, sha256=open_bundle(bundle).sha256)
    return Serving(name="credit", routes=(route,), state=folder / "serve", log=folder / "log")


def ways(app: Any, rows: int, categories: int) -> dict[str, Callable[[], None]]:
    columns: dict[str, list[Any]] = {n: [i] * rows for i, n in enumerate(NUMBERS)}
    columns |= {f"c{i}": ["b"] * rows for i in range(categories)}
    kinds = {name: "BYTES" if isinstance(values[0], str) else "INT64" for name, values in columns.items()}
    named = [{"name": n, "datatype": kinds[n], "shape": [rows]} for n in columns]
    raw = [packed(kinds[n], np.array(v, object if kinds[n] == "BYTES" else None)) for n, v in columns.items()]
    sized = [t | {"parameters": {"binary_data_size": len(r)}} for t, r in zip(named, raw, strict=True)]
    head = orjson.dumps({"inputs": sized, "parameters": {"binary_data_output": True}})
    message = messages()["ModelInferRequest"](model_name="credit", raw_input_contents=raw)
    for tensor in named:
        message.inputs.add(**tensor)
    sent, rpc = message.SerializeToString(), Rpc(app)
    listed = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    json = [t | {"data": v} for t, v in zip(named, columns.values(), strict=True)]
    length = (b"inference-header-content-length", b"%d" % len(head))
    return {
        "rows": asked(app, "/predict", orjson.dumps({"rows": listed})),
        "columns": asked(app, "/predict", orjson.dumps({"columns": columns})),
        "JSON tensors": asked(app, INFER, orjson.dumps({"inputs": json})),
        "raw tensors": asked(app, INFER, head + b"".join(raw), length),
        "gRPC": lambda: finished(rpc._infer(sent, [])),
    }


def asked(app: Any, path: str, body: bytes, *headers: tuple[bytes, bytes]) -> Callable[[], None]:
    scope = {"type": "http", "method": "POST", "path": path, "headers": [(b"host", b"x"), *headers]}
    status: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        status.append(message.get("status", 0))

    def ask() -> None:
        status.clear()
        finished(app(scope, receive, send))
        assert status[0] == 200, (path, status)

    return ask


def finished(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Runs what never waits: requests this small are answered at once."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("it waits for something")


def least(calls: dict[str, Callable[[], None]], turns: int, times: int) -> dict[str, float]:
    found = dict.fromkeys(calls, 1e9)
    for _ in range(turns):
        for name, call in calls.items():
            began = time.thread_time()
            for _ in range(times):
                call()
            found[name] = min(found[name], (time.thread_time() - began) / times * 1e6)
    return found


if __name__ == "__main__":
    main()
