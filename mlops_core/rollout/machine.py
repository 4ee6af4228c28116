"""What follows from what was seen: a step, an end, or nothing. Pure: a rollout and a look give a decision."""

from __future__ import annotations

import math
from typing import Any

from mlops_core.contracts import Rollout, plain, record
from mlops_core.rollout.plan import RolloutKeys, planned
from mlops_core.rollout.shares import CANDIDATE
from mlops_core.rollout.watch import Look


@record
class Decision:
    """A transition: the event's name, the state and step after it, why, and the version to promote (0: none)."""

    event: str
    state: str
    step: int
    reason: str
    champion: int = 0


def decide(rollout: Rollout, look: Look) -> Decision | None:
    """The transition that is due, or None. Harm ends a rollout in whatever state it is; a paused one takes no step,
    a waiting one is for a person to end."""
    harm = [f"{arm}: {f.words}" for arm, found in look.findings.items() for f in found if f.state == "harm"]
    if harm:
        return Decision(event="rolled_back", state="rolled_back", step=rollout.step, reason="; ".join(harm))
    if rollout.state != "running":
        return None
    plan = planned(rollout.plan)
    if plan.strategy == "ab":
        return _won(rollout, plan, look)
    enough = _enough(rollout, plan, look)
    if not enough:
        return None
    if plan.strategy == "canary" and rollout.step + 1 < len(plan.steps):
        reason = f"{enough}: on to {plan.steps[rollout.step + 1].weight:g} %"
        return Decision(event="step", state="running", step=rollout.step + 1, reason=reason)
    if plan.strategy == "shadow" and plan.then == "hold":
        return Decision(event="waiting", state="waiting", step=rollout.step, reason=enough)
    return _promoted(rollout, rollout.candidate, enough)


def _enough(rollout: Rollout, plan: RolloutKeys, look: Look) -> str:
    """In words what was seen, where it is as much as declared; else ''."""
    needed: tuple[int, float] = {
        "canary": lambda: (plan.steps[rollout.step].requests, plan.steps[rollout.step].seconds),
        "blue_green": lambda: (plan.hold.requests, plan.hold.seconds),
        "shadow": lambda: (plan.requests, 0.0),
    }[plan.strategy]()
    requests = look.requests.get(CANDIDATE, 0)
    if requests < needed[0] or look.seconds < needed[1]:
        return ""
    found = [f for f in look.findings.get(CANDIDATE, ()) if f.guard.kind != "metric"]
    if plan.evidence == "safe" and any(f.state != "safe" for f in found):
        return ""
    safe = [f.guard.kind for f in found if f.state == "safe"]
    proven = f", {' and '.join(safe)} proven safe" if safe else ""
    return f"{requests:,} requests in {look.seconds:.0f} s and no guard is broken{proven}"


def _won(rollout: Rollout, plan: RolloutKeys, look: Look) -> Decision | None:
    if not look.winner:
        return None
    best = next(s for s in look.standings if s.arm == look.winner)
    reason = f"arm {best.arm} has won: loss {best.loss:.4f} [{best.low:.4f}, {best.high:.4f}] over {best.rows:,} rows"
    reason += f", wrongly with probability {best.error:.2g} at most"
    if plan.on_winner == "hold":
        return Decision(event="waiting", state="waiting", step=rollout.step, reason=reason)
    version = rollout.arms[best.arm]
    if version == rollout.stable:
        return Decision(event="rolled_back", state="rolled_back", step=rollout.step, reason=reason)
    return _promoted(rollout, version, reason)


def _promoted(rollout: Rollout, version: int, reason: str) -> Decision:
    return Decision(event="promoted", state="promoted", step=rollout.step, reason=reason, champion=version)


def evidence(look: Look) -> dict[str, Any]:
    """What was seen as plain numbers for the audit log: no features, no prediction of anybody."""
    found = {arm: [_facts(plain(f)) for f in findings] for arm, findings in look.findings.items()}
    standings = [_finite(plain(s)) for s in look.standings]
    counts = {"seconds": round(look.seconds, 3), "requests": dict(look.requests), "failures": dict(look.failures)}
    return {"weights": dict(look.weights), **counts, "labels": look.labels, "findings": found, "standings": standings}


def _facts(finding: dict[str, Any]) -> dict[str, Any]:
    return _finite({**finding.pop("guard"), **finding})


def _finite(facts: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}
