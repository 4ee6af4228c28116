"""A sealed bundle opens only as it was sealed, and the same inputs seal to the same bytes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlops_core.bundle import open_bundle, sample_rows, seal
from mlops_core.contracts import Choice, Profile, Signature
from mlops_core.errors import BundleError
from mlops_core.features import ModelFile
from mlops_core.hashing import FileDigests
from mlops_core.objects import tree_digest

Bundles = Callable[..., Path]


def test_opens_predicts_and_passes_its_smoke_set(tiny_bundle: Bundles) -> None:
    bundle = open_bundle(tiny_bundle())
    inputs, answers = bundle.samples or ({}, {})
    assert bundle.smoke() == ""
    assert np.allclose(bundle.predict(inputs)["probability"], answers["probability"])
    assert bundle.manifest["name"] == "credit"
    assert {"python", "numpy", "onnxruntime"} <= set(bundle.manifest["runtime"])


def test_a_changed_model_fails_the_smoke_set(tiny_bundle: Bundles) -> None:
    one, two = open_bundle(tiny_bundle(1)), open_bundle(tiny_bundle(2))
    strange = dataclasses.replace(one, path=two.path)
    strange.__dict__["samples"] = one.samples
    assert strange.smoke().startswith("smoke set: 3 of 3 answers differ; row 0: probability [")


def test_digest_is_that_of_the_object_store(tiny_bundle: Bundles) -> None:
    path = tiny_bundle()
    assert open_bundle(path).sha256 == tree_digest(path, FileDigests(None)).sha256


def test_same_inputs_give_the_same_bytes(tiny_bundle: Bundles, tmp_path: Path) -> None:
    first = tiny_bundle()
    again = tmp_path / "again" / "v1"
    shutil.copytree(first.with_name("v1-model"), again.with_name("v1-model"))
    opened = open_bundle(first)
    inputs, answers = opened.samples or ({}, {})
    seal(
        again.with_name("v1-model"),
        again,
        signature=opened.signature,
        trainer=Choice(plugin="tiny", options={"bias": 1.0}),
        lineage={"name": "credit", "data": "abc", "seed": 0},
        profile=None,
        samples={**inputs, **answers},
    )
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in again.iterdir()}


def test_every_flipped_byte_is_refused(tiny_bundle: Bundles) -> None:
    path = tiny_bundle()
    for name in sorted(p.name for p in path.iterdir()):
        whole = (path / name).read_bytes()
        for at in {0, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
            (path / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(BundleError, match=name):
                open_bundle(path)
        (path / name).write_bytes(whole)
    open_bundle(path)


def test_profile_and_sample_rows_come_back(tiny_bundle: Bundles, tmp_path: Path) -> None:
    opened = open_bundle(tiny_bundle())
    inputs, answers = opened.samples or ({}, {})
    profile = Profile(monitor="drift", rows=3, state={"bins": [1.5, 2.0]})
    out = seal(
        tmp_path / "bundles" / "v1-model",
        tmp_path / "other",
        signature=opened.signature,
        trainer=Choice(plugin="tiny"),
        lineage={"name": "credit"},
        profile=profile,
        samples={**inputs, **answers},
    )
    assert open_bundle(out).profile == profile
    assert sample_rows(out)[:2] == [
        {"age": 30, "income": 1000.0, "home": "rent", "married": True, "since": "2020-01-01T00:00:00.000000"},
        {"age": None, "income": 2000.5, "home": None, "married": False, "since": None},
    ]
    assert "| income | number | float64 | no |" in (out / "card.md").read_text()


def test_sealing_again_replaces_and_leaves_nothing_behind(tiny_bundle: Bundles, tmp_path: Path) -> None:
    path = tiny_bundle()
    opened = open_bundle(path)
    seal(
        path.with_name("v1-model"),
        path,
        signature=opened.signature,
        trainer=Choice(plugin="other"),
        lineage={},
        profile=None,
        samples=None,
    )
    assert open_bundle(path).manifest["trainer"]["plugin"] == "other"
    assert sorted(p.name for p in path.parent.iterdir()) == ["v1", "v1-model"]


def test_needs_only_numpy_and_onnxruntime(tiny_bundle: Bundles) -> None:
    code = (
        "import sys; from pathlib import Path; from mlops_core.bundle import open_bundle\n"
        f"b = open_bundle(Path({str(tiny_bundle())!r})); assert b.smoke() == '' and b.samples\n"
        "heavy = {'polars', 'torch', 'pandas', 'pydantic', 'sqlalchemy', 'pyarrow', 'pluggy', 'orjson', 'fsspec'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_formats_of_a_trainer_are_loaded_by_it_and_pickle_only_when_trusted(
    tiny_bundle: Bundles, tmp_path: Path
) -> None:
    class Trainer:
        def load(self, path: Path) -> Callable[..., dict[str, object]]:
            return lambda columns: {"prediction": np.array(["from the trainer"], object)}

    class Plugins:
        def build(self, kind: str, choice: Choice) -> Trainer:
            assert (kind, choice.plugin) == ("trainer", "mine")
            return Trainer()

    model = tmp_path / "mine"
    model.mkdir()
    ModelFile(format="pickle", task="binary", target="y", classes=("a", "b")).write(model)
    signature = Signature(inputs=(), task="binary", target="y", classes=("a", "b"))
    out = seal(
        model,
        tmp_path / "out",
        signature=signature,
        trainer=Choice(plugin="mine"),
        lineage={},
        profile=None,
        samples=None,
    )
    with pytest.raises(BundleError, match=r"holds a pickle, which runs code when loaded; declare 'trust: \[pickle\]'"):
        open_bundle(out)
    opened = open_bundle(out, plugins=Plugins(), trust=["pickle"])  # type: ignore[arg-type]
    assert opened.predict({})["prediction"][0] == "from the trainer"


def test_sealing_refuses_what_would_not_open(tiny_bundle: Bundles, tmp_path: Path) -> None:
    opened = open_bundle(tiny_bundle())
    model = tmp_path / "bundles" / "v1-model"

    def sealed(**changes: object) -> Path:
        given = {"signature": opened.signature, "trainer": Choice(plugin="t"), "lineage": {}, "profile": None}
        return seal(model, tmp_path / "out", **{"samples": None, **given, **changes})  # type: ignore[arg-type]

    clash = dataclasses.replace(
        opened.signature, inputs=(dataclasses.replace(opened.signature.inputs[0], name="prediction"),)
    )
    with pytest.raises(BundleError, match="column 'prediction' has the name of an answer"):
        sealed(signature=clash)
    with pytest.raises(BundleError, match="the smoke set lacks column 'prediction'"):
        sealed(samples=opened.samples[0] if opened.samples else None)
    (model / "card.md").write_text("mine")
    with pytest.raises(BundleError, match=r"may not hold 'card\.md'"):
        sealed()
    (model / "card.md").unlink()
    os.symlink("/etc/hostname", model / "extra")
    with pytest.raises(BundleError, match="extra is a link; a bundle holds only plain files"):
        sealed()
    assert not (tmp_path / "out").exists()


def test_the_room_gives_every_name_it_lists() -> None:
    import mlops_core.bundle

    assert [n for n in mlops_core.bundle.__all__ if not hasattr(mlops_core.bundle, n)] == []
