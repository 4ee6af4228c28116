"""What runs in each replica: the core's ASGI application, changed in place when the desired state changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_core import WholeAnswers, create_app, write_state
from mlops_core import wanted as serving_of
from mlops_core.errors import MlopsError

log = logging.getLogger("mlops_ray")


class Door:
    """The ASGI application that Serve gets: the one that `app` is at the moment."""

    def __init__(self) -> None:
        self.app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self.app(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        if self.app is not None:
            await self.app.drain()
            await asyncio.to_thread(self.app.close)  # writes what waits for the prediction log
        await send({"type": "lifespan.shutdown.complete"})


DOOR = Door()


def door() -> Door:
    """Called by Serve in the replica: each has its own."""
    return DOOR


class Front:
    """One replica. Serve calls `reconfigure` with the desired state at its start, and whenever that changes."""

    def __init__(self, state: str) -> None:
        _close_doors()
        _answer_whole()
        self.state = Path(state)
        self._generation = 0
        self._switching = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def reconfigure(self, desired: Mapping[str, Any]) -> None:
        """Loads before the first request; later returns at once, for meanwhile Serve sends us no request."""
        WholeAnswers.seconds = desired["limits"]["request_timeout"]
        if DOOR.app is None:
            DOOR.app = await asyncio.to_thread(create_app, serving_of(dict(desired)))
            DOOR.app.share(self.state / "telemetry")
            self._tell(desired["generation"])
            return
        task = asyncio.get_running_loop().create_task(self._switch(desired))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _switch(self, desired: Mapping[str, Any]) -> None:
        async with self._switching:
            if desired["generation"] <= self._generation:
                return
            try:
                await asyncio.to_thread(DOOR.app.apply, serving_of(dict(desired)))
            except Exception as error:  # what runs goes on; the host hears of it and tells the deployer
                log.error("generation %s refused: %s", desired["generation"], error)
                words = str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"
                self._tell(desired["generation"], words)
            else:
                self._tell(desired["generation"])

    def _tell(self, generation: int, error: str = "") -> None:
        self._generation = generation
        with contextlib.suppress(OSError):
            told = {"pid": os.getpid(), "generation": generation, "error": error}
            write_state(self.state / "replicas" / f"{os.getpid()}.json", told)


def _close_doors() -> None:
    """Serve opens a port of every replica, which unpickles what it gets, on all interfaces: only on the node's."""
    import ray
    from ray.serve._private import replica

    add = replica.add_port_to_grpc_server

    def bind(server: Any, address: str) -> int:
        return int(add(server, address.replace("[::]", ray.util.get_node_ip_address())))

    replica.add_port_to_grpc_server = bind


def _answer_whole() -> None:
    """A killed replica leaves no half answers: HAProxy may ask another for what it had in its hands."""
    from uvicorn.protocols.http import auto

    auto.AutoHTTPProtocol = WholeAnswers  # type: ignore[misc]  # Serve lets uvicorn choose


def app(args: Mapping[str, str]) -> Any:
    """What Serve builds: the import path of its declarative configuration."""
    from ray import serve

    return serve.deployment(serve.ingress(door)(Front), name="front").bind(args["state"])
