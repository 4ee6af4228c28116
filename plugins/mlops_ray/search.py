"""The options of tuner `ray`: what a search reads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Resources:
    """What one trial needs of a machine.

    cpus: processor cores, also a fraction
    gpus: graphics processors, also a fraction (two trials of 0.5 share one)
    memory: main memory to reserve, such as 4GiB; not reserved by default
    """

    cpus: Annotated[float, Ge(0)] = 1
    gpus: Annotated[float, Ge(0)] = 0
    memory: str = ""

    def __post_init__(self) -> None:
        self.bytes()

    def bytes(self) -> int:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", self.memory or "0", re.I)
        if not found:
            raise ValueError(f"memory must be a size such as 4GiB, got {self.memory!r}")
        return int(float(found[1]) * _BYTES[found[2].upper()])


@dataclass(frozen=True)
class Search:
    """Searches with Ray Tune: trials in parallel, poor ones stopped early, dead ones retried.

    Ray is started for the search and stopped after it, without dashboard, telemetry or open ports. Finished
    trials are kept, so a killed search continues where it was and repeats none of them; a retried trial finds
    the checkpoints that its trainer left. The output of each trial is in output.log of its folder.

    trials: points to try in all
    sampler: how points are chosen; auto is Optuna's Gaussian process up to 100 trials, its TPE beyond and where
        dimensions have conditions
    scheduler: asha stops trials that fall behind others at the same step; none lets each run to its end
    grace: steps (epochs, rounds) that asha leaves every trial
    reduction: asha lets the best of this many go on at each rung
    points: values per continuous dimension, for sampler grid
    concurrency: trials at the same time; 0 is as many as the resources allow
    resources: what one trial needs
    time_budget: when to stop the search, such as 10m or 2h, or seconds; no limit by default
    max_failures: how often a trial that fails is tried again
    preload: modules that workers import while they start, such as torch
    address: local, auto, or host:port of a Ray cluster
    """

    trials: Annotated[int, Ge(1)] = 16
    sampler: Literal["auto", "optuna", "random", "grid"] = "auto"
    scheduler: Literal["asha", "none"] = "asha"
    grace: Annotated[int, Ge(1)] = 5
    reduction: Annotated[float, Gt(1)] = 3
    points: Annotated[int, Ge(1)] = 5
    concurrency: Annotated[int, Ge(0)] = 0
    resources: Resources = field(default_factory=Resources)
    time_budget: str | float | None = None
    max_failures: Annotated[int, Ge(0)] = 2
    preload: tuple[str, ...] = ()
    address: str = "local"

    def __post_init__(self) -> None:
        seconds = self.seconds()
        if seconds is not None and seconds <= 0:
            raise ValueError(f"time_budget must be more than nothing, got {self.time_budget!r}")

    def seconds(self) -> float | None:
        """The time budget in seconds."""
        if not isinstance(self.time_budget, str):
            return self.time_budget
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", self.time_budget)
        if not parts or re.sub(r"[\d.\s]|[smhd]", "", self.time_budget):
            raise ValueError(f"time_budget must be a time such as 90s, 10m or 1h30m, got {self.time_budget!r}")
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
