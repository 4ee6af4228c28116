"""What a search costs beyond its trials: 32 and 256 that do nothing, and 32 short fits of the credit network.

    python tests/benchmarks/tuning.py --only=nothing --repeats=1      a quick look

Everybody runs the same trials, nobody stops one early; the seconds are those of whole cold processes, two trials at a
time where the contestant can. Goals: ours at most 1.1x lean Ray Tune and 0.5x of `Tuner(fn)`; 32 short fits at most
1.3x the CPU of the same fits in one process; at most 50 ms more for each trial. What two fits cost one another that
share a processor's cache and clock is shown by joblib's two processes, and by ours with one trial at a time.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tuning_peers.beginnings import of_a_resumed, of_a_run, of_the_floor
from tuning_peers.contestant import CONTESTANTS
from tuning_peers.gang import between
from tuning_peers.trials import Tree, Trials

OURS, LEAN, STOCK, LOOP = "ours, tuner: ray", "ray tune, lean", "ray tune, Tuner(fn)", "one process, a loop"
SINGLE, JOBLIB = "ours, one trial at a time", "joblib, 2 processes"
Taken = tuple[float, float, float]  # seconds, CPU seconds, MiB of the process itself at its peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="nothing, fits, memory, gang or first")
    given = parser.parse_args()
    print(f"one minute's load average at the beginning: {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        if given.only in ("", "nothing"):
            few = compare("32 trials of nothing", Trials(32), Path(name), given.repeats, without=(SINGLE,))
            many = compare("256 trials of nothing", Trials(256), Path(name), given.repeats, without=(STOCK, SINGLE))
            for tuner in (OURS, LEAN):
                print(f"  each further trial, {tuner}: {1000 * (many[tuner][0] - few[tuner][0]) / 224:.1f} ms")
        if given.only in ("", "fits"):
            fits = Trials(32, inner=objective(Path(name)))
            found = compare("32 short fits of the credit network", fits, Path(name), given.repeats)
            cpu = {n: taken / found[LOOP][1] for n, (_, taken, _) in found.items()}
            print(f"  ours {cpu[OURS]:.2f}x the CPU of the same fits in one process (goal 1.3)")
            print(f"  one trial at a time {cpu[SINGLE]:.2f}x; joblib's two processes {cpu[JOBLIB]:.2f}x")
        if given.only in ("", "memory"):
            _, _, memory = once(OURS, Trials(1000), Path(name))
            print(f"1,000 trials of nothing: {OURS} holds {memory:.0f} MiB at its peak")
        if given.only in ("", "gang"):
            print("from the last step of a warm trial to the first of the next (goal for two workers: 0.5 s)")
            for workers in (1, 2):
                middle, longest = between(Path(name) / str(workers), workers)
                print(f"  {workers} a trial: {middle:.2f} s, at most {longest:.2f}", flush=True)
        if given.only in ("", "first"):
            print("seconds to the first finished trial")
            floors, runs = zip(*[(of_the_floor(), of_a_run(Path(name) / f"run{i}")) for i in range(3)], strict=True)
            floor, run = statistics.median(floors), statistics.median(runs)
            print(
                f"  a cold 'mlops run' of the credit recipe {run:.1f} s, {run / floor:.1f}x the floor of {floor:.1f} s"
            )
            print("  (bare Ray and one process that has imported torch, Lightning and Tune)", flush=True)
            (Path(name) / "resumed").mkdir()
            fresh, resumed, twice = of_a_resumed(Path(name) / "resumed")
            print(f"  first result of a fresh search {fresh:.1f} s, next of one that was killed {resumed:.1f} s")
            print(f"  trials done twice: {twice}")


def compare(what: str, trials: Trials, folder: Path, repeats: int, without: tuple[str, ...] = ()) -> dict[str, Taken]:
    names = [n for n in CONTESTANTS if n not in without]
    taken: dict[str, list[Taken]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            taken[name].append(once(name, trials, folder))
    print(what)
    found = {n: tuple(statistics.median(v) for v in zip(*t, strict=True)) for n, t in taken.items()}
    for name, (seconds, cpu, _) in found.items():
        print(f"  {name:<30} {seconds:7.2f} s  {cpu:7.2f} CPU s", flush=True)
    for peer, goal in ((LEAN, 1.1), (STOCK, 0.5)):
        if peer in found:
            ratio = found[OURS][0] / found[peer][0]
            print(f"  ours {ratio:.2f}x the seconds of {peer} (goal {goal})", flush=True)
    return found  # type: ignore[return-value]


def once(name: str, trials: Trials, folder: Path) -> Taken:
    with tempfile.TemporaryDirectory(dir=folder) as own:
        (Path(own) / "trials.pickle").write_bytes(pickle.dumps(trials))
        command = [sys.executable, str(Path(__file__).parent / "tuning_peers" / "contestant.py"), name, own]
        began = time.monotonic()
        with (Path(own) / "said").open("w+b") as said:
            process = subprocess.Popen(command, cwd=own, stdout=said, stderr=said)
            tree = Tree(process.pid)
            while process.poll() is None:
                tree.look()
                time.sleep(0.05)
            seconds = time.monotonic() - began
            said.seek(0)
            text = said.read().decode()
        if process.returncode:
            raise SystemExit(f"{name} failed:\n{text[-3000:]}")
        return seconds, tree.seconds, tree.peak


def objective(folder: Path) -> Any:
    """A fit of the credit recipe's network for four epochs on one thread, on its frozen data."""
    from mlops_core import api
    from mlops_core.config import declare
    from mlops_core.contracts import Choice
    from mlops_core.flow import Context
    from mlops_core.flow.learning import Data
    from mlops_core.flow.objective import TrainerObjective
    from mlops_core.workspace import Workspace

    root = api.init(folder / "credit", "credit")
    api.run(root, until="data")
    declared = declare(root, ["trainer.epochs=4", "trainer.threads=1"])
    workspace = Workspace(root, declared)
    outcome = workspace.ledger.latest(declared.name, "data")
    assert outcome is not None
    home = workspace.home("data", outcome.artifacts[0])
    dataset = Data().result(Context(workspace, declared), outcome, home)
    workspace.close()
    trainer = Choice(plugin=declared.trainer.plugin, options=declared.trainer.options)
    return TrainerObjective(trainer=trainer, dataset=dataset, project=root, seed=0, metric=declared.metric, mode="max")


if __name__ == "__main__":
    main()
