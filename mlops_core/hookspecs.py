"""Every place to plug in, on one screen.

The first eight hooks offer: name -> class. The core decides which is used, so none is `firstresult`.
The others watch: they are told what happened and change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from mlops_core.contracts import Alert, Rollout, Run, Scores

PROJECT = "mlops_core"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def mlops_data() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Offers data sources by name."""


@hookspec
def mlops_trainer() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Offers trainers by name."""


@hookspec
def mlops_tuner() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Offers tuners by name."""


@hookspec
def mlops_deployer() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Offers deployers by name."""


@hookspec
def mlops_monitor() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Offers monitors by name."""


@hookspec
def mlops_launcher() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Offers launchers by name: they send a project to run on another machine."""


@hookspec
def mlops_observer() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Offers observers by name; the declared ones are built and watch the run."""


@hookspec
def mlops_exporter() -> Mapping[str, type]:  # type: ignore[empty-body]
    """Offers exporters by name."""


@hookspec
def mlops_started(run: Run, stage: str, cause: str, steps: int) -> None:
    """A stage starts; `cause` says why it is due, `steps` how many epochs or trials it has at most (0: unknown)."""


@hookspec
def mlops_finished(run: Run, stage: str, record: Any, skipped: bool) -> None:
    """A stage left `record`; `skipped` where it was there already, intact."""


@hookspec
def mlops_failed(run: Run, stage: str, error: str) -> None:
    """A stage failed, for the reason told to the user."""


@hookspec
def mlops_progress(run: Run, stage: str, step: int, scores: Scores) -> None:
    """A stage got as far as `step` (epoch, trial), with these scores."""


@hookspec
def mlops_alert(alert: Alert) -> None:
    """A monitor judged a window to be an alarm."""


@hookspec
def mlops_rollout(rollout: Rollout) -> None:
    """Traffic moved from one version to another, or back."""
