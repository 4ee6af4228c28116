"""A bundle, opened after every byte of it was verified."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_core.bundle import manifest
from mlops_core.bundle.values import from_plain, to_plain
from mlops_core.contracts import Choice, Column, Columns, Predict, Profile, Signature, restore
from mlops_core.errors import BundleError
from mlops_core.features import ModelFile, load_onnx

if TYPE_CHECKING:
    from mlops_core.plugins import Plugins


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. `sha256` is the digest of the whole folder, as `Artifact.sha256`."""

    path: Path
    sha256: str
    manifest: Mapping[str, Any]
    signature: Signature
    model: ModelFile
    plugins: Plugins | None = None
    threads: int = 1

    def predict(self, columns: Columns) -> Columns:
        """`prediction`, and for a classifier `probability` [n, classes]. Thread-safe; loads at the first call."""
        return self._predictor(columns)

    def load(self) -> None:
        """Loads the model now, so that the first caller need not wait for it."""
        _ = self._predictor

    @functools.cached_property
    def profile(self) -> Profile | None:
        path = self.path / "profile.json"
        return restore(Profile, json.loads(path.read_text())) if path.exists() else None

    @functools.cached_property
    def samples(self) -> tuple[Columns, Columns] | None:
        """The smoke set: input columns, and the answers given at training; None where none was kept."""
        path = self.path / "samples.json"
        if not path.exists():
            return None
        kept = json.loads(path.read_text())
        inputs = {c.name: from_plain(kept["inputs"][c.name], c) for c in self.signature.inputs}
        return inputs, {name: np.array(values) for name, values in kept["answers"].items()}

    def plain_samples(self) -> dict[str, list[Any]]:
        """The inputs of the smoke set as a caller would send them."""
        if self.samples is None:
            return {}
        return {c.name: [_as_sent(v, c) for v in to_plain(self.samples[0][c.name])] for c in self.signature.inputs}

    def smoke(self, tolerance: float = 1e-4) -> str:
        """Why the answers to the smoke set are not those given at training; '' where they are."""
        if self.samples is None:
            return ""
        inputs, wanted = self.samples
        given = self.predict(inputs)
        name = "probability" if "probability" in wanted else "prediction"
        old, new = np.asarray(wanted[name]), np.asarray(given[name])
        if old.shape != new.shape:
            return f"smoke set: {name} has shape {new.shape}, at training it had {old.shape}"
        same = np.isclose(new, old, rtol=tolerance, atol=tolerance) if old.dtype.kind == "f" else new == old
        far = ~same.reshape(len(old), -1).all(1)
        if not far.any():
            return ""
        row, count = int(far.argmax()), f"{int(far.sum())} of {len(old)}"
        return f"smoke set: {count} answers differ; row {row}: {name} {new[row]}, at training {old[row]}"

    @functools.cached_property
    def _predictor(self) -> Predict:
        trust = (self.model.format,)  # opening it has settled that
        return load_model(self.path, restore(Choice, self.manifest["trainer"]), self.plugins, trust, self.threads)


def open_bundle(
    path: Path,
    *,
    plugins: Plugins | None = None,
    sha256: str | None = None,
    trust: Sequence[str] = (),
    threads: int = 1,
) -> Bundle:
    """The bundle at `path`, after reading every byte of it. ONNX Runtime may use `threads` for one prediction.

    Raises BundleError, naming the file, where anything is altered, missing or added, is a link, leads out of
    the folder, was written by a newer release, is not the bundle of digest `sha256`, or is of format `pickle`
    while `trust` does not hold 'pickle' (unpickling runs whatever code the file holds).
    """
    path = Path(path)
    content, digest = manifest.verify(path)
    if sha256 is not None and digest != sha256:
        raise BundleError(f"bundle {path} is not the one expected: its digest is {digest[:12]}, expected {sha256[:12]}")
    model = ModelFile.read(path)
    _refuse_pickle(path, model, trust)
    try:
        signature = restore(Signature, content["signature"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path / manifest.NAME}: its signature cannot be read: {error}") from error
    return Bundle(
        path=path,
        sha256=digest,
        manifest=content,
        signature=signature,
        model=model,
        plugins=plugins,
        threads=threads,
    )


def load_model(
    path: Path, trainer: Choice, plugins: Plugins | None = None, trust: Sequence[str] = (), threads: int = 1
) -> Predict:
    """The predictor of a model folder: by the core for format `onnx`, else by the trainer that left it."""
    model = ModelFile.read(path)
    _refuse_pickle(path, model, trust)
    if model.format == "onnx":
        return load_onnx(path, threads)
    from mlops_core.plugins import Plugins

    loaded: Predict = (plugins or Plugins()).build("trainer", trainer).load(path)
    return loaded


def sample_rows(path: Path) -> list[dict[str, Any]]:
    """The smoke set of a bundle as rows that `/predict` takes; empty where none was kept."""
    kept = open_bundle(path, trust=("pickle",)).plain_samples()
    return [dict(zip(kept, row, strict=True)) for row in zip(*kept.values(), strict=True)]


def _as_sent(value: Any, column: Column) -> Any:
    if value is None or column.kind not in ("number", "boolean"):
        return value
    if column.kind == "boolean":
        return bool(value)
    return int(value) if column.dtype.startswith(("int", "uint")) else value


def _refuse_pickle(path: Path, model: ModelFile, trust: Sequence[str]) -> None:
    if model.format == "pickle" and "pickle" not in trust:
        raise BundleError(
            f"bundle {path} holds a pickle, which runs code when loaded; declare 'trust: [pickle]' to allow it"
        )
