"""Monitors that watch whether the world still looks like the reference."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_core import hookimpl


@hookimpl
def mlops_monitor() -> Mapping[str, type]:
    from mlops_drift.drift import Drift

    return {"drift": Drift}
