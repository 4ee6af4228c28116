"""Rollouts made so: begun after a proof, moved on by evidence or by a person, ended; the endpoint follows each time.

The ledger comes first: a process killed between a transition and the endpoint leaves what the next apply makes true.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from mlops_core.contracts import Endpoint, Rollout, plain
from mlops_core.errors import MlopsError, ServingError, UsageError, did_you_mean
from mlops_core.flow import deploying, keeping
from mlops_core.flow.context import Context
from mlops_core.flow.proving import CHALLENGER, CHAMPION, PREVIOUS, gradual
from mlops_core.ledger import whoami
from mlops_core.rollout.plan import RolloutKeys, planned, told

Verb = Literal["pause", "resume", "promote", "abort"]
VERBS: tuple[Verb, ...] = ("pause", "resume", "promote", "abort")


def traffic(context: Context, waiting: Callable[[str], None] | None = None) -> contextlib.AbstractContextManager[None]:
    """One process at a time moves the traffic of a project. A run that trains does not hold it: a rollback need
    not wait for it."""
    return context.workspace.ledger.lock(f"{context.declaration.name}@traffic", waiting)


def active(context: Context) -> Rollout | None:
    """The rollout under way."""
    found = context.workspace.ledger.rollout(context.declaration.name)
    return found if found and found.active else None


def pending(context: Context) -> int | None:
    """The version that has passed its gate and waits for its traffic."""
    aliases = context.workspace.ledger.aliases(context.declaration.name)
    challenger, running = aliases.get(CHALLENGER), active(context)
    if challenger in (None, aliases.get(CHAMPION)) or (running and running.candidate == challenger):
        return None
    return challenger


def settle(context: Context) -> None:
    """Ends a rollout whose champion is none any more, as when the next version took all at once."""
    running = active(context)
    champion = context.workspace.ledger.aliases(context.declaration.name).get(CHAMPION)
    if running and champion != running.stable:
        supersede(context, running, f"version {champion} was made champion")


def deploy(context: Context) -> Endpoint | None:
    """Begins the rollout of the version that waits; without steps, it is champion at once."""
    candidate = pending(context)
    if candidate is None:
        return None
    reason = f"version {candidate} passed its gate"
    if gradual(context):
        return begin(context, candidate, reason)[1]
    name, ledger = context.declaration.name, context.workspace.ledger
    deploying.fit(context, ledger.version(name, candidate))
    moves = {CHAMPION: candidate, PREVIOUS: ledger.aliases(name).get(CHAMPION), CHALLENGER: None}
    ledger.set_aliases(name, moves, actor=whoami(), reason=reason)
    return None


def begin(context: Context, candidate: int, reason: str) -> tuple[Rollout, Endpoint]:
    """Proves the version and gives it its first share; a rollout under way is superseded.

    Raises UsageError where that one is paused or the version was rejected, ServingError where the proof fails or
    the endpoint cannot be made so: then the traffic is as it was.
    """
    name, ledger = context.declaration.name, context.workspace.ledger
    running, stable = active(context), ledger.aliases(name)[CHAMPION]
    if running and running.state == "paused":
        raise UsageError(
            f"the rollout of version {running.candidate} is paused, so version {candidate} waits; "
            "'mlops rollout resume' or 'abort' first, then 'mlops run'"
        )
    plan = planned(context.declaration.rollout)
    arms = _arms(context, plan, stable, candidate) if plan.strategy == "ab" else {}
    proven = {}
    for version in {candidate, *arms.values()} - {stable}:
        proven[str(version)] = prove(context, version)
        _refuse_unlike(context, stable, version)
    if running:
        supersede(context, running, f"version {candidate} comes in its place")
    rollout = Rollout(
        name=name,
        strategy=plan.strategy,
        stable=stable,
        candidate=candidate,
        state="running",
        reason=reason,
        id=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}",
        since=time.time(),
        plan=plain(plan),
        arms=arms,
        overrides=context.overrides,
    )
    facts = {"plan": told(plan), "replayed rows": proven}
    rollout = _transit(context, "begun", rollout, {CHALLENGER: candidate}, f"{told(plan)}; {reason}", facts)
    try:
        return rollout, _applied(context, reason)
    except MlopsError as error:
        with contextlib.suppress(MlopsError):
            _end(context, rollout, "rolled_back", f"the endpoint could not be made so: {error}", {})
            _applied(context, "rolled back")
        raise


def prove(context: Context, number: int) -> int:
    """How many logged rows an accepted version answered, after its bundle and its smoke set were found in order.
    Raises UsageError for a rejected version, ServingError with what is wrong."""
    from mlops_core.rollout.proof import proof

    d, workspace = context.declaration, context.workspace
    version = workspace.ledger.version(d.name, number)
    if version.status != "accepted":
        why = "; ".join(version.reasons)
        raise UsageError(f"version {number} was rejected by its gate ({why}); only an accepted one can be rolled out")
    deploying.fit(context, version)
    bundle, log = workspace.home("bundles", version.model.artifact), workspace.state / "serve" / d.name / "log"
    wrong, rows = proof(bundle, version.model.digest, log, trust=d.trust)
    if wrong:
        raise ServingError(f"version {number} gets no traffic: {wrong}; the endpoint goes on as it was")
    return rows


def move(
    context: Context,
    rollout: Rollout,
    event: str,
    *,
    state: str,
    step: int,
    reason: str,
    facts: Mapping[str, Any],
    champion: int = 0,
    actor: str = "",
) -> Rollout:
    """One transition and the endpoint after it. `champion`: the version that is promoted, 0 for none."""
    back = 0 if champion or state not in ("rolled_back", "aborted") else rollout.stable
    if champion or back:
        if champion:
            deploying.fit(context, context.workspace.ledger.version(rollout.name, champion))
        moved = _end(context, rollout, event, reason, facts, state=state, champion=champion, actor=actor)
    else:
        since = time.time() if step != rollout.step else rollout.since
        changed = dataclasses.replace(rollout, state=state, step=step, since=since, reason=reason)
        moved = _transit(context, event, changed, {}, reason, facts, actor)
    if event not in ("paused", "resumed", "waiting") and context.workspace.ledger.desired(moved.name):
        _applied(context, f"rollout {event}: {reason}", back)
    return moved


def steer(context: Context, verb: str, reason: str = "", facts: Mapping[str, Any] | None = None) -> Rollout:
    """What a person wants of the rollout under way. Raises UsageError where there is none, or it cannot be."""
    if verb not in VERBS:
        raise UsageError(f"rollout: unknown verb {verb!r}; {did_you_mean(verb, ('status', *VERBS))}")
    rollout = active(context)
    if rollout is None:
        raise UsageError(f"no rollout is under way, so there is nothing to {verb}; 'mlops run' begins one")
    states = {"pause": ("running",), "resume": ("paused", "waiting")}.get(verb, (rollout.state,))
    if rollout.state not in states:
        raise UsageError(f"the rollout of version {rollout.candidate} is {rollout.state}; it cannot {verb} now")
    event, state = {
        "pause": ("paused", "paused"),
        "resume": ("resumed", "running"),
        "promote": ("promoted", "promoted"),
        "abort": ("aborted", "aborted"),
    }[verb]
    return move(
        context,
        rollout,
        event,
        state=state,
        step=rollout.step,
        reason=reason or "by hand",
        facts=facts or {},
        champion=rollout.candidate if verb == "promote" else 0,
    )


def supersede(context: Context, rollout: Rollout, reason: str) -> None:
    """Ends a rollout because another version takes its place; the endpoint is the caller's to change."""
    _end(context, rollout, "superseded", reason, {})


def watched(context: Context, rollout: Rollout) -> Any:
    """The eye on a rollout's step; see `mlops_core.rollout.watch.Watch`."""
    from mlops_core.rollout.watch import Watch

    d, ledger = context.declaration, context.workspace.ledger
    found = ledger.version(d.name, rollout.stable).evaluation.metrics.get("rmse")
    scale = 4 * found.value if found else 1.0  # four standard errors of the stable version are a whole loss
    return Watch(rollout, _folder(context) / "log", d.metric, scale)


def held(context: Context) -> Path:
    """The lock that the driver of this project's rollouts holds while it lives."""
    return _folder(context) / "driver.lock"


def _folder(context: Context) -> Path:
    return context.workspace.state / "serve" / context.declaration.name


def _end(
    context: Context,
    rollout: Rollout,
    event: str,
    reason: str,
    facts: Mapping[str, Any],
    *,
    state: str = "",
    champion: int = 0,
    actor: str = "",
) -> Rollout:
    moves: dict[str, int | None] = {}
    if champion:
        moves = {CHAMPION: champion, PREVIOUS: rollout.stable}
    if context.workspace.ledger.aliases(rollout.name).get(CHALLENGER) == rollout.candidate:
        moves[CHALLENGER] = None
    ended = dataclasses.replace(rollout, state=state or event, reason=reason)
    return _transit(context, event, ended, moves, reason, facts, actor)


def _transit(
    context: Context,
    event: str,
    rollout: Rollout,
    moves: Mapping[str, int | None],
    reason: str,
    facts: Mapping[str, Any],
    actor: str = "",
) -> Rollout:
    facts = {"step": rollout.step + 1, **facts}
    ledger = context.workspace.ledger
    moved = ledger.transit(event, rollout, moves=moves, actor=actor or whoami(), reason=reason, facts=facts)
    keeping.follow(context, moved)
    context.tell("mlops_rollout", rollout=moved)
    return moved


def _refuse_unlike(context: Context, stable: int, candidate: int) -> None:
    """Predictions of another kind cannot be held against each other."""
    before, after = _predicts(context, stable), _predicts(context, candidate)
    if before != after:
        raise UsageError(
            f"version {candidate} predicts {after}, and version {stable} {before}: they cannot be compared; "
            f"'mlops versions promote {candidate} --now' skips the rollout"
        )


def _predicts(context: Context, number: int) -> str:
    version = context.workspace.ledger.version(context.declaration.name, number)
    deploying.fit(context, version)
    manifest = context.workspace.home("bundles", version.model.artifact) / "manifest.json"
    signature = json.loads(manifest.read_bytes())["signature"]
    return f"{signature['target']!r} ({signature['task']})"


def _applied(context: Context, reason: str, back: int = 0) -> Endpoint:
    wanted = deploying.desired(context, back=back)
    assert wanted is not None
    return deploying.apply(context, wanted, reason)


def _arms(context: Context, plan: RolloutKeys, stable: int, candidate: int) -> dict[str, int]:
    aliases = {**context.workspace.ledger.aliases(context.declaration.name), CHALLENGER: candidate}
    found: dict[str, int] = {}
    for arm in plan.arms:
        number = arm.version or aliases.get(arm.alias)
        if number is None:
            raise UsageError(f"rollout.arms: arm {arm.name!r} is the {arm.alias}, and there is none yet")
        if number in found.values():
            raise UsageError(f"rollout.arms: arm {arm.name!r} is version {number}, which another arm is already")
        found[arm.name] = number
    return found


@contextlib.contextmanager
def alone(context: Context, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """The project's lock and its traffic's: for what changes champions by hand."""
    with context.workspace.ledger.lock(context.declaration.name, waiting), traffic(context, waiting):
        yield
