"""What a deployer is handed: load sealed models, validate a request, choose a version, predict, log the answer.

`create_app(serving)` gives one ASGI application that every host runs alike: uvicorn in one process, a Ray
Serve replica, a test.
"""

from __future__ import annotations

from mlops_core.serving.app import App, create_app

__all__ = ["App", "create_app"]
