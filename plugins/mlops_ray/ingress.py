"""Serve's processes, taught: the proxy actor to look after its HAProxy, every one to say a request's id but once.

Serve asks HAProxy every now and then whether it lives, and after three answers that did not come replaces the actor,
and with it the process: 10 to 22 s in which nobody is answered. Here the actor is told by the kernel that its child
has died, and starts it again with the configuration that lies on the disk. And where the actor itself is killed, its
HAProxy lives on and answers: the next actor takes it over as its own, where Serve would start a second one beside it
that knows of no replica yet.

Private parts of Ray 2.60, all of them here. This module is imported by every process of the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
from pathlib import Path
from typing import Any

log = logging.getLogger("mlops_ray")


class Left:
    """A HAProxy that an actor before us has started; as much of a subprocess as Serve asks for."""

    _stdout_path = _stderr_path = os.devnull

    def __init__(self, pid: int, config: str) -> None:
        self.pid = pid
        self._config = config

    @property
    def returncode(self) -> int | None:
        return None if _is_haproxy(self.pid, self._config) else -signal.SIGKILL

    async def wait(self) -> int | None:
        while self.returncode is None:
            await asyncio.sleep(0.05)
        return self.returncode

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def teach() -> None:
    """Changes Serve's class in this process, once."""
    from ray.serve._private.haproxy import HAProxyApi

    if hasattr(HAProxyApi, "_guarded"):
        return
    api: Any = HAProxyApi
    spawn, start, reload, stop = api._start_and_wait_for_haproxy, api.start, api._graceful_reload, api.stop

    @functools.wraps(spawn)
    async def spawned(self: Any, *arguments: str, **options: Any) -> Any:
        proc = await spawn(self, *arguments, **options)
        _guard(self, proc)
        return proc

    @functools.wraps(start)
    async def started(self: Any) -> None:
        left = _left(self.config_file_path)
        if left is None:
            await start(self)
            return
        log.warning("HAProxy %s outlived its actor and goes on", left.pid)
        self._proc = left
        _guard(self, left)

    @functools.wraps(reload)
    async def reloaded(self: Any) -> None:
        async with _alone(self):
            if self._is_running():
                await reload(self)
            else:  # killed; the new configuration is written already
                self._proc = await self._start_and_wait_for_haproxy()

    @functools.wraps(stop)
    async def stopped(self: Any) -> None:
        self._guarded = False
        await stop(self)

    api._guarded = True
    api._start_and_wait_for_haproxy, api.start, api._graceful_reload, api.stop = spawned, started, reloaded, stopped


def once() -> None:
    """Serve puts the request's id into every answer, beside the one that our answers have."""
    from ray.serve._private.http_util import RequestIdMiddleware, generate_request_id

    async def passed(self: Any, scope: Any, receive: Any, send: Any) -> None:
        if not any(name == b"x-request-id" for name, _ in scope["headers"]):
            scope["headers"].append((b"x-request-id", generate_request_id().encode()))
        await self._app(scope, receive, send)

    RequestIdMiddleware.__call__ = passed  # type: ignore[method-assign]


def _guard(api: Any, proc: Any) -> None:
    api._guards = {t for t in getattr(api, "_guards", ()) if not t.done()} | {
        asyncio.get_running_loop().create_task(_again(api, proc))
    }


async def _again(api: Any, proc: Any) -> None:
    """Starts HAProxy again when `proc` has died, unless that was meant."""
    await proc.wait()
    async with _alone(api):
        if not api._guarded or api._proc is not proc:
            return
        log.warning("HAProxy %s died; starting it again", proc.pid)
        with contextlib.suppress(OSError):  # what it knew of the replicas may be old; new, it asks them
            os.unlink(api.cfg.server_state_file)
        api._proc = await api._start_and_wait_for_haproxy()


def _alone(api: Any) -> asyncio.Lock:
    """One of reload and start at a time."""
    if not hasattr(api, "_changing"):
        api._changing = asyncio.Lock()
    lock: asyncio.Lock = api._changing
    return lock


def _left(config: str) -> Left | None:
    found = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _is_haproxy(int(p.name), config)]
    return Left(max(found), config) if found else None


def _is_haproxy(pid: int, config: str) -> bool:
    with contextlib.suppress(OSError):
        words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
        return config.encode() in words
    return False


teach()
once()
