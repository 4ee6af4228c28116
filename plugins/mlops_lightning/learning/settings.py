"""What the optimizers of a fit are told: where it goes on from another's checkpoint, the new values hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Told = list[list[dict[str, Any]]]  # of each optimizer, of each group of parameters
LENGTHS = ("T_max", "total_steps")  # of the schedules of the built-in network
PHASES = "_schedule_phases"  # of OneCycleLR, in its steps


class Settings:
    """Lightning restores an optimizer with the values that it had. What is now told otherwise than it was `before` is
    set again; moments, and how far a schedule is, stay. What is told as before stays as it was, to the bit."""

    def __init__(self) -> None:
        self.before: Told | None = None  # None where there is nothing to hold
        self.now: Told = []
        self._lengths: list[dict[str, Any]] = []

    def told(self, trainer: Any) -> None:
        """Before the checkpoint is restored: what `configure_optimizers` made."""
        self.now = [[_plain(group) for group in optimizer.param_groups] for optimizer in trainer.optimizers]
        self._lengths = [_lengths(scheduler) for scheduler in _schedulers(trainer)]

    def hold(self, trainer: Any) -> None:
        """After it was restored."""
        if self.before is None:
            return
        for optimizer, now, before in zip(trainer.optimizers, self.now, self.before, strict=True):
            for group, new, old in zip(optimizer.param_groups, now, before, strict=True):
                _hold(group, new, old)
        for scheduler, lengths in zip(_schedulers(trainer), self._lengths, strict=True):
            _stretch(scheduler, lengths)
            groups = getattr(scheduler, "optimizer", None)
            if hasattr(scheduler, "base_lrs") and groups is not None:
                scheduler.base_lrs = [g.get("initial_lr", g["lr"]) for g in groups.param_groups]


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in group.items() if isinstance(v, bool | int | float | str | tuple | None)}


def _hold(group: dict[str, Any], now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    group.update({k: v for k, v in now.items() if k != "lr" and before.get(k) != v})
    peak, was = (told.get("initial_lr", told.get("lr")) for told in (now, before))
    if peak is None or peak == was:
        return
    group["lr"] = group["lr"] * peak / was if was else peak  # a schedule has brought it to where it is


def _schedulers(trainer: Any) -> list[Any]:
    return [config.scheduler for config in trainer.lr_scheduler_configs]


def _lengths(scheduler: Any) -> dict[str, Any]:
    return {name: getattr(scheduler, name) for name in (*LENGTHS, PHASES) if hasattr(scheduler, name)}


def _stretch(scheduler: Any, lengths: Mapping[str, Any]) -> None:
    """Another batch size makes another number of steps: it is then as far in the new number as it was in the old."""
    for name in LENGTHS:
        if name in lengths and lengths[name] != getattr(scheduler, name):
            scheduler.last_epoch = round(scheduler.last_epoch * lengths[name] / getattr(scheduler, name))
    vars(scheduler).update(lengths)
