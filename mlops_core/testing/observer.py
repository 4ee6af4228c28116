"""What an observer promises."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from mlops_core import hookspecs
from mlops_core.contracts import KINDS, Alert, Rollout, Run, Verdict, Window
from mlops_core.errors import PluginError
from mlops_core.plugins import Plugins
from mlops_core.testing.promises import BrokenPromise, check_options, inside, nothing_written, promise

RUN = Run(id="0123456789abcdef", name="kit", started="2026-01-01T00:00:00+00:00")


def check_observer(observer: Any, folder: Path) -> None:
    """Checks the observer `observer`: tells it a whole run, with a failure, an alarm and a rollout in it."""
    check_options(observer)
    offers = {f"mlops_{kind}" for kind in KINDS}
    watches = [n for n in vars(hookspecs) if n.startswith("mlops_") and n not in offers]
    here = [n for n in dir(observer) if n.startswith("mlops_")]
    promise(here, f"an observer must have at least one watching hook: {', '.join(watches)}")
    for name in here:
        marked = hasattr(getattr(observer, name), f"{hookspecs.PROJECT}_impl")
        promise(marked, f"method {name!r} must be marked with mlops_core.hookimpl, else nobody calls it")
    plugins = Plugins()
    try:
        plugins.watch([observer])
    except PluginError as error:
        raise BrokenPromise(str(error)) from error
    with inside(folder / "elsewhere") as cwd, nothing_written(cwd, doing="an observer"):
        for hook, facts in _story(folder):
            known = set(inspect.signature(getattr(hookspecs, hook)).parameters)
            promise(known == facts.keys(), f"the kit tells {hook} other facts than its specification has")
            said = plugins.tell(hook, **facts)
            promise(not said, f"an observer must not raise when it is told {hook}: {'; '.join(said)}")


def _story(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    window = Window(endpoint="kit", version=1, start="a", end="b", rows=10, path=folder / "window.parquet")
    verdict = Verdict(
        monitor="drift", state="alarm", scores={"size": 9.0}, limits={"size": 4.0}, reasons=("size rose",)
    )
    return [
        ("mlops_started", {"run": RUN, "stage": "data", "cause": "first time", "steps": 0}),
        ("mlops_finished", {"run": RUN, "stage": "data", "record": {"rows": 10}, "skipped": False}),
        ("mlops_started", {"run": RUN, "stage": "train", "cause": "trainer.lr 0.1 -> 0.2", "steps": 30}),
        ("mlops_progress", {"run": RUN, "stage": "train", "step": 1, "scores": {"auroc": 0.5}}),
        ("mlops_failed", {"run": RUN, "stage": "train", "error": "no disk"}),
        ("mlops_alert", {"alert": Alert(window=window, verdict=verdict)}),
        ("mlops_rollout", {"rollout": Rollout(name="kit", strategy="canary", stable=1, candidate=2, state="5 %")}),
    ]
