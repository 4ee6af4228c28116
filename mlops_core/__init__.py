"""mlops_core: declare the whole life of a model in YAML; plan, run and watch keep reality equal to it.

Everything the command `mlops` does is a call here; plugin authors find here what they may import.
Names are loaded when they are used, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_core.bundle import open_bundle as open_bundle
    from mlops_core.errors import MlopsError as MlopsError
    from mlops_core.features import Encoder as Encoder
    from mlops_core.features import ModelFile as ModelFile
    from mlops_core.features import load_onnx as load_onnx
    from mlops_core.features import read_split as read_split
    from mlops_core.features import refuse_empty as refuse_empty
    from mlops_core.features import save_onnx as save_onnx
    from mlops_core.features import target_values as target_values
    from mlops_core.features import to_columns as to_columns
    from mlops_core.features import write_json as write_json
    from mlops_core.grid import grid_points as grid_points
    from mlops_core.grid import grid_size as grid_size
    from mlops_core.hashing import FileDigest as FileDigest
    from mlops_core.hashing import file_digest as file_digest
    from mlops_core.hookspecs import hookimpl as hookimpl
    from mlops_core.metrics import METRICS as METRICS
    from mlops_core.metrics import refuse_metric as refuse_metric
    from mlops_core.metrics import score as score
    from mlops_core.pareto import advances as advances
    from mlops_core.pareto import costs_of as costs_of
    from mlops_core.pareto import dominates as dominates
    from mlops_core.pareto import front_of as front_of
    from mlops_core.pareto import objectives_of as objectives_of
    from mlops_core.pareto import offers_of as offers_of
    from mlops_core.serving import create_app as create_app
    from mlops_core.serving.bounds import refuse_batching as refuse_batching
    from mlops_core.serving.host import say as say
    from mlops_core.serving.host import wanted as wanted
    from mlops_core.serving.ports import other_ports as other_ports
    from mlops_core.serving.ports import reserve as reserve
    from mlops_core.serving.process import HostProcess as HostProcess
    from mlops_core.serving.reach import answers as answers
    from mlops_core.serving.reach import certificate as certificate
    from mlops_core.serving.reach import refuse_half as refuse_half
    from mlops_core.serving.reach import refuse_open as refuse_open
    from mlops_core.serving.reach import tls_files as tls_files
    from mlops_core.serving.renewal import Pair as Pair
    from mlops_core.serving.rpc import Rpc as Rpc
    from mlops_core.serving.state import hold as hold
    from mlops_core.serving.state import is_held as is_held
    from mlops_core.serving.state import read_state as read_state
    from mlops_core.serving.state import write_state as write_state
    from mlops_core.serving.wire import WholeAnswers as WholeAnswers
    from mlops_core.space import holds as holds
    from mlops_core.space import multiple as multiple
    from mlops_core.space import multiples as multiples
    from mlops_core.space import parents_first as parents_first
    from mlops_core.trials import NoMetric as NoMetric
    from mlops_core.trials import Trials as Trials
    from mlops_core.trials import better as better
    from mlops_core.trials import judged as judged
    from mlops_core.trials import key_of as key_of
    from mlops_core.trials import lineage as lineage

_HOME = {
    "mlops_core.bundle": ("open_bundle",),
    "mlops_core.errors": ("MlopsError",),
    "mlops_core.features": (
        "Encoder", "ModelFile", "load_onnx", "read_split", "refuse_empty", "save_onnx", "target_values", "to_columns",
        "write_json",
    ),
    "mlops_core.hashing": ("FileDigest", "file_digest"),
    "mlops_core.grid": ("grid_points", "grid_size"),
    "mlops_core.hookspecs": ("hookimpl",),
    "mlops_core.metrics": ("METRICS", "refuse_metric", "score"),
    "mlops_core.pareto": ("advances", "costs_of", "dominates", "front_of", "objectives_of", "offers_of"),
    "mlops_core.serving": ("create_app",),
    "mlops_core.serving.bounds": ("refuse_batching",),
    "mlops_core.serving.host": ("say", "wanted"),
    "mlops_core.serving.ports": ("other_ports", "reserve"),
    "mlops_core.serving.process": ("HostProcess",),
    "mlops_core.serving.reach": ("answers", "certificate", "refuse_half", "refuse_open", "tls_files"),
    "mlops_core.serving.renewal": ("Pair",),
    "mlops_core.serving.rpc": ("Rpc",),
    "mlops_core.serving.state": ("hold", "is_held", "read_state", "write_state"),
    "mlops_core.serving.wire": ("WholeAnswers",),
    "mlops_core.space": ("holds", "multiple", "multiples", "parents_first"),
    "mlops_core.trials": ("NoMetric", "Trials", "better", "judged", "key_of", "lineage"),
}  # fmt: skip
_WHERE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'mlops_core' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
