"""Tuner `ray` on a cluster of several nodes with logical GPUs: simulated on this machine, by Ray's own means."""

from __future__ import annotations

import importlib
import itertools
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlops_ray.tuner import RayTuner, Resources

from mlops_core.contracts import Distribution, Goal
from mlops_core.errors import TrainingError

GOAL = Goal(metric="auroc", mode="max", seed=1)
OBJECTIVES = '''
import os, time
from pathlib import Path
import ray

def placed(params, out, report, resources=None):
    """Says where it ran and when; goes on from the step that it kept."""
    kept = out / "scratch" / "step"
    kept.parent.mkdir(exist_ok=True)
    node, device = ray.get_runtime_context().get_node_id(), os.environ["CUDA_VISIBLE_DEVICES"]
    first = int(kept.read_text()) + 1 if kept.exists() else 1
    began = time.time()
    with (out / "where").open("a") as where:
        where.write(f"{node} {device} {began} {began}\\n")
    for step in range(first, params.get("steps", 15) + 1):
        time.sleep(0.1)
        kept.with_suffix(".new").write_text(str(step))
        kept.with_suffix(".new").replace(kept)
        report(step, {"auroc": params["x"] / 100})
    lines = (out / "where").read_text().splitlines()[:-1]
    (out / "where").write_text("\\n".join([*lines, f"{node} {device} {began} {time.time()} {first}"]) + "\\n")
    return {"auroc": params["x"] / 100}

def ganged(params, out, report, resources=None, gang=None):
    """Each worker says where it is, and none ends before all are there."""
    told = Path(__file__).parent / f"{params['x']}-{gang.workers}"
    told.mkdir(exist_ok=True)
    node, device = ray.get_runtime_context().get_node_id(), os.environ["CUDA_VISIBLE_DEVICES"]
    (told / str(gang.rank)).write_text(f"{node} {device}")
    while len(list(told.iterdir())) < gang.workers:
        time.sleep(0.05)
    return {"auroc": params["x"] / 100}
'''


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without room for trials, and two nodes with two GPUs each."""
    from ray.cluster_utils import Cluster

    (tmp_path / "placed_here.py").write_text(OBJECTIVES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    small = {"object_store_memory": 100 * 1024 * 1024, "node_ip_address": "127.0.0.1"}
    head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, **small}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            made.add_node(num_cpus=4, num_gpus=2, **small)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()
        sys.modules.pop("placed_here", None)


def search(cluster: Any, out: Path, count: int, steps: int = 15, *, name: str = "placed", **options: Any) -> Any:
    objective = getattr(importlib.import_module("placed_here"), name)
    space = {k: Distribution(kind="grid", args=(v,)) for k, v in {"x": list(range(count)), "steps": [steps]}.items()}
    tuner = RayTuner(address=cluster.address, sampler="grid", scheduler="none", trials=count, **options)
    return tuner.search(objective, space, GOAL, out, lambda *told: None)


def attempts(out: Path) -> dict[str, list[list[str]]]:
    """Where each trial ran: node, device, first and last moment, first step."""
    return {f.parent.name: [line.split() for line in f.read_text().splitlines()] for f in out.glob("trials/*/where")}


def test_trials_have_a_gpu_each_and_a_lost_node_loses_no_trial(cluster: Any, tmp_path: Path) -> None:
    one = tmp_path / "one"
    tuned = search(cluster, one, 8, resources=Resources(cpus=1, gpus=1))
    assert [t.state for t in tuned.trials] == ["done"] * 8 and tuned.params == {"x": 7, "steps": 15}
    spans = defaultdict(list)
    for lines in attempts(one).values():
        (node, device, began, ended, _) = lines[-1]
        spans[node, device].append((float(began), float(ended)))
    assert len(spans) == 4, "two nodes, two devices each"
    for times in spans.values():
        times.sort()
        assert all(b[0] >= a[1] for a, b in itertools.pairwise(times)), "one trial at a time on a device"

    two, gone = tmp_path / "two", []

    def remove() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not gone:
            # a node whose trial has kept a step, and is far from its last
            kept = {t for t, lines in attempts(two).items() if lines and (two / "trials" / t / "scratch/step").exists()}
            begun = {attempts(two)[t][-1][0] for t in kept}
            for node in cluster.worker_nodes:
                if node.node_id in begun:
                    gone.append(node.node_id)
                    cluster.remove_node(node, allow_graceful=False)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=remove)
    thread.start()
    tuned = search(cluster, two, 6, steps=40, resources=Resources(cpus=1, gpus=1))
    thread.join()
    assert gone and [t.state for t in tuned.trials] == ["done"] * 6
    assert tuned.params == {"x": 5, "steps": 40}
    moved = [lines for lines in attempts(two).values() if len(lines) > 1]
    assert moved and all(lines[0][0] == gone[0] != lines[-1][0] for lines in moved)
    assert any(int(lines[-1][4]) > 1 for lines in moved), "a trial goes on from what it kept"

    with pytest.raises(TrainingError, match=r"a trial wants 1 cpus, 3 gpus, which no node has; there is .*2 gpus"):
        search(cluster, tmp_path / "three", 2, resources=Resources(cpus=1, gpus=3))


def test_part_of_a_gpu_is_shared(cluster: Any, tmp_path: Path) -> None:
    tuned = search(cluster, tmp_path, 8, resources=Resources(cpus=0.5, gpus=0.5))
    assert [t.state for t in tuned.trials] == ["done"] * 8
    where = [lines[-1] for lines in attempts(tmp_path).values()]
    together = [(a, b) for a in where for b in where if a is not b and a[:2] == b[:2] and a[2] <= b[2] < a[3]]
    assert together, "two trials on one device at once"


def test_the_workers_of_a_trial_have_a_gpu_each_and_may_be_on_several_nodes(cluster: Any, tmp_path: Path) -> None:
    for workers, nodes in ((2, 1), (4, 2)):
        out = tmp_path / str(workers)
        out.mkdir()
        search(cluster, out, 4, name="ganged", resources=Resources(cpus=1, gpus=1, workers=workers))
        for folder in tmp_path.glob(f"?-{workers}"):
            where = [(folder / str(rank)).read_text() for rank in range(workers)]
            assert len(set(where)) == workers, "a device each"
            assert len({place.split()[0] for place in where}) == nodes, "together where there is room"
    with pytest.raises(TrainingError, match="a trial wants 5 workers of 1 cpus, 1 gpus, and the nodes have room for 4"):
        search(cluster, tmp_path / "five", 1, name="ganged", resources=Resources(cpus=1, gpus=1, workers=5))
