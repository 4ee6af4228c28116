"""Several processes that fit one module: how they meet, and what Lightning is told of their places."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from mlops_core.contracts import Gang, Job

PATIENCE = timedelta(minutes=30)  # for a process that is behind, as when rank 0 scores a large validation split
ADDRESS_OF = 0x8915  # SIOCGIFADDR
INTERFACE = "GLOO_SOCKET_IFNAME"


def leads(job: Job) -> bool:
    """Whether this process judges, reports and leaves the model."""
    return job.gang is None or job.gang.rank == 0


@contextlib.contextmanager
def gathered(gang: Gang | None, backend: str) -> Iterator[None]:
    """The process group of a gang, for as long as the block; nothing where there is no gang."""
    if gang is None:
        yield
        return
    store = _met(gang)
    with _on_the_interface_of(gang):
        dist.init_process_group(backend, store=store, rank=gang.rank, world_size=gang.workers, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def backend(accelerator: str, job: Job) -> str:
    """nccl wants a device for each process; gloo is content with part of one, and with none."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "nccl" if on_gpu and job.resources.get("gpus", 0) >= 1 else "gloo"


def lightning_options(lightning: Any, gang: Gang, backend: str, *, users_own: bool) -> dict[str, Any]:
    """What Lightning's Trainer is told of a gang: one device in each process, as if each were a node of its own."""
    # a user's module may have parameters that a step does not use; to look for them costs a little in each step
    strategy = lightning.strategies.DDPStrategy(process_group_backend=backend, find_unused_parameters=users_own)
    return {"strategy": strategy, "num_nodes": gang.workers, "plugins": [_place_class(lightning)(gang)]}


def _met(gang: Gang) -> Any:
    """The store of the gang, once all are there. Rank 0 waits in Python, where it can be interrupted."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch hides it from type checkers

    host, _, port = gang.meet.rpartition(":")
    if gang.rank:
        store = TCPStore(host, int(port), gang.workers, is_master=False)
    else:
        listening = socket.create_server((host, int(port))).detach()  # by itself it would listen on every address
        store = TCPStore(
            host, int(port), gang.workers, is_master=True, wait_for_workers=False, master_listen_fd=listening
        )
    store.set(f"here/{gang.rank}", "")
    while not store.check([f"here/{rank}" for rank in range(gang.workers)]):
        time.sleep(0.01)
    return store


@contextlib.contextmanager
def _on_the_interface_of(gang: Gang) -> Iterator[None]:
    """Gloo takes the network of this host's name, which many hosts map to a loopback address that no other reaches."""
    host, _, port = gang.meet.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        name = _interface(probe, probe.getsockname()[0])
    if not name or INTERFACE in os.environ:
        yield
        return
    os.environ[INTERFACE] = name
    try:
        yield
    finally:
        del os.environ[INTERFACE]


def _interface(probe: socket.socket, address: str) -> str:
    for _, name in socket.if_nameindex():
        with contextlib.suppress(OSError):  # one without an address
            found = fcntl.ioctl(probe.fileno(), ADDRESS_OF, struct.pack("256s", name.encode()[:15]))
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return ""


class _Place:
    """Lightning's ClusterEnvironment: each process of the gang stands for a node with one device."""

    creates_processes_externally = True

    def __init__(self, gang: Gang) -> None:
        super().__init__()
        self.gang = gang

    @property
    def main_address(self) -> str:
        return self.gang.meet.rpartition(":")[0]

    @property
    def main_port(self) -> int:
        return int(self.gang.meet.rpartition(":")[2])

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.gang.workers

    def set_world_size(self, size: int) -> None:
        """It is known."""

    def global_rank(self) -> int:
        return self.gang.rank

    def set_global_rank(self, rank: int) -> None:
        """It is known."""

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return self.gang.rank


@functools.cache
def _place_class(lightning: Any) -> Any:
    environments = importlib.import_module(f"{lightning.__name__}.plugins.environments")
    return type("Place", (_Place, environments.ClusterEnvironment), {})
