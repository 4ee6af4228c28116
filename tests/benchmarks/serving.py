"""The whole product against bare Ray Serve with the same ingress, stock Serve, and other servers, on one network.

    python tests/benchmarks/serving.py --seconds=1 --repeats=1      a quick look; --only=ours,litserve chooses

Requests of one row and of 64 rows at 1, 16 and 64 kept connections, a closed loop from a process of its own.
Contestants take turns at every point, and who is not asked is stopped; the figures are medians. CPU is that of the
whole process tree, what it does when idle included. Everybody answers the same rows by the same network with two
workers (MLServer and deployer `http`: one process, which is their best); only ours checks keys and rows, chooses a
version, counts and logs. Bare Ray Serve is there twice: with our answer (a label and the share of each class by its
name, spelled by orjson), and with the network's array as it is, which is all that stock Serve and the other servers
send. MLServer gets one tensor instead of named rows. TorchServe runs torch eager, the others ONNX Runtime.

Goals: ours >= 0.95x bare Ray Serve's req/s and at most 100 us CPU more a request; >= 8x stock Serve for single rows,
>= 5x for 64 rows; ahead of each other server at every point.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving_peers import load, network, ours
from serving_peers.contestants import PEERS, Absent, Contestant, bare_ray, peer, ready

from mlops_core.contracts import Route
from mlops_core.serving.telemetry import Telemetry

ROWS = (1, 64)
CONNECTIONS = (1, 16, 64)
WORKERS = 2
RAY, HTTP, BARE, ARRAY, STOCK = "ours, ray_serve", "ours, http", "bare ray serve", "bare, an array", "stock ray serve"
Point = tuple[
    float, float, float, float, float, int
]  # req/s, CPU us a request, p50 ms, p99 ms, load's CPU share, failed


def main() -> None:
    given = arguments()
    print(f"one minute's load average at the beginning: {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    in_process()
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
        folder = Path(name)
        network.write(folder / "model.onnx")
        running: list[Contestant] = []
        try:
            start(folder, given, running)
            taken = measure(running, given)
        finally:
            for contestant in running:
                contestant.pause(False)
                contestant.stop()
    goals(taken)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=2.0, help="a point")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of load at the start of each, twice")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "mlops-bench-peers")
    parser.add_argument("--only", default="", help="contestants by the beginning of their names, with commas")
    return parser.parse_args()


def start(folder: Path, given: argparse.Namespace, running: list[Contestant]) -> None:
    """Each that can take part, one after the other; the others with the reason."""
    makers: dict[str, Callable[[], Contestant]] = {
        RAY: lambda: ours.endpoint("ray_serve", folder / "ours-ray", WORKERS, ROWS),
        HTTP: lambda: ours.endpoint("http", folder / "ours-http", WORKERS, ROWS),
        BARE: lambda: bare_ray(folder / "bare", WORKERS, ROWS, "haproxy", BARE, "named"),
        ARRAY: lambda: bare_ray(folder / "array", WORKERS, ROWS, "haproxy", ARRAY),
        STOCK: lambda: bare_ray(folder / "stock", WORKERS, ROWS, "default", STOCK),
    }
    for name in PEERS:
        makers[name] = lambda name=name: peer(name, given.cache, folder / name, WORKERS, ROWS)  # type: ignore[misc]
    chosen = tuple(given.only.split(",")) if given.only else ("",)
    for name, make in makers.items():
        if not name.startswith(chosen):
            continue
        began = time.monotonic()
        try:
            contestant = make()
            running.append(contestant)
            ready(contestant, ROWS)
            for rows in ROWS:  # compilers and caches
                load.offer(
                    contestant.port, contestant.path, contestant.bodies[rows], 16, given.warm, **asked(contestant)
                )
        except Absent as absent:
            running[:] = [c for c in running if c.name != name]
            print(f"  {name:<16} takes no part: {absent}", flush=True)
            continue
        print(
            f"  {name:<16} up after {time.monotonic() - began:5.1f} s, idle "
            f"{idle(contestant):5.1f} % of a core, {contestant.memory():5.0f} MiB",
            flush=True,
        )
        contestant.pause()


def idle(contestant: Contestant) -> float:
    time.sleep(1)
    before = contestant.cpu()
    time.sleep(2)
    return 100 * (contestant.cpu() - before) / 2


def measure(running: list[Contestant], given: argparse.Namespace) -> dict[tuple[int, int], dict[str, Point]]:
    found = {}
    for rows in ROWS:
        for connections in CONNECTIONS:
            points: dict[str, list[Point]] = {c.name: [] for c in running}
            for _ in range(given.repeats):
                for contestant in running:
                    points[contestant.name].append(point(contestant, rows, connections, given.seconds))
            medians = {name: tuple(statistics.median(v) for v in zip(*p, strict=True)) for name, p in points.items()}
            found[rows, connections] = medians
            show(rows, connections, medians)  # type: ignore[arg-type]
    return found  # type: ignore[return-value]


def point(contestant: Contestant, rows: int, connections: int, seconds: float) -> Point:
    contestant.pause(False)
    more = asked(contestant)
    load.offer(contestant.port, contestant.path, contestant.bodies[rows], connections, min(0.5, seconds), **more)
    before = contestant.cpu()
    said = load.offer(contestant.port, contestant.path, contestant.bodies[rows], connections, seconds, **more)
    cpu = contestant.cpu() - before
    contestant.pause()
    count = max(1, said.answered + said.failed)
    times = [1000 * said.quantiles.get(q, float("nan")) for q in ("p50", "p99")]
    return said.rate, 1e6 * cpu / count, times[0], times[1], said.cpu / said.seconds, said.failed


def asked(contestant: Contestant) -> dict[str, Any]:
    return {"headers": dict(contestant.headers)}


def show(rows: int, connections: int, points: dict[str, Point]) -> None:
    print(f"{rows} row{'s' * (rows > 1)} a request, {connections} connection{'s' * (connections > 1)}")
    base = points.get(RAY) or next(iter(points.values()))
    for name, (rate, cpu, p50, p99, own, failed) in points.items():
        print(
            f"  {name:<16} {rate:7.0f} req/s {rate / base[0]:5.2f}x   {cpu:6.0f} us CPU   "
            f"p50 {p50:7.2f} ms  p99 {p99:7.2f} ms   load generator {100 * own:3.0f} % of a core"
            + (f"   {failed:.0f} FAILED" if failed else ""),
            flush=True,
        )


def goals(taken: dict[tuple[int, int], dict[str, Point]]) -> None:
    for (rows, connections), points in taken.items():
        if RAY not in points:
            continue
        rate, cpu, where = points[RAY][0], points[RAY][1], f"{rows:>2} rows, {connections:>2} connections:"
        for name in (BARE, ARRAY):
            if name in points:
                bare = points[name]
                print(f"{where} {rate / bare[0]:.2f}x {name} (goal 0.95), {cpu - bare[1]:+.0f} us CPU (goal 100)")
        if STOCK in points:
            print(f"{where} {rate / points[STOCK][0]:.1f}x stock Serve (goal {8 if rows == 1 else 5})")
        for kind in (RAY, HTTP):
            ahead = [f"{points[kind][0] / points[p][0]:.1f}x {p}" for p in PEERS if p in points and kind in points]
            print(f"{where} {kind} {', '.join(ahead)}" if ahead else "", end="\n" if ahead else "")


def in_process() -> None:
    """CPU microseconds a request of the network alone: ONNX Runtime against torch eager."""
    with tempfile.TemporaryDirectory() as name:
        network.write(Path(name) / "model.onnx")
        nets = {"ONNX Runtime": network.Onnx(Path(name) / "model.onnx"), "torch eager": network.Torch()}
    for count in ROWS:
        x, taken = network.matrix(network.rows(count)), {n: [] for n in nets}
        for _ in range(15):
            for kind, net in nets.items():
                net(x)
                began = time.process_time()
                for _ in range(300):
                    net(x)
                taken[kind].append(1e6 * (time.process_time() - began) / 300)
        onnx, torch = (statistics.median(t) for t in taken.values())
        print(
            f"the network in process, {count} rows: ONNX Runtime {onnx:.1f} us, torch eager {torch:.1f} us CPU", end=""
        )
        print(f"   {torch / onnx:.1f}x")
    print(f"counting a request for /metrics: {counting():.2f} us CPU")


def counting(requests: int = 20_000) -> float:
    """CPU microseconds that the counters of /metrics take for a request; the median of five."""
    nothing: Any = ({"guests": {}, "log": {}}, {"guests": {}, "log": {}})
    telemetry, route, taken = Telemetry(lambda: nothing), Route(version=1, bundle=Path("b"), sha256=""), []
    for _ in range(5):
        began = time.process_time()
        for _ in range(requests):
            telemetry.answered(route, 1, 0, 0.003)
        taken.append((time.process_time() - began) / requests * 1e6)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
