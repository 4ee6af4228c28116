"""An application answering over HTTP and gRPC on one event loop, as in its process, on free loopback ports."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn

from mlops_core.serving.rpc import Rpc


@contextlib.contextmanager
def answering(app: Any) -> Iterator[tuple[str, str]]:
    """The addresses, HOST:PORT, of HTTP and of gRPC."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="on"))
    rpc, ready = Rpc(app), threading.Event()

    async def run() -> None:
        await rpc.start("127.0.0.1", 0)
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        ready.set()
        await serving
        await rpc.stop(1)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(20) and server.started
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}", f"127.0.0.1:{rpc.port}"
    finally:
        server.should_exit = True
        thread.join()
        app.close()
