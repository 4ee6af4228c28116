"""The last stage: the endpoint serves the champion. Reality, not a stored outcome, says whether it is due."""

from __future__ import annotations

from typing import Any

from mlops_core.contracts import Choice, Endpoint, ModelVersion, Rollout, Route, Serving, plain
from mlops_core.errors import ServingError
from mlops_core.flow import signing
from mlops_core.flow.context import Context
from mlops_core.flow.proving import CHAMPION
from mlops_core.ledger import whoami
from mlops_core.privacy import seconds
from mlops_core.rollout.plan import planned
from mlops_core.rollout.shares import Share, shares

NAME = "deploy"


def desired(context: Context, restore: bool = True, back: int = 0) -> Serving | None:
    """What should run: the champion at full weight, or the versions of the rollout under way with their shares; None
    where there is no champion or no deployer.

    Bundles are laid out again where they were lost, and ServingError raised where they cannot be, or are not signed as
    declared; not with `restore=False`, which changes nothing. `back` is a version that answers already and is to go on
    alone: the way back from harm is refused for no signature.
    """
    d, workspace = context.declaration, context.workspace
    number = workspace.ledger.aliases(d.name).get(CHAMPION)
    if d.deployer is None or number is None:
        return None
    rollout = workspace.ledger.rollout(d.name)
    answering: tuple[Share, ...] = (Share(version=number, weight=100.0, role="stable"),)
    options: dict[str, Any] = {k: d.deployer.options[k] for k in ("max_rows", "max_bytes") if k in d.deployer.options}
    options |= {"privacy": d.privacy.get("pii", "drop"), "retention": seconds(d.privacy.get("retention", ""))}
    if rollout and rollout.active:
        plan, answering = planned(rollout.plan), shares(rollout)
        options |= {"sticky": plan.sticky, "salt": rollout.id, "deadline": plan.deadline}
    state = workspace.state / "serve" / d.name
    routes = tuple(_route(context, share, restore, share.version != back) for share in answering)
    return Serving(name=d.name, routes=routes, state=state, log=state / "log", trust=d.trust, **options)


def _route(context: Context, share: Share, restore: bool, verify: bool) -> Route:
    version = context.workspace.ledger.version(context.declaration.name, share.version)
    if restore:
        (fit if verify else lay_out)(context, version)
    return Route(
        version=share.version,
        bundle=context.workspace.home("bundles", version.model.artifact),
        sha256=version.model.digest,
        weight=share.weight,
        role=share.role,
        arm=share.arm,
    )


def fit(context: Context, version: ModelVersion) -> None:
    """Lays the bundle of a version out that is to answer. Raises ServingError where it is lost, or no declared key
    vouches for it."""
    lay_out(context, version)
    signing.verify(context, version)


def lay_out(context: Context, version: ModelVersion) -> None:
    """Lays the bundle of a version out where it was lost. Raises ServingError where it cannot be."""
    if context.workspace.recover("bundles", version.model.artifact) is None:
        raise ServingError(
            f"the bundle of version {version.number} is lost: neither {version.model.path} nor the object store has it "
            "intact"
        )


def actual(context: Context) -> tuple[Endpoint, Serving] | None:
    """What runs now, also where another deployer than the declared one runs it."""
    d = context.declaration
    recorded = context.workspace.ledger.desired(d.name)
    choice = d.deployer
    if recorded and (choice is None or choice.plugin != recorded[0]):
        choice = Choice(plugin=recorded[0])
    if choice is None:
        return None
    found: tuple[Endpoint, Serving] | None = context.build("deployer", choice).actual(
        d.name, context.workspace.state / "serve" / d.name
    )
    return found


def causes(context: Context, wanted: Serving | None) -> dict[str, tuple[Any, Any]]:
    """Why the endpoint is due: key -> (now, wanted). Empty where reality is as declared."""
    d = context.declaration
    if d.deployer is None or wanted is None:
        return {}
    found: dict[str, tuple[Any, Any]] = {}
    recorded = context.workspace.ledger.desired(d.name)
    before = recorded[1].get("deployer", {}) if recorded else {}
    options = context.options("deployer", d.deployer)
    for key in sorted(set(before) | set(options)):
        if recorded and before.get(key) != options.get(key):
            found[key] = (before.get(key), options.get(key))
    now = actual(context)
    if now is None:
        found["endpoint"] = (None, "running")
        return found
    for number, before_weight, after in _differences(now[1], wanted):
        found[f"traffic.version {number}"] = (before_weight, after)
    if not found and plain(now[1]) != plain(wanted):
        found["limits"] = ("other", "as declared")
    return found


def apply(context: Context, wanted: Serving, reason: str = "") -> Endpoint:
    """Makes it so: the desired state is in the ledger first, so that a crash in between is repaired by the next run.
    So are the overrides of the command, by which a rollout's driver declares again what this endpoint is."""
    d, ledger = context.declaration, context.workspace.ledger
    assert d.deployer is not None
    options = context.options("deployer", d.deployer)
    serving = {"serving": plain(wanted), "deployer": options, "overrides": list(context.overrides)}
    recorded = ledger.desired(d.name)
    _stop_other(context, recorded)
    if recorded is None or recorded != (d.deployer.plugin, serving):
        numbers = ", ".join(str(r.version) for r in wanted.routes)
        words = f"serve version {numbers}" + (f": {reason}" if reason else "")
        ledger.desire(d.name, serving, deployer=d.deployer.plugin, actor=whoami(), reason=words)
    tell_keys(context)
    endpoint: Endpoint = context.build("deployer", d.deployer).apply(wanted)
    _tell_rollout(context, recorded, wanted, reason)
    return endpoint


def made_with(context: Context, otherwise: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The overrides of the command that made the endpoint as it is."""
    recorded = context.workspace.ledger.desired(context.declaration.name)
    return tuple(recorded[1].get("overrides", otherwise)) if recorded else ()


def tell_keys(context: Context) -> None:
    """The endpoint's processes know the keys by a file; see `mlops_core.access`."""
    from mlops_core.access import write_keys

    name, ledger = context.declaration.name, context.workspace.ledger
    write_keys(context.workspace.state / "serve" / name, lambda: ledger.keys(name))


def _tell_rollout(context: Context, recorded: tuple[str, dict[str, Any]] | None, wanted: Serving, reason: str) -> None:
    before = [r["version"] for r in recorded[1]["serving"]["routes"]] if recorded else []
    after = [r.version for r in wanted.routes]
    if len(before) == len(after) == 1 and before != after:  # a rollout tells of itself
        rollout = Rollout(
            name=wanted.name,
            strategy="all_at_once",
            stable=before[0],
            candidate=after[0],
            state="done",
            reason=reason,
        )
        context.tell("mlops_rollout", rollout=rollout)


def _stop_other(context: Context, recorded: tuple[str, dict[str, Any]] | None) -> None:
    """An endpoint that another deployer runs under this name goes first: two would share one log and state."""
    d = context.declaration
    if recorded is None or d.deployer is None or recorded[0] == d.deployer.plugin:
        return
    context.build("deployer", Choice(plugin=recorded[0])).stop(d.name, context.workspace.state / "serve" / d.name)


def _differences(now: Serving, wanted: Serving) -> list[tuple[int, float | None, float | None]]:
    before = {r.version: (r.weight, r.sha256) for r in now.routes}
    after = {r.version: (r.weight, r.sha256) for r in wanted.routes}
    return [
        (n, before.get(n, (None,))[0], after.get(n, (None,))[0])
        for n in sorted(set(before) | set(after))
        if before.get(n) != after.get(n)
    ]
