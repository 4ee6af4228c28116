"""Hashing and freezing 1 GB against one md5 pass over it. Goal: at most 1.2x its time.

Wall seconds are what a person waits; CPU seconds hold still on a busy machine. `MLOPS_BENCH_MB` sets the size.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mlops_core.hashing import FileDigests
from mlops_core.objects import Objects

SIZE = int(os.environ.get("MLOPS_BENCH_MB", "1024")) << 20
REPEATS = 5


def md5_pass(path: Path) -> None:
    digest, buffer = hashlib.md5(usedforsecurity=False), bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])


def both_in_turn(path: Path) -> None:
    md5, sha256, buffer = hashlib.md5(usedforsecurity=False), hashlib.sha256(), bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            md5.update(memoryview(buffer)[:count])
            sha256.update(memoryview(buffer)[:count])


def measure(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), _cpu()
    work()
    return time.perf_counter() - wall, _cpu() - cpu


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _compare(Path(folder))


def _compare(base: Path) -> None:
    path = base / "table.parquet"
    with path.open("wb") as file:
        for _ in range(SIZE >> 20):
            file.write(os.urandom(1 << 20))
    own_copy = Path(shutil.copy(path, base / "own.parquet"))
    stores = iter(range(10**6))

    def put(own: bool) -> None:
        Objects(base / f"store{next(stores)}", FileDigests()).put(own_copy if own else path, own=own)

    kept = Objects(base / "kept", FileDigests(base / "cache"))
    artifact = kept.put(path)
    peers: dict[str, Callable[[], object]] = {
        "one md5 pass": lambda: md5_pass(path),
        "md5 and sha256, one after the other": lambda: both_in_turn(path),
        "hash (both, side by side)": lambda: FileDigests().of(path),
        "hash and freeze: put, copied": lambda: put(own=False),
        "hash and freeze: put, given up": lambda: put(own=True),
        "put again, unchanged": lambda: kept.put(path),
        "fetch, verified": lambda: kept.fetch(artifact, base / "out"),
    }
    if importlib.util.find_spec("dvc"):
        peers["dvc add"] = lambda: _dvc_add(base, path)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(REPEATS):
        for name, work in peers.items():
            taken[name].append(measure(work))
            for store in base.glob("store*"):
                shutil.rmtree(store)
            (base / "out").unlink(missing_ok=True)
    print(f"hashing and freezing {SIZE >> 20} MiB: medians of {REPEATS}, interleaved; load {os.getloadavg()[0]:.1f}")
    medians = {n: (statistics.median(w for w, _ in t), statistics.median(c for _, c in t)) for n, t in taken.items()}
    wall0, cpu0 = medians["one md5 pass"]
    for name, (wall, cpu) in medians.items():
        print(f"  {name:<38} {wall:7.3f} s {wall / wall0:6.2f}x   {cpu:7.3f} CPU s {cpu / cpu0:6.2f}x")


def _dvc_add(base: Path, path: Path) -> None:
    """What DVC itself takes for the same, its start included."""
    repo = base / "repo"
    shutil.rmtree(repo, ignore_errors=True)
    (repo / ".dvc").mkdir(parents=True)
    (repo / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    shutil.copy(path, repo / path.name)
    env = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(repo / "site")}
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", path.name], cwd=repo, env=env, check=True)
    shutil.rmtree(repo)


if __name__ == "__main__":
    main()
