"""Declaration against reality: what a run would do, and why, key by key. Changes nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from mlops_core.contracts import record
from mlops_core.flow import STAGES, Context, deploying, rolling, signing
from mlops_core.flow.context import Pending, Stage, key_of
from mlops_core.flow.failing import told
from mlops_core.flow.proving import gradual, refusal
from mlops_core.ledger import Outcome
from mlops_core.rollout.plan import planned
from mlops_core.rollout.plan import told as told_plan

UNKNOWN = "source"  # stands for a source that only reading can tell; what it said before tells nothing
INPUTS = ("input.", "tuned.")
COUNTING = 2.0  # seconds that opening the data and counting its rows may take


@record
class Cause:
    """One key that differs: what it was, what it is declared to be, and where that is written."""

    key: str
    old: Any
    new: Any
    place: str = ""

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        if self.old is None:
            return " ".join(filter(None, [self.key, _shown(self.new)])) + where
        return f"{self.key} {_shown(self.old)} -> {_shown(self.new)}{where}"


@record
class Step:
    """What a run would do with one stage: nothing, restore its output, or perform it."""

    stage: str
    state: Literal["unchanged", "restore", "due"]
    causes: tuple[Cause, ...] = ()
    seconds: float = 0.0  # what it took last time


@record
class Plan:
    """Every step in order. `due` where a run would change something.

    `rejected` says why the declared model is not served: it did not pass its gate, and `run` says so again.
    `chosen` says that another accepted version was made champion by hand, which `run` respects. `rollout` says how
    a new version gets its traffic, or which rollout is under way.
    """

    name: str
    steps: tuple[Step, ...]
    rejected: str = ""
    chosen: str = ""
    rollout: str = ""

    @property
    def due(self) -> bool:
        return any(s.state != "unchanged" for s in self.steps)


def plan(context: Context, places: Callable[[str], str] = lambda key: "") -> Plan:
    """The steps between the declaration and reality. `places(key)` says where a declared value is written."""
    steps: list[Step] = []
    workspace, name = context.workspace, ""
    try:
        for stage in STAGES:
            name = stage.name
            if stage.declared(context):
                steps.append(_step(context, stage, places))
        if any(s.state == "due" for s in steps):
            signing.ready(context)
        name = deploying.NAME
        steps += _deploy(context, steps)
    except Exception as error:  # a plugin's own fault, as when it cannot say what its data are
        raise told(workspace.root, workspace.state, name, error) from error
    gate = context.results.get("gate")
    rejected = refusal(gate) if gate and not gate["passed"] else ""
    return Plan(
        name=context.declaration.name,
        steps=tuple(steps),
        rejected=rejected,
        chosen="" if rejected else _chosen(context),
        rollout=_rollout(context, steps),
    )


def _chosen(context: Context) -> str:
    gate, d = context.results.get("gate"), context.declaration
    aliases, last = context.workspace.ledger.aliases(d.name), context.workspace.ledger.rollout(d.name)
    champion = aliases.get("champion")
    if not gate or champion in (None, gate["number"]) or aliases.get("challenger") == gate["number"]:
        return ""
    number = gate["number"]
    undo = f"'mlops versions promote {number}' ends that"
    if last and last.candidate == number and last.state in ("rolled_back", "aborted"):
        ended = f"its rollout was {last.state.replace('_', ' ')} ({last.reason})"
        return f"version {number} is declared, version {champion} goes on as champion: {ended}; {undo}"
    return f"version {number} is declared, version {champion} is champion by choice; {undo}"


def _rollout(context: Context, steps: list[Step]) -> str:
    """What comes of a new version, or the rollout under way, in words."""
    running = rolling.active(context)
    if running:
        at = f", step {running.step + 1}" if running.strategy == "canary" else ""
        words = told_plan(planned(running.plan))
        return f"version {running.stable} -> {running.candidate}: {words} ({running.state}{at}); see 'mlops rollout'"
    if not gradual(context) or not any(s.state == "due" for s in steps):
        return ""
    candidate, champion = rolling.pending(context), context.workspace.ledger.aliases(context.declaration.name)
    after = f"version {candidate}" if candidate else "the next version"
    return f"version {champion['champion']} -> {after}: {told_plan(planned(context.declaration.rollout))}"


def _step(context: Context, stage: Stage, places: Callable[[str], str]) -> Step:
    workspace, name = context.workspace, context.declaration.name
    ledger = workspace.ledger
    latest = ledger.latest(name, stage.name)
    own = stage.own(context)
    try:
        parts = {**own, **stage.inputs(context)}
    except Pending as missing:  # an earlier stage has no result yet: what it leaves cannot be known
        due = missing.args[0]
        causes = _differences(own, latest, places, known_only=True) if latest else ()
        return Step(
            stage=stage.name, state="due", causes=(*causes, _waits(due)), seconds=latest.seconds if latest else 0.0
        )
    key = key_of(parts)
    outcome = ledger.outcome(name, stage.name, key)
    current = latest is not None and latest.key == key
    if outcome is not None and (current or stage.name != "gate"):
        state = _stored(context, stage, outcome)
        if state != "due":
            path = workspace.home(stage.home, outcome.artifacts[0]) if outcome.artifacts else None
            context.results[stage.name] = stage.result(context, outcome, path)
            causes = (
                ()
                if state == "unchanged"
                else (Cause(key="stored output", old=None, new="deleted or altered; restored from the object store"),)
            )
            return Step(stage=stage.name, state=state, causes=causes)
        return Step(
            stage=stage.name,
            state="due",
            causes=(Cause(key="stored output", old=None, new="lost or altered"),),
            seconds=outcome.seconds,
        )
    if latest is None:
        return Step(stage=stage.name, state="due", causes=(Cause(key="first run", old=None, new=""),))
    causes = _differences(parts, latest, places)
    if stage.name == "data":
        causes += _rows(context, latest, causes)
    if outcome is not None:
        causes += (Cause(key=f"version {outcome.record['number']}", old=None, new="is declared again"),)
    return Step(stage=stage.name, state="due", causes=causes, seconds=latest.seconds)


def _stored(context: Context, stage: Stage, outcome: Outcome) -> Literal["unchanged", "restore", "due"]:
    if not outcome.artifacts:
        return "unchanged"
    workspace, artifact = context.workspace, outcome.artifacts[0]
    if workspace.objects.intact(artifact, workspace.home(stage.home, artifact)):
        return "unchanged" if workspace.objects.has(artifact) else "restore"
    if workspace.objects.has(artifact):
        return "restore"
    return "unchanged" if stage.spare else "due"


def _differences(
    parts: Mapping[str, Any], latest: Outcome | None, places: Callable[[str], str], known_only: bool = False
) -> tuple[Cause, ...]:
    before = latest.parts if latest else {}
    keys = sorted(set(before) | set(parts), key=lambda k: (k.startswith(("code.", "library.")), k))
    if known_only:
        keys = [k for k in keys if not k.startswith((*INPUTS, "source"))]
    return tuple(
        Cause(key=k, old=None if k == UNKNOWN else before.get(k), new=parts.get(k), place=places(k))
        for k in keys
        if before.get(k) != parts.get(k)
    )


def _rows(context: Context, latest: Outcome, causes: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """How many rows more or fewer, where that can be counted within a moment."""
    if not any(c.key.startswith("source.") for c in causes):
        return ()
    try:
        now = _counted(context.build("data", context.declaration.data).read)
    except Exception:  # a broken source is told by the run that reads it
        return ()
    if now is None:
        return ()
    more = now - sum(latest.record["rows"].values()) - latest.record["rejected"]
    words = "as many rows as before" if more == 0 else f"{abs(more)} rows {'more' if more > 0 else 'fewer'}"
    return (Cause(key="data", old=None, new=words),)


def _counted(read: Callable[[], Any]) -> int | None:
    """The rows of what `read` opens; None where that takes longer. Opening it, and a lazy frame, are not cut short:
    Parquet files, which give those, tell their rows at their ends."""
    import polars as pl

    deadline = time.monotonic() + COUNTING
    table = read()
    if isinstance(table, pl.LazyFrame):
        found: int = table.select(pl.len()).collect().item()
        return found
    import pyarrow as pa

    rows = 0
    for batch in pa.RecordBatchReader.from_stream(table):
        rows += batch.num_rows
        if time.monotonic() > deadline:
            return None
    return rows


def _deploy(context: Context, before: list[Step]) -> list[Step]:
    if context.declaration.deployer is None:
        return []
    due = next((s.stage for s in before if s.state == "due"), "")
    wanted = deploying.desired(context, restore=False)
    causes = _lost(context)
    causes += [Cause(key=k, old=a, new=b) for k, (a, b) in deploying.causes(context, wanted).items()]
    if not due and (candidate := rolling.pending(context)):
        causes.append(Cause(key="version", old=_serving(wanted), new=candidate))
    if due:
        causes.append(Cause(key="version", old=_serving(wanted), new="the next one, when it passes its gate"))
    return [Step(stage=deploying.NAME, state="due" if causes else "unchanged", causes=tuple(causes))]


def _lost(context: Context) -> list[Cause]:
    """Whether the champion's bundle is gone for good, or lacks the signature declared, which stops a deployment."""
    d, workspace = context.declaration, context.workspace
    number = workspace.ledger.aliases(d.name).get("champion")
    if number is None:
        return []
    version = workspace.ledger.version(d.name, number)
    if not workspace.lies("bundles", version.model.artifact):
        return [Cause(key=f"bundle of version {number}", old=None, new="lost or altered")]
    missing = d.signing.get("public") and not version.signature
    return [Cause(key=f"signature of version {number}", old=None, new="missing")] if missing else []


def _serving(wanted: Any) -> int | None:
    return wanted.routes[0].version if wanted else None


def _waits(stage: str) -> Cause:
    return Cause(key=f"waits for {stage}", old=None, new="")


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    if re.fullmatch(r"[0-9a-f]{40,64}", text):  # a digest
        return text[:12]
    return text if len(text) <= 60 else f"{text[:57]}..."
