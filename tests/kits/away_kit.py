"""A Ray cluster on this machine whose nodes do not see a folder of it, as other machines would not."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

NEW_NAMESPACE, RECURSIVE_PRIVATE = 0x00020000, 0x4000 | 0x40000
SMALL = {"object_store_memory": 100 * 1024 * 1024, "node_ip_address": "127.0.0.1"}


@contextlib.contextmanager
def away_cluster(folder: Path, cpus: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without room for trials, and a node for each number of `cpus`, to which `folder` is empty."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setattr("ray._private.utils.set_sigterm_handler", lambda handler: None)  # for the main thread only
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})
    over = Event()

    def start() -> None:
        for count in cpus:
            made.add_node(num_cpus=count, **SMALL)

    try:
        _in_a_view_without(folder, start, over)
        yield made
    finally:
        made.shutdown()
        over.set()


def _in_a_view_without(folder: Path, start: Callable[[], None], over: Event) -> None:
    """What `start` starts has an empty disk of its own at `folder`: a thread has a view of the disks for itself, and
    what Ray starts ends with the thread that started it."""
    done, why = Event(), list[BaseException]()

    def run() -> None:
        try:
            _call("unshare", NEW_NAMESPACE)
            _call("mount", b"none", b"/", None, RECURSIVE_PRIVATE, None)
            _call("mount", b"none", os.fsencode(folder), b"tmpfs", 0, None)
            start()
        except BaseException as error:
            why.append(error)
        done.set()
        over.wait()

    Thread(target=run, daemon=True).start()
    done.wait()
    if why and isinstance(why[0], PermissionError):
        pytest.skip(f"this machine lets nobody hide a folder: {why[0]}")
    if why:
        raise why[0]


def _call(name: str, *words: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = [ctypes.c_ulong(w) if name == "mount" and isinstance(w, int) else w for w in words]
    if getattr(libc, name)(*flags):
        raise PermissionError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
