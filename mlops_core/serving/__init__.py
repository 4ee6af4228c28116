"""What a deployer is handed: load sealed models, validate a request, choose a version, predict, log the answer.

`create_app(serving)` gives one ASGI application that every host runs alike: uvicorn in one process, a Ray
Serve replica, a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_core.serving.app import App as App
    from mlops_core.serving.app import create_app as create_app

__all__ = ["App", "create_app"]


def __getattr__(name: str) -> Any:
    """Loaded when used: a deployer that only reads its state needs neither numpy nor orjson."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlops_core.serving import app

    return getattr(app, name)
