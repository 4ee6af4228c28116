"""The endpoint: how it stands, made so, asked, stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.api.opening import Waiting, known, opened, watched
from mlops_core.api.rollouts import Rolling, drive, rolling_of
from mlops_core.contracts import Choice, Endpoint, ModelVersion, Verdict, Window, record
from mlops_core.errors import MlopsError, ServingError, UsageError
from mlops_core.ledger import RunRow, whoami

if TYPE_CHECKING:
    from mlops_core.flow.counting import Counted


@record
class Status:
    """What is there and how it does: versions, aliases, endpoint, verdict of the last window, last runs, rollout, and
    what the endpoint has answered (None where it does not tell)."""

    name: str
    versions: tuple[ModelVersion, ...]
    aliases: Mapping[str, int]
    endpoint: Endpoint | None
    verdict: Verdict | None
    window: Window | None
    runs: tuple[RunRow, ...]
    rollout: Rolling | None = None
    counts: tuple[Counted, ...] | None = None


def status(project: Path, overrides: Sequence[str] = (), *, judge: bool = True) -> Status:
    """What is there. With `judge`, the monitor judges what the serving version has answered so far."""
    from mlops_core.flow import deploying, judging
    from mlops_core.flow.counting import counted

    with opened(project, overrides) as context:
        name, ledger = context.declaration.name, context.workspace.ledger
        found = deploying.actual(context)
        watched(context)
        judged: tuple[Window | None, Verdict] | None = None
        try:
            judged = judging.judge(context, found[1]) if judge and found else None
        except MlopsError as error:  # what cannot be judged is told, and hides nothing else
            plugin = context.declaration.monitor.plugin
            judged = None, Verdict(monitor=plugin, state="unknown", reasons=(str(error),))
        past = ledger.verdicts(name, limit=1)
        window, verdict = judged or (past[0] if past else (None, None))
        return Status(
            name=name,
            versions=known(context),
            aliases=ledger.aliases(name),
            endpoint=found[0] if found else None,
            verdict=verdict,
            window=window,
            runs=ledger.runs(name, limit=5),
            rollout=rolling_of(context),
            counts=counted(found[0]) if found else None,
        )


def deploy(project: Path, overrides: Sequence[str] = (), *, reason: str = "", waiting: Waiting = None) -> Endpoint:
    """Makes the endpoint as declared, with the champion and a rollout under way, and runs no stage: after a reboot.
    A run under way is waited for. Raises UsageError where there is nothing to serve."""
    from mlops_core.flow import deploying, rolling

    with opened(project, overrides) as context:
        watched(context)
        with rolling.alone(context, waiting):
            wanted = deploying.desired(context)
            if wanted is None:
                if context.declaration.deployer is None:
                    raise UsageError("no deployer is declared, so nothing is served")
                raise UsageError("no version is champion yet: 'mlops run' makes one")
            endpoint = deploying.apply(context, wanted, reason)
        drive(context)
        return endpoint


def stop(project: Path, overrides: Sequence[str] = (), *, reason: str = "") -> bool:
    """Stops the endpoint; False where none was running. A rollout under way stays as it is until the next run."""
    from mlops_core.flow import rolling

    with opened(project, overrides) as context:
        ledger, name = context.workspace.ledger, context.declaration.name
        recorded = ledger.desired(name)
        choice = Choice(plugin=recorded[0]) if recorded else context.declaration.deployer
        if choice is None:
            return False
        with rolling.traffic(context):  # else a rollout's driver would find the endpoint dead, and make it again
            stopped: bool = context.build("deployer", choice).stop(name, context.workspace.state / "serve" / name)
            if ledger.desired(name):
                ledger.desire(name, None, deployer=choice.plugin, actor=whoami(), reason=reason or "stopped by hand")
        return stopped


def predict(
    project: Path, rows: Sequence[Mapping[str, Any]] = (), *, samples: int = 0, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Asks the running endpoint. Without rows, sends the first `samples` rows of the champion's smoke set."""
    from mlops_core.flow import deploying
    from mlops_core.flow.asking import ask

    with opened(project, overrides) as context:
        found = deploying.actual(context)
        if found is None:
            raise ServingError("no endpoint is running; start it with 'mlops run'")
        endpoint, serving = found
        if not rows:
            rows = _sample_rows(serving.routes[0].bundle, samples or 1)
    return ask(endpoint, rows)


def _sample_rows(bundle: Path, count: int) -> list[dict[str, Any]]:
    from mlops_core.bundle import sample_rows

    return sample_rows(bundle)[:count]
