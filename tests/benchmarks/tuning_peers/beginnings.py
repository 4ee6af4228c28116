"""When the first result is there: of a cold `mlops run`, of a search, and of one that was killed and goes on."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlops_core.contracts import Scores
from tuning_peers.trials import METRIC, Trials

# What no search with Ray can do without: a cluster, and a process that has imported what a trial of the network needs.
FLOOR = """
import logging, os
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}
import ray

@ray.remote
def ready():
    import pytorch_lightning, ray.tune, torch
    return True

ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
assert ray.get(ready.remote())
print("ready", flush=True)
"""


def naps(params: Mapping[str, Any], out: Path, report: Callable[[int, Scores], None], resources: Any = None) -> Scores:
    """A trial of a fifth of a second."""
    time.sleep(0.2)
    return {METRIC: 0.5}


def of_the_floor() -> float:
    process = subprocess.Popen([sys.executable, "-c", FLOOR], stdout=subprocess.PIPE)
    began = time.monotonic()
    assert process.stdout is not None and process.stdout.readline()
    seconds = time.monotonic() - began
    process.communicate()
    return seconds


def of_a_run(folder: Path) -> float:
    """From the command, typed in a fresh project of the credit recipe, to its first finished trial."""
    from mlops_core import api

    root = api.init(folder, "credit")
    with (root / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlops_core", "run", "--until", "tune"], cwd=root, stdout=said, stderr=said
        )
        searches = root / ".mlops" / "work"
        seconds = _until(process, lambda: any(map(_lines, searches.glob("tune-*/trials.jsonl"))))
        process.wait()
    return seconds


def of_a_resumed(folder: Path) -> tuple[float, float, int]:
    """Seconds to the first result of a fresh search and of the same one after kill -9, and trials done twice."""
    command = [sys.executable, str(Path(__file__).with_name("contestant.py")), "ours, tuner: ray", str(folder)]
    (folder / "trials.pickle").write_bytes(pickle.dumps(Trials(40, inner=naps)))
    kept = folder / "search" / "trials.jsonl"
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    fresh = _until(process, lambda: _lines(kept) > 0)
    while _lines(kept) < 20:
        time.sleep(0.01)
    process.kill()
    process.wait()
    there = _lines(kept)
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    resumed = _until(process, lambda: _lines(kept) > there)
    process.wait()
    numbers = [json.loads(line)["params"]["number"] for line in kept.read_text().splitlines()]
    assert set(numbers) == set(range(40))
    return fresh, resumed, len(numbers) - 40


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _until(process: subprocess.Popen[bytes], there: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not there():
        assert process.poll() is None, "it ended without a result"
        time.sleep(0.01)
    return time.monotonic() - began
