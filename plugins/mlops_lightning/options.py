"""The options of `trainer: lightning`: what its verbs and everything below them read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen

Positive = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Network:
    """The built-in network: numbers through learnt piecewise-linear embeddings, categories through embeddings,
    then an ensemble of `members` networks that share their hidden layers (TabM, Gorishniy et al., 2024).

    hidden: width of each hidden layer
    dropout: share of hidden units left out in training
    embedding: width of the embedding of each number and category
    members: networks in the ensemble; their answers are averaged
    bins: quantile bins that a number is cut into
    """

    hidden: Annotated[tuple[Positive, ...], MinLen(1)] = (128, 128)
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    embedding: Positive = 8
    members: Positive = 8
    bins: Annotated[int, Ge(2), Le(1000)] = 32


# What only the built-in network reads, and what is read only with a module of the user's own.
OWN = ("lr", "weight_decay", "optimizer", "schedule", "class_weight", "model")
USERS = ("module_options", "datamodule", "datamodule_options", "layout", "output")


# With which a fit goes on from the checkpoint of another; of `module_options` those that leave the shapes as they are.
CONTINUES = (
    "lr", "weight_decay", "batch_size", "gradient_clip", "class_weight", "model.dropout", "module_options",
    "datamodule_options",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Trains a neural network with PyTorch Lightning: a built-in one for tables, or your own LightningModule.

    Without `module` it trains the built-in network on any mix of numbers, categories, booleans, times and
    arrays, missing values included, for regression and classification.

    With `module` it trains your LightningModule as it is, from a file in the project folder or from an
    installed package, of either namespace (`pytorch_lightning`, `lightning.pytorch`). Batches are `(x, y)`. `x`
    is the array column where that is the only feature, else the encoded table (see `layout`), else a dict of
    inputs by name; `y` is class indices (int64) or values (float32). `forward(x)` gives logits, probabilities or
    values; the scores of the core (`auroc`, ...) are computed from it on the validation split, beside what the
    module logs. In `module_options` the text `{features}` stands for the width of `x`, `{classes}` for the number
    of classes. With `datamodule` the training batches are its own; what it does to `x` beyond encoding belongs
    into the module, for requests do not pass through a datamodule.

    The best epoch is kept; a killed fit goes on after its last finished epoch. The model is left as ONNX, checked
    against the trained network on the whole validation split, or as safetensors. Nothing is pickled.

    epochs: epochs at most
    lr: learning rate of the built-in network
    batch_size: rows in a batch
    weight_decay: weight decay of the built-in network
    optimizer: adamw, adam or sgd, for the built-in network
    schedule: how the learning rate goes: constant, cosine (down to 0) or onecycle
    patience: epochs without a better metric after which the fit stops; 0 never stops early
    class_weight: balanced weighs each class by its rarity (probabilities are then no longer frequencies)
    gradient_clip: largest norm of the gradient; 0 does not clip
    model: shape of the built-in network
    accelerator: auto, cpu, gpu, mps, ... as in Lightning
    devices: 1, or the index of the one device to use, as a list; one fit uses one device
    precision: 32-true, bf16-mixed, ... as in Lightning
    threads: CPU threads; 0 takes as many as the job was given
    module: import path of your LightningModule, file.ClassName
    module_options: arguments of its constructor
    datamodule: import path of your LightningDataModule
    datamodule_options: arguments of its constructor; {train}, {validation}, {test} stand for the frozen Parquet files
    layout: how a table is encoded for your module: onehot, ordinal, or split (a dict of numbers and categories)
    output: what forward gives: logits, probability, value, or auto (seen from the answers)
    export: onnx, safetensors, or auto (onnx where it can be)
    memory_mb: a split larger than this is streamed from disk
    checkpoint_epochs: epochs between checkpoints from which a killed fit goes on
    """

    epochs: Positive = 50
    lr: Annotated[float, Gt(0)] = 2e-3
    batch_size: Positive = 256
    weight_decay: Annotated[float, Ge(0)] = 0.01
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    schedule: Literal["constant", "cosine", "onecycle"] = "constant"
    patience: Annotated[int, Ge(0)] = 8
    class_weight: Literal["none", "balanced"] = "none"
    gradient_clip: Annotated[float, Ge(0)] = 0.0
    model: Network = field(default_factory=Network)
    accelerator: str = "auto"
    devices: Literal[1] | Annotated[tuple[int, ...], MinLen(1), MaxLen(1)] = 1
    precision: str = "32-true"
    threads: Annotated[int, Ge(0)] = 0
    module: str = ""
    module_options: Mapping[str, Any] = field(default_factory=dict)
    datamodule: str = ""
    datamodule_options: Mapping[str, Any] = field(default_factory=dict)
    layout: Literal["onehot", "ordinal", "split"] = "onehot"
    output: Literal["auto", "logits", "probability", "value"] = "auto"
    export: Literal["auto", "onnx", "safetensors"] = "auto"
    memory_mb: Positive = 2048
    checkpoint_epochs: Positive = 1

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            default = f.default_factory() if callable(f.default_factory) else f.default
            if f.name not in (OWN if self.module else USERS) or getattr(self, f.name) == default:
                continue
            if not self.module:
                raise ValueError(f"{f.name} needs module: the import path of your LightningModule")
            raise ValueError(
                f"{f.name} is an option of the built-in network and does nothing for {self.module}; "
                "give it to your module in module_options"
            )

    def modules(self) -> Sequence[str]:
        """Import names of the user's own code."""
        return tuple(dict.fromkeys(_home(path) for path in (self.module, self.datamodule) if path))


def _home(path: str) -> str:
    """The module part of an import path, `package.file.Class` or `package.file:Class`."""
    return path.partition(":")[0] if ":" in path else path.rpartition(".")[0]
