"""Fixtures that more than one room's tests use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_core.bundle import open_bundle, seal
from mlops_core.contracts import Choice, Column, Route, Serving, Signature
from mlops_core.features import CategoryFeature, Encoder, ModelFile, NumberFeature, load_onnx, save_onnx

INPUTS = (
    Column(name="age", kind="number", dtype="int64"),
    Column(name="income", kind="number", dtype="float64", nullable=False),
    Column(name="home", kind="category", dtype="string", categories=("rent", "own")),
    Column(name="married", kind="boolean", dtype="boolean"),
    Column(name="since", kind="time", dtype="datetime"),
)
SAMPLES: dict[str, Any] = {
    "age": np.array([30.0, np.nan, 55.0]),
    "income": np.array([1000.0, 2000.5, 10.0]),
    "home": np.array(["rent", None, "own"], object),
    "married": np.array([1.0, 0.0, np.nan]),
    "since": np.array(["2020-01-01", "NaT", "2021-06-01"], "datetime64[us]"),
}


def write_tiny_model(folder: Path, bias: float = 0.0) -> Path:
    """A linear binary classifier as an ONNX model folder; `bias` shifts its answers, to tell versions apart."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True)
    encoder = Encoder(
        numbers=(
            NumberFeature(name="age", mean=40, scale=10, flag=True),
            NumberFeature(name="income", mean=1000, scale=1000),
            NumberFeature(name="married"),
            NumberFeature(name="since", mean=1.6e9, scale=1e8),
        ),
        categories=(CategoryFeature(name="home", values=("rent", "own")),),
        layout="onehot",
    )
    weight = np.linspace(-1, 1, encoder.width * 2, dtype=np.float32).reshape(encoder.width, 2)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["matrix", "w", "b"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probability"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("matrix", TensorProto.FLOAT, ["n", encoder.width])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([0, bias], np.float32), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    save_onnx(folder, encoder, ModelFile(format="onnx", task="binary", target="status", classes=("bad", "good")))
    return folder


def seal_tiny_bundle(folder: Path, bias: float = 0.0) -> Path:
    model = write_tiny_model(folder.with_name(folder.name + "-model"), bias)
    return seal(
        model,
        folder,
        signature=Signature(inputs=INPUTS, task="binary", target="status", classes=("bad", "good")),
        trainer=Choice(plugin="tiny", options={"bias": bias}),
        lineage={"name": "credit", "data": "abc", "seed": 0},
        profile=None,
        samples={**SAMPLES, **load_onnx(model)(SAMPLES)},
    )


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Callable[..., Path]:
    """`tiny_bundle(version=1)` seals a bundle whose answers depend on the version, and returns its folder."""
    return lambda version=1: seal_tiny_bundle(tmp_path / "bundles" / f"v{version}", bias=float(version))


@pytest.fixture
def tiny_serving(tmp_path: Path, tiny_bundle: Callable[..., Path]) -> Callable[..., Serving]:
    """`tiny_serving({1: 90, 2: 10})` is an endpoint 'credit' of tiny bundles with these weights."""

    def build(weights: dict[int, float] | None = None, **fields: Any) -> Serving:
        routes = []
        for version, weight in (weights or {1: 100.0}).items():
            path = tmp_path / "bundles" / f"v{version}"
            path = path if path.exists() else tiny_bundle(version)
            role = "stable" if not routes else "candidate"
            routes.append(
                Route(version=version, bundle=path, sha256=open_bundle(path).sha256, weight=weight, role=role)
            )
        state = tmp_path / "serve"
        return Serving(**{"name": "credit", "routes": tuple(routes), "state": state, "log": state / "log", **fields})

    return build
