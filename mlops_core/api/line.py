"""The line from data to endpoint: what is due, and doing it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.api.opening import Waiting, opened, places, watched
from mlops_core.api.rollouts import drive
from mlops_core.plan import Plan

if TYPE_CHECKING:
    from mlops_core.flow import Finished


def plan(project: Path, overrides: Sequence[str] = ()) -> Plan:
    """What `run` would do and why; changes nothing."""
    from mlops_core.plan import plan as compute

    with opened(project, overrides, data=True) as context:
        return compute(context, places(project, overrides, context.workspace.plugins))


def run(
    project: Path,
    overrides: Sequence[str] = (),
    *,
    cause: str = "manual",
    until: str = "",
    observers: Iterable[Any] = (),
    waiting: Waiting = None,
) -> Finished:
    """Makes reality equal to the declaration; see `mlops_core.flow.run` for what it gives and raises."""
    from mlops_core.flow import keeping
    from mlops_core.flow import run as close

    with opened(project, overrides, data=True) as context:
        watched(context, observers)
        keeping.tidy(context)
        try:
            return close(context, cause, until, waiting)
        finally:
            drive(context)
