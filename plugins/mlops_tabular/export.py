"""A fitted scikit-learn estimator as an ONNX graph that takes the encoder's inputs."""

from __future__ import annotations

import copy
import itertools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import Task

if TYPE_CHECKING:
    from mlops_core import Encoder


class NotExpressible(Exception):
    """ONNX has no converter for this estimator."""


def to_onnx(fitted: Any, encoder: Encoder, task: Task, path: Path) -> None:
    """Writes `path`: inputs are the encoder's (`matrix` and each array column), the output is `probability`
    [n, k] or `prediction`. The same estimator gives the same bytes."""
    import numpy as np
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    fitted = _exportable(fitted)
    options = {} if task == "regression" else {id(fitted): {"zipmap": False}}
    width = encoder.width + sum(int(np.prod(a.shape)) for a in encoder.arrays)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the converters touch in scikit-learn and protobuf is theirs
            types = [("X", FloatTensorType([None, width]))]
            model = convert_sklearn(fitted, name="model", initial_types=types, options=options)
    except (MissingConverter, MissingShapeCalculator, NotImplementedError, RuntimeError, NameError) as error:
        raise NotExpressible(str(error).splitlines()[0]) from error
    _rewire(model.graph, encoder, task)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _exportable(fitted: Any) -> Any:
    """Histogram trees with their thresholds rounded down to float32, as ONNX stores them; others as they are.

    Inputs are float32, so `x <= threshold` comes out the same for each of them, which it would not for a threshold
    rounded up.
    """
    import numpy as np

    if not hasattr(fitted, "_predictors"):
        return fitted
    made = copy.deepcopy(fitted)
    for tree in itertools.chain.from_iterable(made._predictors):
        exact = tree.nodes["num_threshold"]
        low = exact.astype(np.float32)
        tree.nodes["num_threshold"] = np.where(low > exact, np.nextafter(low, np.float32(-np.inf)), low)
    return made


def _rewire(graph: Any, encoder: Encoder, task: Task) -> None:
    """Puts the encoder's inputs in front of the graph's X, and leaves one output of the right name."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes, parts, inputs = [], [], []
    if encoder.width:
        parts.append("matrix")
        inputs.append(helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [None, encoder.width]))
    for array in encoder.arrays:
        inputs.append(helper.make_tensor_value_info(array.name, TensorProto.FLOAT, [None, *array.shape]))
        flat = f"{array.name}:flat"
        graph.initializer.append(numpy_helper.from_array(np.array([-1, int(np.prod(array.shape))]), f"{flat}:shape"))
        nodes.append(helper.make_node("Reshape", [array.name, f"{flat}:shape"], [flat], name=flat))
        parts.append(flat)
    nodes.append(helper.make_node("Concat", parts, ["X"], axis=1, name="inputs:X"))
    old = [o.name for o in graph.output][0 if task == "regression" else 1]
    name = "prediction" if task == "regression" else "probability"
    last = helper.make_node("Cast", [old], [name], to=TensorProto.FLOAT, name=f"output:{name}")
    body = [*nodes, *graph.node, last]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(body)
    graph.input.extend(inputs)
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]))
