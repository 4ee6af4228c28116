"""Bundles that are not what was sealed: each refused with the file named, and left as it is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_core.bundle import open_bundle
from mlops_core.errors import BundleError

MANIFEST = "manifest.json"


def forged(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Changes the manifest and seals it anew: only its content can tell."""
    content = json.loads((path / MANIFEST).read_text())
    del content["seal"]
    change(content)
    spelled = (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
    content["seal"] = hashlib.sha256(spelled).hexdigest()
    (path / MANIFEST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def renamed(files: dict[str, object], old: str, new: str) -> None:
    files[new] = files.pop(old)


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "there is no bundle at {path}"),
    "manifest missing": (lambda p: (p / MANIFEST).unlink(), "{path} is no bundle: manifest.json is missing"),
    "manifest truncated": (
        lambda p: (p / MANIFEST).write_bytes((p / MANIFEST).read_bytes()[:200]),
        "{path}/manifest.json is truncated or altered: it is no manifest",
    ),
    "manifest empty": (
        lambda p: (p / MANIFEST).write_bytes(b""),
        "{path}/manifest.json is truncated or altered: it is no manifest",
    ),
    "manifest a list": (
        lambda p: (p / MANIFEST).write_text("[]"),
        "{path}/manifest.json is truncated or altered: it is no manifest",
    ),
    "manifest re-spaced": (
        lambda p: (p / MANIFEST).write_text(json.dumps(json.loads((p / MANIFEST).read_text()))),
        "{path}/manifest.json is altered: it does not match its own seal",
    ),
    "lineage edited": (
        lambda p: (p / MANIFEST).write_text((p / MANIFEST).read_text().replace('"abc"', '"abd"')),
        "{path}/manifest.json is altered: it does not match its own seal",
    ),
    "manifest a link": (
        lambda p: ((p / MANIFEST).rename(p.parent / "m"), os.symlink(p.parent / "m", p / MANIFEST)),
        "{path}/manifest.json is a link; a bundle holds only plain files",
    ),
    "newer format": (
        lambda p: forged(p, lambda m: m.update(format=2)),
        "{path}/manifest.json has format 2, this release reads 1; upgrade mlops-core-framework",
    ),
    "files no mapping": (
        lambda p: forged(p, lambda m: m.update(files=["model.onnx"])),
        "{path}/manifest.json is altered: it does not match its own seal",
    ),
    "file missing": (lambda p: (p / "encoder.json").unlink(), "bundle {path}: file 'encoder.json' is missing"),
    "file added": (
        lambda p: (p / "evil.py").write_text("x"),
        "bundle {path}: file 'evil.py' is not in its manifest",
    ),
    "file added below": (
        lambda p: ((p / "sub").mkdir(), (p / "sub" / "evil.py").write_text("x")),
        "bundle {path}: file 'sub/evil.py' is not in its manifest",
    ),
    "file longer": (
        lambda p: (p / "card.md").write_text("short"),
        "bundle {path}: file 'card.md' is altered: it has 5 bytes, sealed were ",
    ),
    "file a link": (
        lambda p: ((p / "model.onnx").rename(p.parent / "o"), os.symlink(p.parent / "o", p / "model.onnx")),
        "{path}/model.onnx is a link; a bundle holds only plain files",
    ),
    "file a pipe": (
        lambda p: os.mkfifo(p / "pipe"),
        "{path}/pipe is a special file; a bundle holds only plain files",
    ),
    "name with ..": (
        lambda p: forged(p, lambda m: renamed(m["files"], "card.md", "../card.md")),  # type: ignore[arg-type]
        "{path}/manifest.json names '../card.md', which leads out of the bundle",
    ),
    "absolute name": (
        lambda p: forged(p, lambda m: renamed(m["files"], "card.md", "/etc/passwd")),  # type: ignore[arg-type]
        "{path}/manifest.json names '/etc/passwd', which leads out of the bundle",
    ),
    "backslash": (
        lambda p: forged(p, lambda m: renamed(m["files"], "card.md", "..\\card.md")),  # type: ignore[arg-type]
        "{path}/manifest.json names '..\\\\card.md', which leads out of the bundle",
    ),
    "resealed with another model": (
        lambda p: (
            (p / "card.md").write_text("hi"),
            forged(p, lambda m: m["files"].update({"card.md": {"sha256": _sha(b"hi"), "size": 2}})),  # type: ignore[attr-defined]
        ),
        "bundle {path} is not the one expected: its digest is ",
    ),
}


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, tiny_bundle: Callable[..., Path]) -> None:
    path = tiny_bundle()
    expected = open_bundle(path).sha256
    spoil, message = CASES[name]
    spoil(path)
    before = {p: p.lstat().st_mtime_ns for p in path.rglob("*")}
    with pytest.raises(BundleError) as caught:
        open_bundle(path, sha256=expected)
    wanted = message.format(path=path)
    assert str(caught.value) == wanted or (wanted.endswith(" ") and str(caught.value).startswith(wanted))
    assert before == {p: p.lstat().st_mtime_ns for p in path.rglob("*")}
