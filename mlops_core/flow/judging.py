"""The monitor's verdict on what an endpoint has answered."""

from __future__ import annotations

from mlops_core.contracts import Alert, Serving, Verdict, Window
from mlops_core.errors import MlopsError
from mlops_core.flow import keeping
from mlops_core.flow.context import Context


def judge(context: Context, serving: Serving) -> tuple[Window, Verdict] | None:
    """The verdict on the serving version's logged predictions, kept in the ledger; None where there is nothing
    to judge, or no monitor. An alarm is told to the observers."""
    from mlops_core.bundle import open_bundle
    from mlops_core.windows import collect

    d, workspace = context.declaration, context.workspace
    keeping.tidy(context)
    if d.monitor is None:
        return None
    route = serving.routes[0]
    window = collect(serving.log, workspace.state / "windows", endpoint=d.name, version=route.version)
    if window is None:
        return None
    bundle = open_bundle(route.bundle, plugins=workspace.plugins, sha256=route.sha256, trust=d.trust)
    if bundle.profile is None:
        return None
    try:
        verdict: Verdict = context.build("monitor", d.monitor).judge(bundle.profile, window)
    except MlopsError:
        raise
    except Exception as error:
        raise MlopsError(f"monitor {d.monitor.plugin!r} failed: {type(error).__name__}: {error}") from error
    workspace.ledger.put_verdict(d.name, window, verdict)
    if verdict.state == "alarm":
        context.tell("mlops_alert", alert=Alert(window=window, verdict=verdict))
    return window, verdict
