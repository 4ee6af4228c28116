"""A small project with a plugin of its own, for tests of the whole line: a fit takes milliseconds, without Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CONFIG = """\
defaults:
  - base
  - data: csv
  - trainer: toy
  - _self_
name: toy
seed: 1
data:
  path: data.csv
  target: label
trainer:
  shift: 0.0
  scale: steps.scale
metric: accuracy
gate:
  - {metric: accuracy, at_least: 0.6}
"""
TRAINER = '''\
"""The toy trainer."""
from dataclasses import dataclass
from pathlib import Path

from toyplug.helper import centre


@dataclass(frozen=True)
class Toy:
    """Nearest class mean.

    shift: added to every mean
    scale: import path of the user's scaling
    sleep: seconds to wait in the middle of a fit
    """

    shift: float = 0.0
    scale: str = "steps.scale"
    sleep: float = 0.0

    def modules(self):
        return [self.scale.rpartition(".")[0]]

    def fit(self, dataset, job):
        import importlib
        import time

        import numpy as np

        from mlops_core import ModelFile, read_split, score, write_json

        module, _, name = self.scale.rpartition(".")
        factor = getattr(importlib.import_module(module), name)()
        columns, target = read_split(dataset, "train")
        x = np.stack([columns[c.name] for c in dataset.having("feature")], 1)
        means = np.stack([centre(x[target == k]) for k in range(len(dataset.classes))]) * factor + self.shift
        with open(job.scratch / "begun", "a") as began:
            began.write("x")
        time.sleep(self.sleep)
        names = [c.name for c in dataset.having("feature")]
        write_json(job.out / "means.json", {"means": means.tolist(), "names": names})
        ModelFile(format="toy", task=dataset.task, target=dataset.target, classes=dataset.classes).write(job.out)
        columns, target = read_split(dataset, "validation")
        found = score(dataset.task, target, self.load(job.out)(columns))
        job.report(1, found)
        return found

    def load(self, path: Path):
        import json

        import numpy as np

        from mlops_core import ModelFile

        told, model = json.loads((path / "means.json").read_text()), ModelFile.read(path)
        means = np.array(told["means"])

        def predict(columns):
            x = np.stack([np.asarray(columns[n], float) for n in told["names"]], 1)
            near = np.exp(-((x[:, None] - means) ** 2).sum(-1))
            return model.answer(near / near.sum(1, keepdims=True))

        return predict
'''
HELPER = """\
def centre(x):
    return x.mean(0)
"""
PLUGIN = """\
from mlops_core import hookimpl


@hookimpl
def mlops_trainer():
    from toyplug.trainer import Toy

    return {"toy": Toy}
"""


@dataclass
class Project:
    """A project folder, and the command line run in it as a person would."""

    root: Path
    plugin: Path
    env: dict[str, str]

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mlops_core", *words]
        return subprocess.Popen(
            command, cwd=self.root, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def mlops(self, *words: str, code: int | None = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=timeout)
        done = subprocess.CompletedProcess(words, process.returncode, out, err)
        assert "Traceback" not in err, err
        assert code is None or done.returncode == code, f"exit {done.returncode}\n{out}\n{err}"
        return done

    def performed(self, *words: str) -> list[str]:
        """Runs, and gives the stages that were performed."""
        return list(self.run(*words)["performed"])

    def run(self, *words: str) -> dict[str, Any]:
        lines = self.mlops("run", "--json", *words).stdout.splitlines()
        done: dict[str, Any] = json.loads(lines[-1])["run"]
        return done

    def plan(self, *words: str) -> dict[str, dict[str, Any]]:
        found = json.loads(self.mlops("plan", "--json", *words, code=None).stdout)
        return {s["stage"]: s for s in found["steps"]}

    def give(self, count: int, seed: int = 0, shift: float = 0.0) -> None:
        """Other rows for data.csv."""
        (self.root / "data.csv").write_text(rows(count, seed, shift))

    def traffic(self, count: int, seed: int, shift: float = 0.0) -> list[dict[str, Any]]:
        """Rows as a caller sends them."""
        lines = [line.split(",") for line in rows(count, seed, shift).splitlines()[1:]]
        return [{"a": float(a), "b": float(b)} for a, b, _ in lines]


def rows(count: int, seed: int = 0, shift: float = 0.0) -> str:
    import random

    rng = random.Random(seed)
    lines = ["a,b,label"]
    for i in range(count):
        label = i % 2
        lines.append(f"{rng.gauss(3 * label, 1) + shift:.4f},{rng.gauss(0, 1):.4f},{'yes' if label else 'no'}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def toy(tmp_path: Path) -> Project:
    """A project of 200 rows, with plugin `toy` and the user's own module `steps`."""
    root, plugin = tmp_path / "project", tmp_path / "plugin"
    for folder in (root / "conf", plugin / "toyplug", plugin / "toyplug-1.0.dist-info"):
        folder.mkdir(parents=True)
    (root / "conf" / "config.yaml").write_text(CONFIG)
    (root / "data.csv").write_text(rows(200))
    (root / "steps.py").write_text("from more import factor\n\n\ndef scale():\n    return factor()\n")
    (root / "more.py").write_text("def factor():\n    return 1.0\n")
    (plugin / "toyplug" / "__init__.py").write_text(PLUGIN)
    (plugin / "toyplug" / "trainer.py").write_text(TRAINER)
    (plugin / "toyplug" / "helper.py").write_text(HELPER)
    info = plugin / "toyplug-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toyplug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlops_core]\ntoyplug = toyplug\n")
    env = {**os.environ, "PYTHONPATH": str(plugin), "PYTHONDONTWRITEBYTECODE": ""}
    return Project(root, plugin, env)


@pytest.fixture
def here(toy: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The toy project, with its plugin importable in this process and in those that it starts."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(toy.plugin))
    monkeypatch.setenv("PYTHONPATH", str(toy.plugin))
    yield toy
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("toyplug", "steps", "more"):
            del sys.modules[name]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(textwrap.dedent(text.replace(old, new)))
