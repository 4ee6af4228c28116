"""What is fitted: the built-in network, or the user's own module and datamodule, made and looked at before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mlops_core import Encoder
from mlops_core.contracts import SPLITS, Dataset
from mlops_core.errors import MlopsError, TrainingError
from mlops_lightning import imports
from mlops_lightning.learning.answers import tensor_of
from mlops_lightning.learning.data import Batches, Rows
from mlops_lightning.learning.validation import Validation, answering
from mlops_lightning.options import Options

BUILT_IN = "mlops_lightning.learning.network.TabularNet"


@dataclass(frozen=True)
class Subject:
    """`module` is fitted; `served` is what of it answers, and `path(**options)` makes that anew."""

    module: Any
    served: nn.Module
    namespace: str
    path: str
    options: Mapping[str, Any]
    names: tuple[str, ...]
    as_dict: bool
    datamodule: Any = None


def built_in(options: Options, dataset: Dataset, batches: Batches) -> Subject:
    from mlops_lightning.learning.tabular import Tabular, shape

    module = Tabular.of(options, dataset, batches)
    return Subject(
        module=module,
        served=module.net,
        namespace="pytorch_lightning",
        path=BUILT_IN,
        options=shape(options, dataset, batches.encoder),
        names=input_names(batches.encoder),
        as_dict=True,
    )


def users_own(options: Options, dataset: Dataset, encoder: Encoder) -> Subject:
    """Raises TrainingError, naming the option, for whatever is not as it must be."""
    cls = imports.find(options.module, "trainer.module", "LightningModule")
    names = input_names(encoder)
    known = {"{features}": _width(encoder), "{classes}": len(dataset.classes) or 1}
    arguments = _filled(options.module_options, known)
    namespace = imports.namespace(cls)
    return Subject(
        module=(module := imports.make(cls, arguments, "trainer.module_options")),
        served=module,
        namespace=namespace,
        path=options.module,
        options=arguments,
        names=names,
        as_dict=len(names) > 1,
        datamodule=_datamodule(options, dataset, namespace) if options.datamodule else None,
    )


def look(subject: Subject, validation: Validation) -> None:
    """One small batch through `forward`, so that a misfit is told before the first epoch."""
    if "configure_model" in vars(type(subject.module)):
        return  # its layers are made by Lightning, later
    few: Rows = next(iter(validation.rows())).take(slice(0, 2))
    try:
        with answering(subject.module):
            validation.kind(tensor_of(subject.module(validation.inputs_of(few))))
    except MlopsError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {list(t.shape)} {t.dtype}".replace("torch.", "") for name, t in few.inputs.items())
        raise TrainingError(f"{subject.path} does not take x ({shapes}): {imports.words(error)}") from error


def input_names(encoder: Encoder) -> tuple[str, ...]:
    """The encoder's inputs, in the order of the graph's."""
    names = [a.name for a in encoder.arrays]
    if encoder.layout == "split":
        names += ["numbers"] * bool(encoder.numbers) + ["categories"] * bool(encoder.categories)
    elif encoder.width:
        names.append("matrix")
    return tuple(names)


def _width(encoder: Encoder) -> int:
    return encoder.width + sum(int(torch.Size(a.shape).numel()) for a in encoder.arrays)


def _datamodule(options: Options, dataset: Dataset, namespace: str) -> Any:
    cls = imports.find(options.datamodule, "trainer.datamodule", "LightningDataModule")
    other = imports.namespace(cls, "LightningDataModule")
    if other != namespace:
        raise TrainingError(
            f"{options.module} is of {namespace} and {options.datamodule} of {other}; both must be of one namespace"
        )
    known = {f"{{{split}}}": str(dataset.split(split)) for split in SPLITS}
    return imports.make(cls, _filled(options.datamodule_options, known), "trainer.datamodule_options")


def _filled(value: Any, known: Mapping[str, Any]) -> Any:
    """`value` with its placeholders filled in, at any depth."""
    if isinstance(value, Mapping):
        return {k: _filled(v, known) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(v, known) for v in value]
    return known.get(value, value) if isinstance(value, str) else value
