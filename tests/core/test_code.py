"""The closure of first-party code, read without importing it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from mlops_core.code import Code


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "zoo"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zoo.lazy import late as late\n\n"
        "def __getattr__(name):\n    import importlib\n    return getattr(importlib.import_module('zoo.lazy'), name)\n"
    )
    (package / "lazy.py").write_text("def late():\n    return 1\n")
    (package / "a.py").write_text(
        "import json\nfrom . import b\nfrom .inner import c as sea\n\ndef f():\n    import zoo.d\n"
    )
    (package / "b.py").write_text("import numpy\n")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "c.py").write_text("from ..b import x\nfrom zoo import late\n")
    (package / "d.py").write_text("1 +\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return package


def modules(tree: Path) -> dict[str, str]:
    return Code(None, tree.parent / "project").parts(["zoo.a"], ["zoo"])


def test_follows_relative_nested_lazy_and_function_imports(tree: Path) -> None:
    found = modules(tree)
    assert {k for k in found if k.startswith("code.")} == {
        "code.zoo.a", "code.zoo.b", "code.zoo.d", "code.zoo.inner.c", "code.zoo.lazy"
    }  # fmt: skip
    assert [k for k in found if k.startswith("library.")] == ["library.numpy"]


def test_nothing_is_imported(tree: Path) -> None:
    modules(tree)
    assert not [m for m in sys.modules if m.startswith("zoo")]


def test_only_meaning_counts(tree: Path) -> None:
    before = modules(tree)
    (tree / "b.py").write_text('"""A docstring."""\n\nimport numpy  # a comment\n')
    assert modules(tree) == before
    (tree / "b.py").write_text("import numpy\n\nx = 2\n")
    after = modules(tree)
    assert [k for k in after if after[k] != before.get(k)] == ["code.zoo.b"]


def test_cache_sees_an_edit_that_keeps_size_and_time(tree: Path, tmp_path: Path) -> None:
    import os

    cache = tmp_path / "code.json"
    first = Code(cache, tmp_path / "project").parts(["zoo.lazy"], ["zoo"])
    stat = (tree / "lazy.py").stat()
    (tree / "lazy.py").write_text("def late():\n    return 2\n")
    os.utime(tree / "lazy.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert Code(cache, tmp_path / "project").parts(["zoo.lazy"], ["zoo"]) != first


def test_a_damaged_cache_is_made_anew(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "code.json"
    cache.write_text("{")
    assert Code(cache, tmp_path / "project").parts(["zoo.lazy"], ["zoo"]) == Code(None, tmp_path / "project").parts(
        ["zoo.lazy"], ["zoo"]
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project, with an environment made inside it."""
    root = tmp_path / "project"
    site = root / ".venv" / "lib" / "site-packages"
    for folder in (root / "parts", root / "pack" / "deep", site):
        folder.mkdir(parents=True)
    (root / "parts" / "scale.py").write_text("def scale():\n    return 1\n")
    (root / "pack" / "__init__.py").write_text("import helper\n")
    (root / "pack" / "deep" / "__init__.py").write_text("")
    (root / "pack" / "deep" / "net.py").write_text("from ... import beyond\nimport nowhere.at.all\n")
    (root / "helper.py").write_text("from . import nothing\n")
    (site / "heavy.py").write_text("import heavier\n")
    monkeypatch.setattr(sys, "prefix", str(root / ".venv"))
    monkeypatch.syspath_prepend(str(site))
    return root


def code(project: Path, text: str) -> set[str]:
    (project / "main.py").write_text(text)
    return set(Code(None, project).parts(["main"], ["main"])) - {"code.main"}


@pytest.mark.parametrize("text", ["from parts import scale", "import parts.scale", "from parts.scale import scale"])
def test_a_folder_without_init_is_followed(project: Path, text: str) -> None:
    assert code(project, text) == {"code.parts.scale"}


def test_what_importing_a_users_package_runs_is_followed(project: Path) -> None:
    assert code(project, "import pack.deep.net") == {"code.pack", "code.pack.deep", "code.pack.deep.net", "code.helper"}


def test_an_environment_inside_the_project_is_not_the_users_code(project: Path) -> None:
    assert code(project, "import heavy") == set()


def test_a_package_that_a_finder_of_an_editable_install_knows(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """setuptools installs a flat layout in place by a finder of its own, not by a folder on the path."""
    aside = tree.parent / "aside"
    aside.mkdir()
    tree.rename(aside / "zoo")

    class Finder:
        @classmethod
        def find_spec(cls, name: str, path: object = None, target: object = None) -> object:
            file = aside / "zoo" / "__init__.py"
            return importlib.util.spec_from_file_location(name, file) if name == "zoo" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    before = modules(aside / "zoo")
    assert "code.zoo.a" in before and "code.zoo.inner.c" in before
    (aside / "zoo" / "b.py").write_text("import numpy\n\nx = 2\n")
    after = modules(aside / "zoo")
    assert [k for k in after if after[k] != before.get(k)] == ["code.zoo.b"]
