"""Half an hour under load: flat memory, no error, and every answered request in the prediction log, once.

    python tests/benchmarks/soak.py --minutes=30 --deployer=ray_serve

Four callers without pause; each minute the weights change. The log is read when the endpoint has been stopped.
Exit code 1 where a request failed, an id is not logged exactly once, or the last third holds over 5 % (and 5 MiB)
more memory than the second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from serving_peers import load, ours
from serving_peers.contestants import ready

CALLERS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--deployer", default="ray_serve", choices=("http", "ray_serve"))
    given = parser.parse_args()
    print(f"one minute's load average at the beginning: {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        raise SystemExit(soak(Path(name), given.deployer, given.minutes))


def soak(folder: Path, kind: str, minutes: float) -> int:
    contestant, deployer = ours.endpoint(kind, folder, 2, (1,)), ours.deployer(kind, 2)
    memory: list[float] = []
    try:
        ready(contestant, (1,))
        ids, more = folder / "ids", {"headers": dict(contestant.headers)}
        running = load.begin(contestant.port, contestant.path, contestant.bodies[1], CALLERS, ids=str(ids), **more)
        began = looked = time.monotonic()
        every = min(60.0, minutes * 60 / 9)
        while (now := time.monotonic()) < began + 60 * minutes:
            if now - looked >= every:
                looked = now
                memory.append(contestant.memory())
                print(f"  {(now - began) / 60:5.1f} minutes: {memory[-1]:6.0f} MiB", flush=True)
                deployer.apply(ours.serving(folder, {1: 90, 2: 10} if len(memory) % 2 else {1: 10, 2: 90}))
            time.sleep(0.2)
        found = load.end(running)
    finally:
        contestant.stop()
    third = len(memory) // 3
    before, after = (statistics.mean(m) if third else 0.0 for m in (memory[third : 2 * third], memory[-third:]))
    logged, answered = ours.logged_ids(folder), ids.read_text().split()
    once = sum(logged.get(id) == 1 for id in answered)
    print(f"  {found.answered} answered, {found.failed} failed {found.errors or ''}, {found.rate:.0f} req/s")
    print(f"  {once} of {len(answered)} answered ids are logged once; {len(logged)} ids in the log")
    print(f"  memory: {before:.1f} MiB in the second third, {after:.1f} MiB in the last")
    grew = after - before > max(5, 0.05 * before)
    return int(found.failed > 0 or once < len(answered) or len(answered) != found.answered or grew)


if __name__ == "__main__":
    main()
