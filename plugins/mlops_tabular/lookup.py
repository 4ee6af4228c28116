"""Which scikit-learn class a name means, and whether its parameters are its own."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from mlops_core.contracts import Task
from mlops_core.errors import TrainingError, did_you_mean

_MODULES = (
    "ensemble", "linear_model", "tree", "svm", "neighbors", "neural_network", "naive_bayes", "discriminant_analysis",
    "gaussian_process", "kernel_ridge", "calibration", "dummy", "semi_supervised", "isotonic", "cross_decomposition",
)  # fmt: skip


def estimator_class(name: str, task: Task) -> type:
    """The class that `name` means for `task`; raises TrainingError with the nearest name."""
    ending = "Regressor" if task == "regression" else "Classifier"
    cls = _of_path(name) if "." in name else _of_name(name) or _of_name(name + ending)
    if cls is None:
        raise TrainingError(f"scikit-learn has no estimator {name!r}; {did_you_mean(name, _all_names(task))}")
    from sklearn.base import is_classifier, is_regressor

    try:
        made = cls()
    except TypeError as error:
        raise TrainingError(f"{cls.__name__} cannot be made from a declaration: {error}; choose another") from error
    if not (is_regressor if task == "regression" else is_classifier)(made):
        raise TrainingError(f"{cls.__name__} is no {ending.lower()}, and the task is {task}; {_instead(name, task)}")
    return cls


def fitting_params(cls: type, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` as arguments of `cls`; raises TrainingError naming every one that it does not have."""
    known = [n for n, p in inspect.signature(cls).parameters.items() if p.kind is not p.VAR_KEYWORD]
    unknown = [f"{cls.__name__} has no parameter {n!r}; {did_you_mean(n, known)}" for n in params if n not in known]
    if unknown:
        raise TrainingError("\n".join(unknown))
    return {n: tuple(v) if isinstance(v, list) and n == "hidden_layer_sizes" else v for n, v in params.items()}


def _instead(name: str, task: Task) -> str:
    stem = name.rsplit(".", 1)[-1].removesuffix("Classifier").removesuffix("Regressor")
    return did_you_mean(stem + ("Regressor" if task == "regression" else "Classifier"), _all_names(task))


def _of_path(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    if path.split(".")[0] != "sklearn":
        raise TrainingError(f"estimator {path!r} is not of scikit-learn; write your own trainer as a plugin")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise TrainingError(f"estimator {path!r}: {error}") from error
    if found is None:
        raise TrainingError(f"{module} has no {name!r}; {did_you_mean(name, dir(importlib.import_module(module)))}")
    return found if isinstance(found, type) and hasattr(found, "fit") else None


def _of_name(name: str) -> type | None:
    for module in _MODULES:
        found = getattr(importlib.import_module(f"sklearn.{module}"), name, None)
        if isinstance(found, type) and hasattr(found, "fit"):
            return found
    return None


def _all_names(task: Task) -> list[str]:
    from sklearn.utils import all_estimators

    return [name for name, _ in all_estimators(type_filter="regressor" if task == "regression" else "classifier")]
