"""What `rollout:` declares. Every key has a default; keys of other strategies than the chosen one are kept, unused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from mlops_core.contracts import restore

Strategy = Literal["all_at_once", "blue_green", "canary", "ab", "shadow"]
ALL_AT_ONCE: Strategy = "all_at_once"
SHARE = "expected a share between 0 and 100 percent"
STICKY = ("header:", "cookie:", "field:")


@dataclass(frozen=True)
class Step:
    """A step of a canary: its share of the requests in percent, and what must have been seen before the next."""

    weight: float
    requests: Annotated[int, Ge(0)] = 500
    seconds: Annotated[float, Ge(0)] = 0.0


@dataclass(frozen=True)
class Latency:
    """The candidate's quantile may be `factor` times the stable version's."""

    quantile: Annotated[float, Gt(0), Lt(1)] = 0.95
    factor: Annotated[float, Gt(0)] = 1.5


@dataclass(frozen=True)
class Guards:
    """How much worse the candidate may be; null takes a guard out.

    errors: difference of the error rates. predictions: distance of the distributions of predictions. metric:
    difference of the mean loss per labelled row, in [0, 1].
    """

    errors: Annotated[float, Ge(0), Lt(1)] | None = 0.01
    latency: Latency | None = field(default_factory=Latency)
    predictions: Annotated[float, Gt(0), Lt(1)] | None = 0.25
    metric: Annotated[float, Ge(0), Lt(1)] | None = 0.05


@dataclass(frozen=True)
class Arm:
    """A version of an experiment, by alias or number, and its share of the callers in percent."""

    name: str
    weight: float
    alias: Literal["", "champion", "challenger", "previous"] = ""
    version: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class Hold:
    """How long the old version stays warm after a blue/green switch: both must be reached."""

    requests: Annotated[int, Ge(0)] = 0
    seconds: Annotated[float, Ge(0)] = 60.0


@dataclass(frozen=True)
class RolloutKeys:
    """The section `rollout`.

    steps: of a canary. alpha: probability that an unharmful candidate is rolled back, over the whole rollout.
    evidence: a canary's step and a shadow's end need no more than that no guard is broken (harmless), or that
    every guard on errors, latency and predictions is proven to hold (safe). sticky: what keeps a caller with one
    version. deadline: seconds that a candidate may take before the stable version answers in its place. arms,
    on_winner: of an A/B. requests, then: of a shadow. hold: of a blue/green switch.
    """

    strategy: Strategy = ALL_AT_ONCE
    steps: tuple[Step, ...] = (Step(5.0), Step(25.0), Step(50.0))
    alpha: Annotated[float, Gt(0), Lt(1)] = 0.05
    evidence: Literal["harmless", "safe"] = "harmless"
    guards: Guards = field(default_factory=Guards)
    sticky: str = ""
    deadline: Annotated[float, Gt(0)] = 0.25
    arms: tuple[Arm, ...] = (Arm("champion", 50.0, "champion"), Arm("challenger", 50.0, "challenger"))
    on_winner: Literal["promote", "hold"] = "promote"
    requests: Annotated[int, Ge(1)] = 1000
    then: Literal["promote", "hold"] = "promote"
    hold: Hold = field(default_factory=Hold)


def planned(declared: Mapping[str, Any]) -> RolloutKeys:
    """The section as a record, every default filled in."""
    return restore(RolloutKeys, declared)


def told(plan: RolloutKeys) -> str:
    """The strategy in words, for 'mlops plan'.

    >>> told(RolloutKeys(strategy="canary"))
    'canary: 5 %, 25 %, 50 % of the requests, then all'
    """
    if plan.strategy == "canary":
        return f"canary: {', '.join(f'{s.weight:g} %' for s in plan.steps)} of the requests, then all"
    if plan.strategy == "blue_green":
        watched = f"{plan.hold.seconds:g} s" + (f" and {plan.hold.requests} requests" if plan.hold.requests else "")
        return f"blue_green: all at once, the old version kept warm for {watched}"
    if plan.strategy == "ab":
        return f"ab: {', '.join(f'{a.name} {a.weight:g} %' for a in plan.arms)}, until one has won ({plan.on_winner})"
    if plan.strategy == "shadow":
        return f"shadow: a copy of {plan.requests} requests, then {plan.then}"
    return "all_at_once"


Wrong = tuple[tuple[str, ...], str, str]  # path, message, what to do


def wrong(declared: Mapping[str, Any]) -> list[Wrong]:
    """What no type says of a section whose keys are of the right types."""
    return [*_steps(declared.get("steps")), *_arms(declared.get("arms")), *_sticky(declared.get("sticky"))]


def _steps(steps: Any) -> list[Wrong]:
    if not _listed(steps):
        return []
    if not steps:
        return [(("steps",), "a canary needs at least one step", "as - {weight: 5, requests: 500}")]
    found: list[Wrong] = []
    before = 0.0
    for i, weight in enumerate(s.get("weight") for s in steps):
        if not isinstance(weight, int | float):
            continue
        at = ("steps", str(i), "weight")
        if not 0 < weight < 100:
            found.append(
                (at, f"expected a share between 0 and 100 percent, got {weight:g}", "all comes after the last")
            )
        elif weight <= before:
            found.append((at, f"shares must rise, and {weight:g} % comes after {before:g} %", ""))
        before = max(before, weight)
    return found


def _arms(arms: Any) -> list[Wrong]:
    if not _listed(arms):
        return []
    found: list[Wrong] = []
    for i, arm in enumerate(arms):
        at = ("arms", str(i))
        if bool(arm.get("alias")) == bool(arm.get("version")):
            found.append((at, "an arm is one version", "give it either alias or version"))
        if isinstance(arm.get("weight"), int | float) and not 0 < arm["weight"] < 100:
            found.append(((*at, "weight"), f"{SHARE}, got {arm['weight']:g}", ""))
        if arm.get("name") in [a.get("name") for a in arms[:i]]:
            found.append(((*at, "name"), f"arm {arm['name']!r} is there twice", ""))
    aliases = [a.get("alias") for a in arms]
    missing = [a for a in ("champion", "challenger") if aliases.count(a) != 1]
    if missing:
        found.append((("arms",), f"expected one arm with alias {missing[0]}", "the winner is sought from both"))
    weights = [a.get("weight") for a in arms]
    if all(isinstance(w, int | float) for w in weights) and abs(sum(weights) - 100) > 1e-6:
        found.append((("arms",), f"weights sum to {sum(weights):g}, expected 100", ""))
    return found


def _sticky(sticky: Any) -> list[Wrong]:
    if not isinstance(sticky, str) or not sticky or (sticky.startswith(STICKY) and sticky.partition(":")[2].strip()):
        return []
    return [(("sticky",), f"{sticky!r} names nothing of a request", "expected header:NAME, cookie:NAME or field:NAME")]


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, Mapping) for v in value)
