"""Who answers how much while a rollout goes on."""

from __future__ import annotations

from typing import Literal

from mlops_core.contracts import Rollout, record
from mlops_core.rollout.plan import planned

STABLE, CANDIDATE = "stable", "candidate"


@record
class Share:
    """One version's part of the traffic."""

    version: int
    weight: float
    role: Literal["stable", "candidate", "shadow", "warm"]
    arm: str = ""


def shares(rollout: Rollout) -> tuple[Share, ...]:
    """Who answers how much at this step of the rollout, the stable version first."""
    plan, stable, candidate = planned(rollout.plan), rollout.stable, rollout.candidate
    if rollout.strategy == "canary":
        weight = plan.steps[rollout.step].weight
        return (
            Share(version=stable, weight=100 - weight, role="stable"),
            Share(version=candidate, weight=weight, role="candidate"),
        )
    if rollout.strategy == "blue_green":
        return (
            Share(version=candidate, weight=100.0, role="stable"),
            Share(version=stable, weight=0.0, role="warm"),
        )
    if rollout.strategy == "shadow":
        return (
            Share(version=stable, weight=100.0, role="stable"),
            Share(version=candidate, weight=0.0, role="shadow"),
        )
    weights = {a.name: a.weight for a in plan.arms}
    found = [
        Share(version=v, weight=weights[name], role="stable" if v == stable else "candidate", arm=name)
        for name, v in rollout.arms.items()
    ]
    return tuple(sorted(found, key=lambda s: s.version != stable))


def arms(rollout: Rollout) -> dict[int, str]:
    """Version -> the name of its arm."""
    if rollout.arms:
        return {version: name for name, version in rollout.arms.items()}
    return {rollout.stable: STABLE, rollout.candidate: CANDIDATE}
