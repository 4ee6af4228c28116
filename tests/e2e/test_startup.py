"""Start-up stays instant: nothing heavy is imported to show help, to list, or to find that nothing is due."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "torch", "pytorch_lightning", "lightning", "ray", "mlflow", "pandas", "pandera", "dvc", "sklearn", "onnx",
    "onnxruntime", "skl2onnx", "optuna", "uvicorn", "starlette", "model_signing", "cryptography", "xgboost", "lightgbm",
}  # fmt: skip
TABLES = {"numpy", "polars", "pyarrow"}
CONFIG = {"hydra", "omegaconf", "pydantic", "yaml"}
INSTANT = HEAVY | TABLES | CONFIG | {"sqlalchemy", "rich", "pluggy"}


def imported(words: list[str], cwd: Path, env: dict[str, str] | None = None) -> set[str]:
    code = (
        "import sys, json\nfrom mlops_core.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write('\\n' + json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["versions", "--help"], ["plugin"]])
def test_help_is_instant(words: list[str], tmp_path: Path) -> None:
    assert not imported(words, tmp_path) & INSTANT


def test_plugins_list_is_light(tmp_path: Path) -> None:
    assert not imported(["plugins", "list", "--json"], tmp_path) & HEAVY


def test_check_and_plan_of_a_declaration_are_light(toy) -> None:
    for words in (["check"], ["config"], ["plan"]):
        found = imported(words, toy.root, toy.env) & HEAVY
        assert not found, words


def test_a_run_that_finds_nothing_due_is_light(toy) -> None:
    toy.run()
    toy.run()
    found = imported(["run"], toy.root, toy.env) & (HEAVY | TABLES | CONFIG)
    assert not found
