"""Boosted trees as an ONNX graph that answers as the library does, missing values and sets of categories included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mlops_core import Encoder

MODES = {"<": "BRANCH_LT", "<=": "BRANCH_LEQ", "in": "BRANCH_EQ", "leaf": "LEAF"}


@dataclass(frozen=True, slots=True)
class Node:
    """A leaf's value, or a question: goes to `true` where it holds, and where `missing` and there is no number."""

    mode: Literal["<", "<=", "in", "leaf"]
    value: float = 0.0
    feature: int = 0
    chosen: tuple[int, ...] = ()
    true: int = 0
    false: int = 0
    missing: bool = False


@dataclass(frozen=True)
class Ensemble:
    """Trees, which output each adds to, and where each output begins."""

    trees: Sequence[Sequence[Node]]
    outputs: Sequence[int]
    base: Sequence[float]


def write_onnx(ensemble: Ensemble, encoder: Encoder, link: str, path: Path) -> None:
    """Writes `path`: inputs are the encoder's (`matrix` and each array column), the output is `probability` [n, k] or
    `prediction` [n, 1]. The same trees give the same bytes."""
    from onnx import TensorProto, helper

    nodes, inputs = _joined(encoder)
    nodes.append(
        helper.make_node("TreeEnsembleRegressor", ["X"], ["sum"], domain="ai.onnx.ml", **_attributes(ensemble))
    )
    nodes += _answered(link)
    last = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [None, None])
    graph = helper.make_graph(
        nodes, "model", inputs, [last], [_initializer("one", [1.0])] if link == "logistic" else []
    )
    graph.initializer.extend(_shapes(encoder))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _joined(encoder: Encoder) -> tuple[list[Any], list[Any]]:
    """The encoder's inputs side by side as X."""
    from onnx import TensorProto, helper

    nodes, parts, inputs = [], [], []
    if encoder.width:
        parts.append("matrix")
        inputs.append(helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [None, encoder.width]))
    for array in encoder.arrays:
        inputs.append(helper.make_tensor_value_info(array.name, TensorProto.FLOAT, [None, *array.shape]))
        nodes.append(helper.make_node("Reshape", [array.name, f"{array.name}:shape"], [f"{array.name}:flat"]))
        parts.append(f"{array.name}:flat")
    return [*nodes, helper.make_node("Concat", parts, ["X"], axis=1)], inputs


def _shapes(encoder: Encoder) -> list[Any]:
    import numpy as np

    return [_initializer(f"{a.name}:shape", [-1, int(np.prod(a.shape))]) for a in encoder.arrays]


def _initializer(name: str, values: Sequence[float]) -> Any:
    import numpy as np
    from onnx import numpy_helper

    dtype = np.int64 if isinstance(values[0], int) else np.float32
    return numpy_helper.from_array(np.array(values, dtype), name)


def _answered(link: str) -> list[Any]:
    """From the sums of the trees to the answer."""
    from onnx import helper

    if link == "logistic":
        return [
            helper.make_node("Sigmoid", ["sum"], ["positive"]),
            helper.make_node("Sub", ["one", "positive"], ["negative"]),
            helper.make_node("Concat", ["negative", "positive"], ["probability"], axis=1),
        ]
    if link == "softmax":
        return [helper.make_node("Softmax", ["sum"], ["probability"], axis=1)]
    return [helper.make_node("Exp" if link == "exp" else "Identity", ["sum"], ["prediction"])]


def _attributes(ensemble: Ensemble) -> dict[str, Any]:
    """The trees as ONNX lays them out: a list for each property of a node, and one for each of a leaf."""
    rows: list[tuple[int, int, int, str, float, int, int, int]] = []
    leaves: list[tuple[int, int, int, float]] = []
    for number, (tree, output) in enumerate(zip(ensemble.trees, ensemble.outputs, strict=True)):
        after = len(tree)
        for place, node in enumerate(tree):
            if node.mode == "leaf":
                rows.append((number, place, 0, "LEAF", 0.0, 0, 0, 0))
                leaves.append((number, place, output, node.value))
            elif node.mode == "in":
                # One question for each category of the set; all go to the same child.
                places = [place, *range(after, after + len(node.chosen) - 1)]
                after += len(places) - 1
                for here, code, other in zip(places, node.chosen, [*places[1:], node.false], strict=True):
                    rows.append((number, here, node.feature, MODES["in"], float(code), node.true, other, 0))
            else:
                value = _float32(node.value, down=node.mode == "<=")
                rows.append(
                    (number, place, node.feature, MODES[node.mode], value, node.true, node.false, int(node.missing))
                )
    rows.sort(key=lambda row: row[:2])
    names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    nodes = {f"nodes_{name}": list(column) for name, column in zip(names, zip(*rows, strict=True), strict=False)}
    targets = dict(zip(("treeids", "nodeids", "ids", "weights"), map(list, zip(*leaves, strict=True)), strict=True))
    return {
        **nodes,
        "nodes_missing_value_tracks_true": [row[-1] for row in rows],
        **{f"target_{name}": column for name, column in targets.items()},
        "n_targets": len(ensemble.base),
        "base_values": [float(v) for v in ensemble.base],
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


def _float32(threshold: float, *, down: bool) -> float:
    """The threshold as ONNX stores it. Inputs are float32, so `x <= threshold` comes out the same for each of them if a
    threshold between two of them is rounded down."""
    import numpy as np

    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    return float(np.nextafter(near, np.float32(-np.inf)) if down and float(near) > threshold else near)
