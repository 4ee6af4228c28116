"""A model folder becomes a bundle."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_core.bundle import manifest
from mlops_core.bundle.values import ANSWERS, to_plain
from mlops_core.contracts import Choice, Columns, Profile, Signature, plain
from mlops_core.errors import BundleError
from mlops_core.features import ModelFile

OURS = frozenset({manifest.NAME, "samples.json", "profile.json", "card.md"})
RUNTIME = ("mlops-core-framework", "numpy", "onnxruntime")


def seal(
    model: Path,
    out: Path,
    *,
    signature: Signature,
    trainer: Choice,
    lineage: Mapping[str, Any],
    profile: Profile | None,
    samples: Columns | None,
) -> Path:
    """Copies the model folder into a new sealed folder `out`, whole or not at all, and returns it.

    `samples` holds the input columns of a few validation rows and, under `prediction` and `probability`, the
    answers that the trained model gave. `lineage["name"]` names the model. An older `out` is replaced.
    """
    ModelFile.read(model)
    clash = [c.name for c in signature.inputs if c.name in ANSWERS]
    if clash:
        raise BundleError(f"column {clash[0]!r} has the name of an answer; rename it in the data")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            _fill(work, model, signature, trainer, lineage, profile, samples)
            _replace(work, out)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise BundleError(f"bundle {out} could not be written: {error}") from error
    return out


def card(signature: Signature, trainer: Choice, lineage: Mapping[str, Any]) -> str:
    """The model card in Markdown: what it predicts from what, and where it comes from."""
    name = lineage.get("name") or "model"
    lines = [f"# {name}", "", f"Predicts `{signature.target}` ({signature.task}) from {len(signature.inputs)} columns."]
    if signature.classes:
        lines += ["", "Classes: " + ", ".join(f"`{c}`" for c in signature.classes)]
    lines += ["", "## Inputs", "", "| column | kind | type | may be missing |", "|---|---|---|---|"]
    lines += [f"| {c.name} | {c.kind} | {c.dtype} | {'yes' if c.nullable else 'no'} |" for c in signature.inputs]
    lines += ["", "## Trainer", "", f"`{trainer.plugin}`", "", *_listed(trainer.options)]
    lines += ["", "## Lineage", "", *_listed({k: v for k, v in lineage.items() if k != "name"})]
    return "\n".join(lines) + "\n"


def _fill(
    work: Path,
    model: Path,
    signature: Signature,
    trainer: Choice,
    lineage: Mapping[str, Any],
    profile: Profile | None,
    samples: Columns | None,
) -> None:
    _copy(model, work)
    if samples is not None:
        (work / "samples.json").write_bytes(manifest.canonical(_samples(samples, signature)))
    if profile is not None:
        (work / "profile.json").write_bytes(manifest.canonical(plain(profile)))
    (work / "card.md").write_text(card(signature, trainer, lineage))
    content = {
        "name": str(lineage.get("name", "")),
        "runtime": _runtime(),
        "signature": plain(signature),
        "trainer": plain(trainer),
        "lineage": plain(lineage),
    }
    manifest.write(work, content)
    work.chmod(0o755)


def _copy(model: Path, work: Path) -> None:
    for name in manifest.files_of(model):
        if name in OURS:
            raise BundleError(f"{model / name}: a model folder may not hold {name!r}, which the bundle writes itself")
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model / name, work / name)


def _samples(samples: Columns, signature: Signature) -> dict[str, Any]:
    for name in (*(c.name for c in signature.inputs), "prediction"):
        if name not in samples:
            raise BundleError(f"the smoke set lacks column {name!r}")
    return {
        "inputs": {c.name: to_plain(samples[c.name]) for c in signature.inputs},
        "answers": {name: to_plain(samples[name]) for name in ANSWERS if name in samples},
    }


def _replace(work: Path, out: Path) -> None:
    if not out.exists():
        work.rename(out)
        return
    old = out.rename(out.with_name(f"{work.name}.old"))
    work.rename(out)
    shutil.rmtree(old)


def _runtime() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in RUNTIME:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _listed(value: Mapping[str, Any]) -> list[str]:
    return [f"- {key}: `{json.dumps(plain(value[key]), sort_keys=True)}`" for key in sorted(value)] or ["(none)"]
