"""The process of a one-process endpoint: `python -m mlops_core.serving.host STATE --socket FD --ready FD`.

It serves what `STATE/desired.json` says on the socket it was given, and tells in `STATE/actual.json` what it
serves. SIGHUP: read desired.json again and change in place. SIGTERM: finish the requests under way, write the
log, end. It holds `STATE/host.lock` while it lives, so that nobody takes a recycled process id for it.

    desired.json   {generation, process: {host, port, ...}, limits, serving}       written by the deployer
    actual.json    {generation, serving, failed: {generation, error} | null}  written here
    host.json      {pid, host, port, url}                                     written here
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import signal
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from mlops_core.contracts import Serving, restore
from mlops_core.errors import MlopsError
from mlops_core.serving.app import App, create_app
from mlops_core.serving.ports import bind
from mlops_core.serving.reach import tls_files
from mlops_core.serving.renewal import Pair
from mlops_core.serving.requests import Receive, Scope, Send
from mlops_core.serving.rpc import Rpc
from mlops_core.serving.state import hold, read_state, write_state

DRAIN_SECONDS = 10
log = logging.getLogger("mlops_core.serving")


class Host:
    """Keeps an `App` equal to desired.json. Itself an ASGI application: the app, with a beginning and an end."""

    def __init__(self, state: Path, ready: int) -> None:
        self.state = state
        self.ready = ready
        desired = read_state(state / "desired.json")
        self.generation = desired["generation"]
        self.serving = desired["serving"]
        self.app: App = create_app(wanted(desired))
        self.process = desired["process"]
        self.rpc = Rpc(self.app)
        self.server: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._switching = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._listen()
            self._begin(asyncio.get_running_loop())
            receive = functools.partial(self._last, receive)
        await self.app(scope, receive, send)

    def run(self, *listening: socket.socket) -> None:
        """Serves until SIGTERM."""
        import uvicorn

        from mlops_core.serving.wire import WholeAnswers

        config = uvicorn.Config(
            self,
            http=WholeAnswers,
            ssl_certfile=self.process.get("tls_cert"),
            ssl_keyfile=self.process.get("tls_key"),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        config.load()
        if config.ssl and (files := tls_files(self.process)):
            Pair(*files).keep(config.ssl)
        self.server = uvicorn.Server(config)
        self.server.run(sockets=list(listening))
        self.app.close()

    async def _listen(self) -> None:
        """Beside HTTP, for gRPC, where that is declared."""
        if self.process.get("grpc_port") is None:
            return
        try:
            await self.rpc.start(self.process["host"], self.process["grpc_port"], tls_files(self.process))
        except MlopsError as error:
            say(self.ready, str(error))
            raise

    async def _last(self, receive: Receive) -> MutableMapping[str, Any]:
        """gRPC ends before the application does."""
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await self.rpc.stop(DRAIN_SECONDS)
        return message

    def tell(self, failed: dict[str, Any] | None = None) -> None:
        write_state(
            self.state / "actual.json", {"generation": self.generation, "serving": self.serving, "failed": failed}
        )

    async def switch(self) -> None:
        """Makes the app as desired.json says now; where that fails, everything stays and actual.json says why."""
        async with self._switching:
            generation = self.generation
            try:
                desired = read_state(self.state / "desired.json")
                generation = desired["generation"]
                await asyncio.get_running_loop().run_in_executor(None, self.app.apply, wanted(desired))
            except Exception as error:
                log.error("generation %s refused: %s", generation, error)
                self.tell({"generation": generation, "error": _words(error)})
                return
            self.generation, self.serving = generation, desired["serving"]
            self._be_patient()
            self.tell()

    def _be_patient(self) -> None:
        from mlops_core.serving.wire import WholeAnswers

        WholeAnswers.seconds = self.app.serving.request_timeout

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listens to signals, and only then says that it is ready: a deployer may send one at once."""
        loop.add_signal_handler(signal.SIGHUP, self._changed)
        loop.add_signal_handler(signal.SIGTERM, self._drain)
        loop.add_signal_handler(signal.SIGINT, self._drain)
        self._be_patient()
        self.tell()
        say(self.ready, "ready")

    def _changed(self) -> None:
        task = asyncio.get_running_loop().create_task(self.switch())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _drain(self) -> None:
        self.app.draining = True
        self.server.should_exit = True


def wanted(desired: dict[str, Any]) -> Serving:
    """The `Serving` of a desired.json, within the limits of the process."""
    serving, limits = restore(Serving, desired["serving"]), desired["limits"]
    return dataclasses.replace(
        serving,
        auth="none" if limits.get("auth") == serving.auth == "none" else "keys",
        replicas=limits.get("replicas", serving.replicas),
        request_timeout=limits.get("request_timeout", serving.request_timeout),
        access_log=limits.get("access_log", serving.access_log),
        threads=max(1, int(limits.get("cpus", serving.threads))),
        batching=limits.get("batching") or serving.batching,
        max_rows=min(serving.max_rows, limits["max_rows"]),
        max_bytes=min(serving.max_bytes, limits["max_bytes"]),
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("state", type=Path)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--ready", type=int, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with hold(given.state / "host.lock"):
        return _serve(given.state, socket.socket(fileno=given.socket), given.ready)


def _serve(state: Path, listening: socket.socket, ready: int) -> int:
    process = read_state(state / "desired.json")["process"]
    write_state(state / "host.json", {"pid": os.getpid(), **process})
    sockets = [listening]
    try:
        host = Host(state, ready)
        if admin := process.get("admin_port"):
            sockets.append(bind(process["admin_host"], admin, state))
            host.app.at_admin = lambda scope: bool(scope["server"][1] == admin)
            host.app.apart = process["apart"]
    except MlopsError as error:
        log.error("%s", error)
        say(ready, str(error))
        return error.exit_code
    host.run(*sockets)
    return 0


def say(ready: int, text: str) -> None:
    """The deployer that started this process waits at the other end of this pipe, if it still lives."""
    with contextlib.suppress(BrokenPipeError), os.fdopen(ready, "w") as pipe:
        pipe.write(text)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    raise SystemExit(main())
