"""CPU seconds of whole commands, interleaved, medians: these machines are noisy, ratios in one run are not."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def cpu(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> tuple[float, float]:
    """CPU seconds of a command with all its children, and its peak resident memory in MiB."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, cwd=cwd, env=dict(env or os.environ), stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 2):
            out.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{out.read().decode()[-3000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def compare(
    peers: Mapping[str, Callable[[], tuple[float, float]]], repeats: int = 5, base: str = ""
) -> dict[str, tuple[float, float]]:
    """Runs every peer in turn, `repeats` times; prints and gives the medians (CPU s, MiB) and the ratio to `base`."""
    for peer in peers.values():
        peer()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(repeats):
        for name, peer in peers.items():
            taken[name].append(peer())
    found = {n: (statistics.median(c for c, _ in t), statistics.median(m for _, m in t)) for n, t in taken.items()}
    floor = found[base][0] if base else 0.0
    for name, (seconds, memory) in found.items():
        ratio = f"  {seconds / floor:6.2f}x" if floor else ""
        print(f"  {name:<34} {seconds:7.3f} CPU s  {memory:7.0f} MiB{ratio}")
    sys.stdout.flush()
    return found
