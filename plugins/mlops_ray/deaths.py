"""Why a trial failed, in words. Imported only while a search runs."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray  # noqa: TID253 - this module is imported by the search alone
from ray.air.execution._internal.actor_manager import RayActorManager  # noqa: TID253

from mlops_core.errors import TrainingError


class NoMemoryLeft(ray.exceptions.ActorDiedError):  # type: ignore[misc]  # Ray is untyped to us
    """Ray killed a process before the machine ran out of memory."""


@contextlib.contextmanager
def deaths_of_memory() -> Iterator[None]:
    """Lets Tune take what Ray kills for want of memory for the death of one trial.

    Ray 2.60 raises OutOfMemoryError then, which is no RayActorError: Tune would take it for a fault of its own and end
    the whole search.
    """
    before = RayActorManager._actor_task_failed

    def failed(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        out_of_memory = isinstance(exception, ray.exceptions.OutOfMemoryError)
        before(manager, tracked_actor_task, NoMemoryLeft() if out_of_memory else exception)

    RayActorManager._actor_task_failed = failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = before


def reason(trial: Any) -> str:
    """The last failure of a trial, in a line."""
    error = _error(trial)
    cause = getattr(error, "cause", None)
    if isinstance(cause, TrainingError):
        return str(cause)
    if isinstance(error, NoMemoryLeft):
        return "its process was killed, since the machine ran out of memory"
    if isinstance(error, ray.exceptions.ActorDiedError | ray.exceptions.WorkerCrashedError):
        return "its process died (killed, or out of memory)"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "for no reason that ray tells"


def _error(trial: Any) -> Any:
    """The last exception of a trial; Tune writes it down before it tells, but loads it only later."""
    for file, load in ((trial.pickled_error_file, pickle.loads), (trial.error_file, bytes.decode)):
        if file and os.path.exists(file):
            return load(Path(file).read_bytes())
    return ""
