"""What runs in each replica: the core's ASGI application, changed in place when what is wanted changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlops_core import Rpc, WholeAnswers, create_app, read_state, tls_files, write_state
from mlops_core import wanted as serving_of
from mlops_core.errors import MlopsError

WANTED = "wanted.json"  # what the host has rehearsed, so that every replica can make it so
LOOK_SECONDS, COUNT_SECONDS = 0.02, 1.0
AT_ADMIN = (b"x-mlops-door", b"admin")  # the header by which HAProxy tells who came by the port of the operators
DRAIN_SECONDS = 5.0
log = logging.getLogger("mlops_ray")


class Door:
    """The ASGI application that Serve gets: the one that `app` is at the moment."""

    def __init__(self) -> None:
        self.app: Any = None
        self.rpc: Any = None
        self.leave: Callable[[], None] = lambda: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self.app(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        self.leave()
        if self.rpc is not None:
            await self.rpc.stop(DRAIN_SECONDS)
        if self.app is not None:
            await self.app.drain()
            await asyncio.to_thread(self.app.close)  # writes what waits for the prediction log
        await send({"type": "lifespan.shutdown.complete"})


DOOR = Door()


def door() -> Door:
    """Called by Serve in the replica: each has its own."""
    return DOOR


class Front:
    """One replica. It follows `wanted.json` by itself: through Serve's controller a change takes half a second."""

    def __init__(self, state: str) -> None:
        _close_doors()
        _answer_whole()
        self.state = Path(state)
        self._seen: tuple[int, int] | None = None
        self._scales = False
        self._following: asyncio.Task[None] | None = None
        self._left = False

    async def reconfigure(self, _: Any) -> None:
        """Serve calls this before the first request, and whenever it has scaled."""
        if self._following is not None:
            return
        self._seen, desired = _stamp(self.state / WANTED), read_state(self.state / WANTED)
        WholeAnswers.seconds = desired["limits"]["request_timeout"]
        DOOR.app = await asyncio.to_thread(create_app, serving_of(desired))
        DOOR.app.share(self.state / "telemetry")
        process, self._scales = desired["process"], bool(desired["limits"].get("autoscaling"))
        if process.get("admin_port"):
            DOOR.app.at_admin = lambda scope: AT_ADMIN in scope["headers"]
            DOOR.app.apart = process["apart"]
        if process.get("grpc_port"):
            DOOR.rpc = Rpc(DOOR.app)
            await DOOR.rpc.start(process["host"], process["grpc_port"], tls_files(process), shared=True)
        self._tell(desired["generation"])
        self._following = asyncio.get_running_loop().create_task(self._follow())
        DOOR.leave = self._leave

    def _leave(self) -> None:
        """Nobody asks it any more: the host neither waits for it nor hears from it."""
        self._left = True
        if self._following is not None:
            self._following.cancel()
        _told(self.state).unlink(missing_ok=True)

    async def _follow(self) -> None:
        looked = 0.0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._scales and (now := time.monotonic()) > looked + COUNT_SECONDS:
                looked = now
                DOOR.app.shared_by(len(await asyncio.to_thread(living, self.state)))
            if (stamp := _stamp(self.state / WANTED)) not in (None, self._seen):
                self._seen = stamp
                await self._switch()

    async def _switch(self) -> None:
        generation = 0
        try:
            desired = read_state(self.state / WANTED)
            generation = desired["generation"]
            await asyncio.to_thread(DOOR.app.apply, serving_of(desired))
            WholeAnswers.seconds = desired["limits"]["request_timeout"]
            self._scales = bool(desired["limits"].get("autoscaling"))
        except Exception as error:  # what runs goes on; the host hears of it and tells the deployer
            log.error("generation %s refused: %s", generation, error)
            words = str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"
            self._tell(generation, words)
        else:
            self._tell(generation)

    def _tell(self, generation: int, error: str = "") -> None:
        if self._left:
            return
        with contextlib.suppress(OSError):
            write_state(_told(self.state), {"pid": os.getpid(), "generation": generation, "error": error})


def _told(state: Path) -> Path:
    """What this replica tells the host."""
    return state / "replicas" / f"{os.getpid()}.json"


def living(state: Path) -> list[dict[str, Any]]:
    """What the replicas of this machine told that live."""
    found = []
    for file in (state / "replicas").glob("[0-9]*.json"):
        if not Path("/proc", file.stem).exists():
            file.unlink(missing_ok=True)
            continue
        with contextlib.suppress(FileNotFoundError):
            found.append(read_state(file))
    return found


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced; None where it cannot be looked at."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_mtime_ns, found.st_ino
    return None


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
