"""The options of tuner `ray`: what a search reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from mlops_core.contracts import Goal
from mlops_core.errors import did_you_mean

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Resources:
    """What one trial needs of a machine; with several workers, what each of them needs.

    cpus: processor cores, also a fraction
    gpus: graphics processors, also a fraction (two trials of 0.5 share one)
    memory: main memory to reserve, such as 4GiB; not reserved by default
    workers: processes that fit the model of one trial together, on one machine or on several; each takes a batch of
        its own, so that two with a batch size of 32 learn what one learns with 64
    """

    cpus: Annotated[float, Ge(0)] = 1
    gpus: Annotated[float, Ge(0)] = 0
    memory: str = ""
    workers: Annotated[int, Ge(1)] = 1

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

    trials: points to try in all, or members of a population
    sampler: how points are chosen; auto is Optuna's Gaussian process up to 100 trials of numbers and two objectives,
        its TPE beyond and where there are choices or conditions
    scheduler: asha stops trials that fall behind others at the same step; hyperband is asha in three brackets, each of
        which waits longer before it judges (for curves that cross); median stops what is below the median of the
        others' means up to that step; none lets each run to its end; auto is asha for one objective and none for
        several: who is behind in the metric may be the best in another; pbt is population based training: `trials`
        members are fitted side by side, in legs of `interval` steps; who is among the worst quarter at the end of a leg
        goes on from the checkpoint of one of the best, with parameters near its; for trainers that can go on with other
        values (lightning, xgboost, lightgbm), whose own end (epochs, rounds) ends a member
    interval: steps of a leg, for pbt
    changes: the parameters that pbt may change on the way, as trainer.lr; by default all with which the trainer can go
        on. The others stay with the weights that they made
    grace: steps (epochs, rounds) that a scheduler leaves every trial
    reduction: asha and hyperband let the best of this many go on at each rung
    points: values per continuous dimension, for sampler grid
    concurrency: trials at the same time; 0 is as many as the resources allow
    resources: what one trial needs
    time_budget: when to stop the search, such as 10m or 2h, or seconds; no limit by default
    cost: GPU time that all trials together may use, such as 8h (eight hours on one GPU, or one on eight), and core
        time where a trial asks for no GPU; counts on where a killed search goes on; no limit by default
    patience: finished trials in a row without a better score, or of several objectives a new point of the front,
        after which no more are begun; 0 is no limit. It is the rule of optuna.terminator.BestValueStagnationEvaluator;
        Optuna's bound on the regret (Makarova et al. 2022) says more of a space without conditions, but wants the error
        of the metric itself, by cross-validation
    trial_timeout: how long one trial may take, such as 10m; its process is then killed and it has failed, without
        another try; its output.log says where it stood; no limit by default
    warm_start: true teaches the sampler the trials of the last search of this name that are points of this space too,
        and tries the best of them in each objective first
    max_failures: how often a trial that fails is tried again
    preload: modules that workers import while they start, such as torch
    address: local, auto, or host:port of a Ray cluster
    """

    trials: Annotated[int, Ge(1)] = 16
    sampler: Literal["auto", "optuna", "random", "grid"] = "auto"
    scheduler: Literal["auto", "asha", "hyperband", "median", "pbt", "none"] = "auto"
    interval: Annotated[int, Ge(1)] = 5
    changes: tuple[str, ...] = ()
    grace: Annotated[int, Ge(1)] = 5
    reduction: Annotated[float, Gt(1)] = 3
    points: Annotated[int, Ge(1)] = 5
    concurrency: Annotated[int, Ge(0)] = 0
    resources: Resources = field(default_factory=Resources)
    time_budget: str | float | None = None
    cost: str | float | None = None
    patience: Annotated[int, Ge(0)] = 0
    trial_timeout: str | float | None = None
    warm_start: bool = False
    max_failures: Annotated[int, Ge(0)] = 2
    preload: tuple[str, ...] = ()
    address: str = "local"

    def __post_init__(self) -> None:
        if self.warm_start and self.sampler in ("random", "grid"):
            raise ValueError(f"warm_start teaches a sampler, and sampler {self.sampler!r} learns nothing")
        for option in ("time_budget", "cost", "trial_timeout"):
            seconds = self.seconds(option)
            if seconds is not None and seconds <= 0:
                raise ValueError(f"{option} must be more than nothing, got {getattr(self, option)!r}")

    def legs(self) -> str:
        """See `mlops_core.stages.Tuner`."""
        return "scheduler" if self.scheduler == "pbt" else ""

    def refuses(self, goal: Goal) -> dict[str, str]:
        """See `mlops_core.stages.Tuner`."""
        if self.legs():
            return dict(self._beside_pbt(goal))
        if not goal.objectives or self.scheduler in ("auto", "none"):
            return {}
        words = f"{self.scheduler} stops trials that are behind in {goal.metric}, which may be the best in"
        return {"scheduler": f"{words} {', '.join(goal.objectives)}; take it out, or write none"}

    def _beside_pbt(self, goal: Goal) -> Iterator[tuple[str, str]]:
        if goal.objectives:
            words = f"pbt copies who is the best in {goal.metric}, which may be behind in"
            yield "scheduler", f"{words} {', '.join(goal.objectives)}; take it out, or write none"
        if self.trials < 2:
            yield "trials", "pbt wants two members at least, who learn from each other"
        if self.sampler == "grid":
            yield "sampler", "pbt leaves the points of a grid; take random, or leave it out"
        if self.resources.workers > 1:
            yield "resources.workers", f"pbt fits with one worker a trial, got {self.resources.workers}"
        wrong = [name for name in self.changes if name not in goal.changes] if goal.changes else []
        if wrong:
            yield "changes", f"{wrong[0]} cannot change on the way of a trial; {did_you_mean(wrong[0], goal.changes)}"

    def seconds(self, option: str = "time_budget") -> float | None:
        """A limit in seconds."""
        value = getattr(self, option)
        if not isinstance(value, str):
            return None if value is None else float(value)
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", value)
        if not parts or re.sub(r"[\d.\s]|[smhd]", "", value):
            raise ValueError(f"{option} must be a time such as 90s, 10m or 1h30m, got {value!r}")
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
