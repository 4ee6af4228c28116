"""Which version answers: rollouts, steered by hand or driven; promotion and the way back.

Where these are given no overrides, those of the command that last made the endpoint hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.api.opening import Waiting, as_made, opened, watched
from mlops_core.contracts import Endpoint, Rollout, record
from mlops_core.errors import UsageError
from mlops_core.ledger import whoami

if TYPE_CHECKING:
    from mlops_core.flow.rolling import Verb
    from mlops_core.rollout.watch import Look

CHAMPION, PREVIOUS = "champion", "previous"


@record
class Rolling:
    """The latest rollout, and what its driver saw last (None before the first look); `driven` while it lives."""

    rollout: Rollout
    look: Look | None
    driven: bool


def rollout(project: Path, overrides: Sequence[str] = ()) -> Rolling | None:
    """The latest rollout as it stands; None where there was none. Starts its driver again where that died."""
    with opened(project, overrides) as context:
        return rolling_of(context)


def steer(
    project: Path, verb: Verb, *, reason: str = "", overrides: Sequence[str] = (), waiting: Waiting = None
) -> Rollout:
    """Pauses, resumes, promotes or aborts the rollout under way; the endpoint follows before this returns."""
    from mlops_core.flow import rolling

    with as_made(project, overrides) as context:
        watched(context)
        with rolling.traffic(context, waiting):
            seen = rolling_of(context)
            moved = rolling.steer(context, verb, reason, seen_by(seen.look if seen else None))
        drive(context)
        return moved


def promote(
    project: Path,
    number: int,
    *,
    reason: str,
    now: bool = False,
    overrides: Sequence[str] = (),
    waiting: Waiting = None,
) -> Endpoint | None:
    """Makes an accepted version champion by hand, and the endpoint serve it; a run under way is waited for.

    Where the declaration has a rollout and an endpoint serves another champion, the version gets its traffic by
    that, unless `now`; a rollout under way gives way to it.
    """
    from mlops_core.flow import rolling
    from mlops_core.flow.proving import gradual

    with as_made(project, overrides) as context:
        ledger, name = context.workspace.ledger, context.declaration.name
        chosen = ledger.version(name, number)
        if chosen.status != "accepted":
            why = "; ".join(chosen.reasons)
            raise UsageError(f"version {number} was rejected by its gate ({why}); only an accepted one can be promoted")
        watched(context)
        with rolling.alone(context, waiting):
            before, running = ledger.aliases(name).get(CHAMPION), rolling.active(context)
            if before == number:
                raise UsageError(f"version {number} is the champion already")
            if gradual(context) and not now:
                if running and running.candidate == number:
                    raise UsageError(
                        f"the rollout of version {number} is {running.state}; 'mlops rollout promote' ends it"
                    )
                endpoint = rolling.begin(context, number, reason)[1]
                drive(context)
                return endpoint
            if running and running.candidate == number:
                rolling.steer(context, "promote", reason)
            else:
                if running:
                    rolling.supersede(context, running, f"version {number} was made champion by hand: {reason}")
                _move(context, before, number, reason)
            return redeploy(context, reason)


def rollback(
    project: Path, *, reason: str, overrides: Sequence[str] = (), waiting: Waiting = None
) -> tuple[int, Endpoint | None]:
    """Makes the previous champion champion again, and the endpoint serve it; a run under way is waited for. While a
    rollout is under way, that is aborted, and the champion stays."""
    from mlops_core.flow import rolling

    with as_made(project, overrides) as context:
        ledger, name = context.workspace.ledger, context.declaration.name
        watched(context)
        if rolling.active(context):
            with rolling.traffic(context, waiting):
                stable = rolling.steer(context, "abort", reason).stable
                return stable, redeploy(context, reason, back=stable)
        with rolling.alone(context, waiting):
            aliases = ledger.aliases(name)
            previous, before = aliases.get(PREVIOUS), aliases.get(CHAMPION)
            if previous is None or previous == before:
                raise UsageError("there is no earlier champion to roll back to; see 'mlops versions'")
            _move(context, before, previous, reason)
            return previous, redeploy(context, reason)


def _move(context: Any, before: int | None, after: int, reason: str) -> None:
    from mlops_core.flow import deploying

    deploying.fit(context, context.workspace.ledger.version(context.declaration.name, after))
    moves = {CHAMPION: after} | ({PREVIOUS: before} if before is not None else {})
    context.workspace.ledger.set_aliases(context.declaration.name, moves, actor=whoami(), reason=reason)


def drive(context: Any) -> None:
    """A rollout under way has its driver; one that died is started again."""
    from mlops_core.flow import rolling

    if rolling.active(context):
        from mlops_core.driver import ensure

        ensure(context)


def seen_by(look: Look | None) -> Mapping[str, Any]:
    from mlops_core.rollout.machine import evidence

    return evidence(look) if look else {}


def rolling_of(context: Any) -> Rolling | None:
    from mlops_core.contracts import restore
    from mlops_core.flow import rolling
    from mlops_core.serving.state import is_held, read_state

    latest = context.workspace.ledger.rollout(context.declaration.name)
    if latest is None:
        return None
    drive(context)
    look, lock = None, rolling.held(context)
    with contextlib.suppress(OSError, ValueError):
        seen = read_state(lock.with_name("rollout.json"))
        if (seen["rollout"], seen["step"]) == (latest.id, latest.step):
            from mlops_core.rollout.watch import Look

            look = restore(Look, seen["look"])
    return Rolling(rollout=latest, look=look, driven=is_held(lock))


def redeploy(context: Any, reason: str, back: int = 0) -> Endpoint | None:
    from mlops_core.flow import deploying

    if deploying.actual(context) is None:
        return None
    wanted = deploying.desired(context, back=back)
    return deploying.apply(context, wanted, reason) if wanted else None
