"""A trained model becomes a sealed folder, and is opened again only if every byte is as it was.

    manifest.json   format, name, every file's sha256 and size, runtime, signature, trainer, lineage, own seal
    model.json      what the trainer left, and beside it its files: model.onnx, encoder.json, ...
    samples.json    the smoke set: rows of the validation split with the answers given at training
    profile.json    what a monitor learned as normal (where there is a monitor)
    card.md         the model card, for people

The same inputs give the same bytes: there is no time in a bundle, the ledger has it. A bundle of format
`onnx` needs only numpy and onnxruntime to open and predict.
"""

from __future__ import annotations

from mlops_core.bundle.opening import Bundle, load_model, open_bundle, sample_rows
from mlops_core.bundle.sealing import card, seal
from mlops_core.bundle.values import from_plain, to_orjson, to_plain

__all__ = [
    "Bundle",
    "card",
    "from_plain",
    "load_model",
    "open_bundle",
    "sample_rows",
    "seal",
    "to_orjson",
    "to_plain",
]
