"""The network that every contestant serves: a small classifier of eight numbers, as ONNX and as torch, and its rows.

Needs nothing but NumPy to be imported, for it is imported in the environment of every contestant.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NAMES = tuple(f"x{i}" for i in range(8))
CLASSES = ("bad", "good")
HIDDEN = 64


def weights(seed: int = 0) -> list[Any]:
    """Weight and bias of three layers, float32."""
    rng = np.random.default_rng(seed)
    sizes = [(len(NAMES), HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, len(CLASSES))]
    return [a for n, m in sizes for a in (rng.normal(0, n**-0.5, (n, m)).astype("f4"), rng.normal(size=m).astype("f4"))]


def write(path: Path, seed: int = 0) -> None:
    """The network as an ONNX file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    names = [f"p{i}" for i in range(6)]
    nodes = [
        helper.make_node("Gemm", ["matrix", "p0", "p1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "p2", "p3"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "p4", "p5"], ["e"]),
        helper.make_node("Softmax", ["e"], ["probability"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("matrix", TensorProto.FLOAT, ["n", len(NAMES)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", len(CLASSES)])],
        [numpy_helper.from_array(a, n) for a, n in zip(weights(seed), names, strict=True)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def rows(count: int) -> list[dict[str, float]]:
    values = np.random.default_rng(1).normal(size=(count, len(NAMES))).round(3)
    return [dict(zip(NAMES, row, strict=True)) for row in values.tolist()]


def matrix(given: list[dict[str, float]]) -> Any:
    """Rows as the network takes them; nothing is checked."""
    return np.array([[row[name] for name in NAMES] for row in given], np.float32)


class Onnx:
    """The network in ONNX Runtime, one thread: rows to probabilities."""

    def __init__(self, path: str | Path) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, given: Any) -> Any:
        return self.session.run(["probability"], {"matrix": given})[0]


class Torch:
    """The same, eager."""

    def __init__(self, seed: int = 0) -> None:
        import torch

        torch.set_num_threads(1)
        p = [torch.tensor(a) for a in weights(seed)]
        layers = [torch.nn.Linear(len(NAMES), HIDDEN), torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.Linear(HIDDEN, 2)]
        for layer, weight, bias in zip(layers, p[::2], p[1::2], strict=True):
            layer.weight.data, layer.bias.data = weight.T.contiguous(), bias
        relu = torch.nn.ReLU()
        self.net = torch.nn.Sequential(layers[0], relu, layers[1], relu, layers[2], torch.nn.Softmax(1)).eval()
        self.torch = torch

    def __call__(self, given: Any) -> Any:
        with self.torch.inference_mode():
            return self.net(self.torch.from_numpy(given)).numpy()


def body(given: list[dict[str, float]]) -> bytes:
    """The request of everybody but MLServer."""
    return json.dumps({"rows": given}).encode()
