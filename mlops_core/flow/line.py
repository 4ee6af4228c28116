"""The line itself: each stage skipped where its outcome is there and intact, else performed and recorded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from mlops_core.contracts import Artifact, Endpoint, Evaluation, Run, plain, record
from mlops_core.errors import MlopsError, Rejected, UsageError, did_you_mean
from mlops_core.flow import deploying, rolling, signing
from mlops_core.flow.context import Context, Stage, key_of
from mlops_core.flow.failing import told
from mlops_core.flow.learning import Data, Train, Tune
from mlops_core.flow.proving import Evaluate, Gate, Seal, refusal
from mlops_core.ledger import Outcome

STAGES: tuple[Stage, ...] = (Data(), Tune(), Train(), Seal(), Evaluate(), Gate())
ACCEPTANCE = "gate"


@record
class Finished:
    """What a run left: the run, which stages were performed, restored and skipped, the version, the endpoint."""

    run: Run
    performed: tuple[str, ...]
    skipped: tuple[str, ...]
    restored: tuple[str, ...] = ()
    version: int = 0
    evaluation: Evaluation | None = None
    endpoint: Endpoint | None = None
    complaints: tuple[str, ...] = ()
    seconds: float = 0.0


class Tally:
    """Which stages a run performed, restored and skipped, in order."""

    def __init__(self) -> None:
        self.performed: list[str] = []
        self.skipped: list[str] = []
        self.restored: list[str] = []


def run(
    context: Context, cause: str = "manual", until: str = "", waiting: Callable[[str], None] | None = None
) -> Finished:
    """Closes what stands between the declaration and reality. One run at a time per project; others wait.

    `until` names the last stage to run. Raises Rejected where the model did not pass its gate (it stays
    registered, and the endpoint serves the champion as before), or the error of the stage that failed.
    """
    known = [s.name for s in STAGES] + [deploying.NAME]
    if until and until not in known:
        raise UsageError(f"unknown stage {until!r}; {did_you_mean(until, known)}")
    ledger, name = context.workspace.ledger, context.declaration.name
    with ledger.lock(name, waiting):
        started = time.monotonic()
        context.run = replace(ledger.begin_run(name, cause), project=str(context.workspace.root))
        try:
            finished = _line(context, until, started)
        except BaseException as error:
            with contextlib.suppress(MlopsError):  # a full disk refuses this too; what went wrong first is told
                ledger.end_run(context.run, _state(error), str(error))
            raise
        ledger.end_run(context.run, "done")
        return finished


def _state(error: BaseException) -> Literal["rejected", "failed", "interrupted"]:
    if isinstance(error, Rejected):
        return "rejected"
    return "failed" if isinstance(error, Exception) else "interrupted"


def _line(context: Context, until: str, started: float) -> Finished:
    tally, endpoint = Tally(), None
    assert context.run is not None
    for stage in STAGES:
        if stage.declared(context):
            advance(context, stage, tally)
        if stage.name == until:
            break
    gate = context.results.get(ACCEPTANCE)
    if until in ("", deploying.NAME):
        with _telling(context, deploying.NAME):
            endpoint = _deploy(context, tally)
    if gate and not gate["passed"]:
        raise Rejected(refusal(gate))
    return Finished(
        run=context.run,
        performed=tuple(tally.performed),
        skipped=tuple(tally.skipped),
        restored=tuple(tally.restored),
        version=gate["number"] if gate else 0,
        evaluation=context.results.get("evaluate"),
        endpoint=endpoint,
        complaints=tuple(context.complaints),
        seconds=time.monotonic() - started,
    )


def advance(context: Context, stage: Stage, tally: Tally) -> None:
    """One stage: found intact, or performed and recorded."""
    with _telling(context, stage.name):
        _advance(context, stage, tally)


@contextlib.contextmanager
def _telling(context: Context, stage: str) -> Iterator[None]:
    """What goes wrong inside is told to the observers, and raised in a person's words."""
    try:
        yield
    except Exception as error:
        failure = told(context.workspace.root, context.workspace.state, stage, error)
        context.tell("mlops_failed", stage=stage, error=str(failure))
        if failure is error:
            raise
        raise failure from error


def _advance(context: Context, stage: Stage, tally: Tally) -> None:
    ledger, name = context.workspace.ledger, context.declaration.name
    assert context.run is not None
    parts = {**stage.own(context), **stage.inputs(context)}
    key = key_of(parts)
    outcome = ledger.outcome(name, stage.name, key)
    latest = ledger.latest(name, stage.name)
    current = latest is not None and latest.key == key
    if outcome is not None and (current or stage.name != ACCEPTANCE):
        found = _recover(context, stage, outcome)
        if found is not None:
            path, how = found
            if not current:
                ledger.reuse(context.run, outcome)
            context.workspace.leave(stage.name, key)  # where a run was cut off between the outcome and this
            context.results[stage.name] = stage.result(context, outcome, path)
            (tally.restored if how else tally.skipped).append(stage.name)
            _tell_finished(context, stage.name, skipped=True)
            return
    signing.ready(context)
    context.tell("mlops_started", stage=stage.name, cause=_why(parts, latest, key), steps=_steps(context, stage.name))
    outcome, path = _perform(context, stage, key, parts)
    context.results[stage.name] = stage.result(context, outcome, path)
    tally.performed.append(stage.name)
    _tell_finished(context, stage.name, skipped=False)


def _steps(context: Context, stage: str) -> int:
    """How many epochs or trials are declared: what a progress bar counts to; 0 where nobody knows."""
    d = context.declaration
    if stage == "tune" and d.tuner:
        tuner = context.build("tuner", d.tuner)
        if hasattr(tuner, "legs") and tuner.legs():  # each of its trials is one of several
            return 0
    choice, option = {"train": (d.trainer, "epochs"), "tune": (d.tuner, "trials")}.get(stage, (None, ""))
    found = choice.options.get(option) if choice else None
    return found if isinstance(found, int) else 0


def _why(parts: Mapping[str, Any], latest: Outcome | None, key: str) -> str:
    """Why a stage is due, in a line: the keys that differ; `plan` tells each with its values and place."""
    if latest is None:
        return "first run"
    if latest.key == key:
        return "stored output is lost or altered"
    found = [k for k in {**latest.parts, **parts} if latest.parts.get(k) != plain(parts.get(k))]
    names = sorted(found, key=lambda k: (k.startswith(("input.", "code.", "library.")), k))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"changed: {', '.join(names[:3])}{more}" if names else "declared again"


def _perform(context: Context, stage: Stage, key: str, parts: dict[str, Any]) -> tuple[Outcome, Any]:
    assert context.run is not None
    began = time.monotonic()
    work = context.workspace.work(stage.name, key)
    found, folder = stage.perform(context, work, key)
    artifacts: tuple[Artifact, ...] = ()
    path = None
    if folder is not None:
        artifact, path = context.workspace.settle(stage.home, folder)
        artifacts = (artifact,)
    outcome = Outcome(
        stage=stage.name,
        key=key,
        parts=plain(parts),
        record=dict(found),
        artifacts=artifacts,
        run=context.run.id,
        created=context.run.started,
        seconds=time.monotonic() - began,
    )
    context.workspace.ledger.put_outcome(context.run, outcome)
    context.workspace.leave(stage.name, key)
    return outcome, path


def _recover(context: Context, stage: Stage, outcome: Outcome) -> tuple[Any, str] | None:
    if not outcome.artifacts:
        return None, ""
    found: tuple[Any, str] | None = context.workspace.recover(stage.home, outcome.artifacts[0])
    return (None, "") if found is None and stage.spare else found


def _deploy(context: Context, tally: Tally) -> Endpoint | None:
    with rolling.traffic(context):
        return _deployed(context, tally)


def _deployed(context: Context, tally: Tally) -> Endpoint | None:
    rolling.settle(context)
    candidate = rolling.pending(context)
    if candidate is not None:
        context.tell("mlops_started", stage=deploying.NAME, cause=f"version {candidate} is next", steps=0)
        begun = rolling.deploy(context)
        if begun is not None:
            tally.performed.append(deploying.NAME)
            context.tell("mlops_finished", stage=deploying.NAME, record=begun, skipped=False)
            return begun
    wanted = deploying.desired(context)
    if wanted is None:
        return None
    due = deploying.causes(context, wanted)
    if not due:
        now = deploying.actual(context)
        tally.skipped.append(deploying.NAME)
        context.tell("mlops_finished", stage=deploying.NAME, record=now[0] if now else None, skipped=True)
        return now[0] if now else None
    words = "; ".join(
        f"{k}: {a if a is not None else 'none'} -> {b if b is not None else 'none'}" for k, (a, b) in due.items()
    )
    context.tell("mlops_started", stage=deploying.NAME, cause=words, steps=0)
    endpoint = deploying.apply(context, wanted)
    tally.performed.append(deploying.NAME)
    context.tell("mlops_finished", stage=deploying.NAME, record=endpoint, skipped=False)
    return endpoint


def _tell_finished(context: Context, stage: str, skipped: bool) -> None:
    context.tell("mlops_finished", stage=stage, record=context.results[stage], skipped=skipped)
