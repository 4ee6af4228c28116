"""What is built and installed: every YAML is in it, and the base needs none of the extras."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from mlops_core.shipped import shipped

ROOT = Path(__file__).parents[2]
EXTRAS = (
    "torch", "pytorch_lightning", "lightning", "ray", "sklearn", "skl2onnx", "onnx", "onnxscript", "safetensors",
    "optuna", "dvc", "psycopg", "adbc_driver_manager", "s3fs", "model_signing", "xgboost", "lightgbm",
)  # fmt: skip
BASE = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from mlops_core.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def base(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as if only the base were installed."""
    command = [sys.executable, "-c", BASE, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_every_preset_and_recipe_is_shipped() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "conf", "recipes"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = listed.stdout.split()
    assert len(names) > 15
    for name in names:
        top, _, rest = name.partition("/")
        assert (shipped(top) / rest).read_bytes() == (ROOT / name).read_bytes(), name


def test_the_base_requires_no_heavy_library() -> None:
    required = importlib.metadata.requires("mlops-core-framework") or []
    bare = {re.split(r"[\s<>=!;\[(~]", r)[0].lower() for r in required if "extra ==" not in r}
    assert not bare & {"torch", "pytorch-lightning", "ray", "mlflow", "scikit-learn", "dvc", "onnx", "optuna"}, bare


def test_the_base_alone_lists_checks_and_plans(tmp_path: Path) -> None:
    told = base("plugins", "list", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    for name in ("lightning", "ray_serve", "dvc", "http", "drift", "parquet"):
        assert name in told.stdout
    assert base("init", "credit", cwd=tmp_path).returncode == 0
    checked = base("check", cwd=tmp_path / "credit")
    assert checked.returncode == 0, checked.stderr
    assert base("plan", cwd=tmp_path / "credit").returncode == 2


def test_a_missing_extra_is_told_with_its_name(tmp_path: Path) -> None:
    base("init", "credit", cwd=tmp_path)
    told = base("run", "trainer=sklearn", "~tuner", cwd=tmp_path / "credit")
    assert told.returncode == 3
    install = "python -m pip install 'mlops-core-framework[sklearn]'"
    assert told.stderr == f"mlops: train needs 'sklearn', which is not installed; run {install}\n"
