"""The short way of a request through a replica: from its HTTP server straight to the application.

Serve's own way makes a task, a metadata record, two ids, a line of log, and counts for each request; the application
does all of that itself, for less. What Serve decides by is kept: how many requests are under way (it scales by them,
and drains until there are none) and how many may be at once (`max_ongoing_requests`; more wait).

Serve asks for this module as its middleware (RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH); the two counters are private
parts of a replica of Ray 2.60. Where they are not found, requests go Serve's way.
"""

from __future__ import annotations

import logging
from typing import Any

from mlops_ray.front import DOOR

SERVES_OWN = "/-/"
log = logging.getLogger("mlops_ray")


class Shortcut:
    """An ASGI middleware: what it does not answer goes on to Serve."""

    def __init__(self, app: Any) -> None:
        self.app = app
        replica = getattr(getattr(app, "_app", None), "__self__", None)
        self.slots: Any = getattr(replica, "_semaphore", None)
        self.counter: Any = getattr(replica, "_metrics_manager", None)
        self.known = self.slots is not None and hasattr(self.counter, "_num_ongoing_requests")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self.known or DOOR.app is None or scope["type"] != "http" or scope["path"].startswith(SERVES_OWN):
            await self.app(scope, receive, send)
            return
        await self.slots.acquire()
        self.counter._num_ongoing_requests += 1
        try:
            await DOOR.app(scope, receive, send)
        finally:
            self.counter._num_ongoing_requests -= 1
            self.slots.release()


def middlewares() -> list[Any]:
    """What Serve calls in each process that opens an HTTP port: replicas and proxies."""
    from starlette.middleware import Middleware

    return [Middleware(Shortcut)]
