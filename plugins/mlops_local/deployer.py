"""Deployer `http`: one process on this machine, no cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from mlops_core import (
    HostProcess,
    certificate,
    other_ports,
    refuse_batching,
    refuse_half,
    refuse_open,
)
from mlops_core.contracts import Endpoint, Serving, plain, restore

LIMITS = ("max_rows", "max_bytes", "auth", "request_timeout", "batching", "access_log")


@dataclass(frozen=True)
class HttpDeployer:
    """Serves a model from one process on this machine, which lives on when the command has ended.

    For a laptop, a test, a small server or an edge device: nothing but Python, uvicorn and onnxruntime runs.
    A new version is loaded beside the old one and switched in place, so no request is dropped. The process
    keeps its port over restarts, and ends requests under way before it stops.

    host: address to listen on; with auth none it must be loopback
    port: port to listen on; 0 picks a free one at the first start and keeps it
    grpc_port: port for the Open Inference Protocol over gRPC, beside HTTP; 0 picks a free one and keeps it
    admin_port: port that alone tells /, /status and /metrics; 0 picks a free one; null: 0, alone if auth is keys
    admin_host: address that the admin port listens on
    auth: 'keys' asks every caller for a key of 'mlops keys', 'none' lets everybody on this machine in
    tls_cert: PEM file with the certificate, and those that lead to its authority; with it, callers come by https
    tls_key: PEM file with the certificate's private key
    max_rows: rows that one request may hold
    max_bytes: size of a request's body
    request_timeout: seconds that a caller may take to send a request
    batching: {size: rows, wait: seconds}: predicts requests that arrive together as one call; for many callers at once
    access_log: a JSON line for each request, without its body, in access.log of the endpoint's state folder
    startup_timeout: seconds that loading and the smoke set may take
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Ge(0), Le(65535)] = 0
    grpc_port: Annotated[int, Ge(0), Le(65535)] | None = None
    admin_port: Annotated[int, Ge(0), Le(65535)] | None = None
    admin_host: str = "127.0.0.1"
    auth: Literal["keys", "none"] = "keys"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_rows: Annotated[int, Ge(1)] = 10_000
    max_bytes: Annotated[int, Ge(1)] = 16 * 1024 * 1024
    request_timeout: Annotated[float, Gt(0)] = 30.0
    batching: Mapping[str, float] | None = None
    access_log: bool = False
    startup_timeout: Annotated[float, Gt(0)] = 60.0

    def __post_init__(self) -> None:
        refuse_open(self.host, self.auth)
        refuse_open(self.admin_host, self.auth)
        if self.batching is not None:
            refuse_batching(self.batching)
        refuse_half(self.tls_cert, self.tls_key)

    def apply(self, desired: Serving) -> Endpoint:
        """See `mlops_core.stages.Deployer`."""
        process = HostProcess(desired.state, self.startup_timeout)
        limits = {name: getattr(self, name) for name in LIMITS}
        with process.alone():
            before = (process.read("desired.json") or {}).get("process", {})
            ports = other_ports(before, self.host, self.grpc_port, self.admin_port, self.admin_host)
            fixed = certificate(self.tls_cert, self.tls_key) | ports
            process.make(plain(desired), limits, self.host, self.port, fixed)
            return process.endpoint(desired, "http")

    def actual(self, name: str, state: Path) -> tuple[Endpoint, Serving] | None:
        """See `mlops_core.stages.Deployer`."""
        process = HostProcess(state, self.startup_timeout)
        actual = process.read("actual.json")
        if process.running() is None or actual is None or actual["serving"]["name"] != name:
            return None
        serving = restore(Serving, actual["serving"])
        return process.endpoint(serving, "http"), serving

    def stop(self, name: str, state: Path) -> bool:
        """See `mlops_core.stages.Deployer`."""
        if self.actual(name, state) is None:
            return False
        process = HostProcess(state, self.startup_timeout)
        with process.alone():
            return process.stop()
