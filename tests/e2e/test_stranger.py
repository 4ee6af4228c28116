"""A distribution that the core has never heard of is built, installed, listed, and runs a whole line."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parent / "stranger"
CONFIG = """\
defaults:
  - base
  - data: blobs
  - trainer: sharp
  - tuner: grid
  - deployer: http
  - monitor: mean
  - _self_
name: guest
seed: 1
data:
  seed: 3
tuner:
  space: {trainer.sharpness: [0.5, 8.0]}
observers:
  diary:
    path: diary.jsonl
deployer: {auth: none}
metric: accuracy
gate:
  - {metric: accuracy, at_least: 0.8}
"""
Mlops = Callable[..., subprocess.CompletedProcess[str]]


def call(*words: str, cwd: Path, env: dict[str, str], code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, f"{' '.join(words)}\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def install(wheel: Path, target: Path) -> None:
    """Installs as a user does: pip, or uv where the environment has no pip."""
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["uv", "pip"]
    words = [*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    call(*words, cwd=target.parent, env=dict(os.environ))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stranger installed from its wheel."""
    folder = tmp_path_factory.mktemp("stranger")
    source = folder / "source"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "../dist", cwd=source, env=dict(os.environ))
    install(next((folder / "dist").glob("*.whl")), folder / "site")
    assert (folder / "site" / "mlops_stranger" / "conf" / "trainer" / "sharp.yaml").exists()
    return folder / "site"


@pytest.fixture(scope="module")
def mlops(site: Path) -> Mlops:
    env = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": ""}

    def run(*words: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        return call(sys.executable, "-m", "mlops_core", *words, cwd=cwd, env=env, code=code)

    return run


@pytest.fixture
def project(tmp_path: Path, mlops: Mlops) -> Iterator[Path]:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG)
    yield tmp_path
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG)
    mlops("stop", cwd=tmp_path)


def test_it_is_listed_and_shown(mlops: Mlops, tmp_path: Path) -> None:
    listed = json.loads(mlops("plugins", "list", "--json", cwd=tmp_path).stdout)
    guests = {(p["kind"], p["name"]) for p in listed["plugins"] if p["distribution"] == "mlops-stranger"}
    assert guests == {("data", "toy"), ("trainer", "centroid"), ("monitor", "mean"), ("observer", "diary")}
    assert listed["broken"] == []
    told = mlops("plugins", "list", "--kind", "trainer", cwd=tmp_path).stdout
    assert "centroid   mlops-stranger 3.2.1" in told
    shown = mlops("plugins", "show", "centroid", cwd=tmp_path).stdout
    assert "trainer centroid  (mlops-stranger 3.2.1, mlops_stranger.centroid)" in shown
    assert "number, more than 0" in shown


def test_its_own_tests_pass_against_what_is_installed(site: Path, tmp_path: Path) -> None:
    shutil.copytree(SOURCE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    env = os.environ | {"PYTHONPATH": str(site)}
    words = [sys.executable, "-m", "pytest", "--import-mode=importlib", "-q", "-p", "no:cacheprovider", "tests"]
    assert "4 passed" in call(*words, cwd=tmp_path, env=env).stdout


def test_a_whole_line_runs_with_it(mlops: Mlops, project: Path) -> None:
    done = json.loads(mlops("run", "--json", cwd=project).stdout.splitlines()[-1])["run"]
    assert done["performed"] == ["data", "tune", "train", "seal", "evaluate", "gate", "deploy"]
    assert (done["version"], done["complaints"]) == (1, [])
    rows = json.dumps([{"x": 3.9 + i / 100, "y": 0.1, "colour": "c2"} for i in range(40)])
    answer = json.loads(mlops("predict", rows, "--json", cwd=project).stdout)
    assert {p["prediction"] for p in answer["predictions"]} == {"k2"}
    verdict = json.loads(mlops("status", "--json", cwd=project).stdout)["verdict"]
    assert (verdict["monitor"], verdict["state"]) == ("mean", "alarm")
    assert verdict["reasons"][0].startswith("x: the mean moved by")
    again = json.loads(mlops("run", "--json", cwd=project).stdout.splitlines()[-1])["run"]
    assert again["performed"] == []
    diary: list[dict[str, Any]] = [json.loads(line) for line in (project / "diary.jsonl").read_text().splitlines()]
    assert [e["stage"] for e in diary if e["event"] == "finished"][:2] == ["data", "tune"]
    assert {"started", "progress", "finished"} <= {e["event"] for e in diary}


def test_the_declaration_knows_its_options(mlops: Mlops, project: Path) -> None:
    (project / "conf" / "config.yaml").write_text(CONFIG.replace("seed: 3", "sprad: 3"))
    told = mlops("check", cwd=project, code=3)
    assert "unknown option; did you mean 'spread'?" in told.stdout + told.stderr
    told = mlops("check", "trainer=centrod", cwd=project, code=3)
    assert "did you mean 'centroid'?" in told.stdout + told.stderr
