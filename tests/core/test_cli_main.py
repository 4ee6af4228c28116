"""The one place where the command line tells what went wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mlops_core import api
from mlops_core.cli.arguments import to_json
from mlops_core.cli.main import main


def test_what_nobody_foresaw_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(api, "plan", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["plan"]) == 1
    told = capsys.readouterr().err
    found = re.fullmatch(
        r"mlops: plan: RuntimeError: the moon is full; this was not foreseen: please report it with (\S+)\n", told
    )
    assert found, told
    assert "Traceback" in Path(found[1]).read_text()


def test_json_holds_no_nan() -> None:
    told = to_json({"a": [float("nan"), 1.5], "b": {"c": float("-inf")}, "d": Path("x")})
    assert json.loads(told) == {"a": [None, 1.5], "b": {"c": None}, "d": "x"}


def test_init_lists_recipes_and_asks_for_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--list"]) == 0
    assert "credit" in capsys.readouterr().out.split()
    assert main(["init"]) == 3
    assert "name the new project's folder" in capsys.readouterr().err


def test_init_over_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file")]) == 3
    assert "file is a file; name a new folder" in capsys.readouterr().err
