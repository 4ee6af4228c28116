"""What callers notice of a change, and of a death: failed requests, and seconds until all is well.

Eight callers without pause (a failed call is tried again after 50 ms) while weights change (all traffic from one
version to the other; `effect` is the last answer of the version before, counted from the call of `apply`), while all
versions are replaced by one that has to be loaded, and while a guest, a replica, HAProxy, Serve's controller or the
raylet, without which Ray ends, is killed. `silent` is the longest time without any answer; `recovered` the last failed
request after the kill. Goals: effect below 0.5 s and no failed request; none for guest, replica and controller, HAProxy
back within 0.5 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from serving_peers import load, ours
from serving_peers.contestants import Contestant, ready

CALLERS = 8
KILLED = {
    "guest": "mlops_core.serving.guest",
    "replica": "ServeReplica",
    "haproxy": "/haproxy",
    "controller": "ServeController",
    "raylet": "/raylet/raylet",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--changes", type=int, default=9)
    parser.add_argument("--kills", default=",".join(KILLED))
    parser.add_argument("--deployers", default="http,ray_serve")
    given = parser.parse_args()
    print(f"one minute's load average at the beginning: {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    for kind in given.deployers.split(","):
        with (
            tempfile.TemporaryDirectory(prefix="mlops-bench-") as name,
            endpoint(kind, Path(name)) as (contestant, apply),
        ):
            print(f"deployer {kind}")
            weights(contestant, apply, given.changes)
            replacement(contestant, apply)
            for what in given.kills.split(",") if kind == "ray_serve" and given.kills else ():
                kill(contestant, apply, what)


@contextmanager
def endpoint(kind: str, folder: Path) -> Iterator[tuple[Contestant, Callable[..., None]]]:
    contestant = ours.endpoint(kind, folder, 2, (1,))
    deployer = ours.deployer(kind, 2)
    try:
        ready(contestant, (1,))
        yield contestant, lambda weights, **fields: deployer.apply(ours.serving(folder, weights, **fields))
    finally:
        contestant.stop()


def callers(contestant: Contestant) -> Any:
    more = {"headers": dict(contestant.headers), "events": True, "pause": 0.05}
    return load.begin(contestant.port, contestant.path, contestant.bodies[1], CALLERS, **more)


def weights(contestant: Contestant, apply: Callable[..., None], changes: int) -> None:
    apply({1: 100, 2: 0})
    running, told = callers(contestant), []
    time.sleep(1)
    for number in range(changes):
        began = time.monotonic()
        apply({1: 0, 2: 100} if number % 2 == 0 else {1: 100, 2: 0})
        told.append((began, time.monotonic() - began, str(1 + number % 2)))
        time.sleep(1)
    found = load.end(running)
    effects = []
    for began, _, before in told:
        last = [at for at, _, said in found.events if said == before and began < at < began + 1]
        effects.append(max(last, default=began) - began)
    returned = statistics.median(s for _, s, _ in told)
    print(
        f"  {changes} weight changes: effect {statistics.median(effects):.2f} s (worst {max(effects):.2f}), told after "
        f"{returned:.2f} s; {found.failed} of {found.answered + found.failed} requests failed {told_of(found.errors)}"
    )


def replacement(contestant: Contestant, apply: Callable[..., None]) -> None:
    running = callers(contestant)
    time.sleep(3)
    began = time.monotonic()
    apply({3: 100})
    over = time.monotonic()
    time.sleep(1)
    found = load.end(running)
    before = [s for at, s, _ in found.events if at < began]
    during = [s for at, s, _ in found.events if began <= at <= over + 0.5]
    print(
        f"  all versions replaced in {over - began:.2f} s: {found.failed} of {found.answered + found.failed} requests "
        f"failed {told_of(found.errors)}; p99 {1000 * p99(before):.1f} ms before, {1000 * p99(during):.1f} ms meanwhile"
    )


def kill(contestant: Contestant, apply: Callable[..., None], what: str) -> None:
    """Kills one such process under load, and waits until there are as many as before and calls go well."""
    roles = {4: "candidate"} if what == "guest" else {}
    apply({3: 80, 4: 20} if what == "guest" else {3: 100}, roles=roles)
    before = pids(contestant, what)
    running = callers(contestant)
    time.sleep(2)
    os.kill(before[0], signal.SIGKILL)
    killed = time.monotonic()
    time.sleep(1)
    while not (len(now := pids(contestant, what)) >= len(before) and before[0] not in now and answers(contestant)):
        if time.monotonic() - killed > 120:
            break
        time.sleep(0.2)
    healed = time.monotonic() - killed
    time.sleep(3)
    found = load.end(running)
    failures = [at for at, _, said in found.events if said.startswith("error")]
    times = sorted(at for at, _, said in found.events if not said.startswith("error") and at > killed - 1)
    silent = max((b - a for a, b in pairwise(times)), default=float("nan"))
    print(
        f"  {what + ' killed:':<19} {found.failed} of {found.answered + found.failed} requests failed "
        f"{told_of(found.errors)}; silent {silent:.2f} s, recovered {max(failures, default=killed) - killed:.2f} s, "
        f"whole again {healed:.1f} s",
        flush=True,
    )


def pids(contestant: Contestant, what: str) -> list[int]:
    found = []
    for process in contestant.processes():
        with suppress(psutil.Error):
            if KILLED[what] in " ".join(process.cmdline()):
                found.append(process.pid)
    return sorted(found)


def answers(contestant: Contestant) -> bool:
    with suppress(OSError, ValueError, KeyError):
        contestant.ask(1)
        return True
    return False


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * len(seconds))] if seconds else float("nan")


def told_of(errors: dict[str, int]) -> str:
    return f"({', '.join(f'{n} {why}' for why, n in sorted(errors.items()))})" if errors else ""


if __name__ == "__main__":
    main()
