"""The rollout under way: who gets how much, and what each guard has found.

mlops rollout                          how it stands
mlops rollout pause --reason "..."     no further step; harm still ends it
mlops rollout resume                   go on
mlops rollout promote --reason "..."   the candidate is champion now
mlops rollout abort --reason "..."     the champion gets all traffic back now
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlops_core.cli.arguments import add_json, print_json, say_waiting
from mlops_core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from mlops_core.api import Rolling

SUMMARY = "the rollout under way: status, pause, resume, promote, abort"
VERBS = ("status", "pause", "resume", "promote", "abort")
EVERY = 1.0  # seconds between two looks of --wait


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", nargs="?", default="status", help=", ".join(VERBS))
    parser.add_argument("--reason", default="", help="why; kept in the audit")
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    if args.verb not in VERBS:
        raise UsageError(f"rollout: unknown verb {args.verb!r}; {did_you_mean(args.verb, VERBS)}")
    if args.verb != "status":
        moved = api.steer(args.project, cast(Any, args.verb), reason=args.reason, waiting=say_waiting)
        print_json(moved) if args.json else print(f"version {moved.candidate}: {_stands(moved)}")
        return 0
    found = api.rollout(args.project)
    if args.json:
        print_json(found)
    elif found is None:
        print("no rollout yet: 'mlops run' begins one where a new version passes its gate and 'rollout:' is declared")
    else:
        print("\n".join(told(found)))
    return 0


def follow(project: Path, overrides: Sequence[str], view: Any) -> int:
    """Tells each change until the rollout has ended or waits for a person; 4 where it was rolled back or aborted."""
    from mlops_core import api

    last = ""
    while True:
        found = api.rollout(project, overrides)
        if found is None:
            return 0
        line = told(found)[0]
        if line != last:
            view.line(line) if not hasattr(view, "event") else view.event("rollout", rollout=found)
            last = line
        if found.rollout.state == "waiting" or not found.rollout.active:
            return 0 if found.rollout.state in ("waiting", "promoted") else 4
        time.sleep(EVERY)


def begun(found: Rolling) -> str:
    """What has begun, in a sentence."""
    from mlops_core.rollout.plan import planned
    from mlops_core.rollout.plan import told as plan_told

    r = found.rollout
    return f"version {r.stable} -> {r.candidate} by {plan_told(planned(r.plan))}"


def told(found: Rolling) -> list[str]:
    """How a rollout stands, in lines: the state first, then arms and findings."""
    r, look = found.rollout, found.look
    of = f", step {r.step + 1} of {len(r.plan.get('steps', ()))}" if r.strategy == "canary" else ""
    lines = [f"rollout: version {r.stable} -> {r.candidate}, {r.strategy}{of}: {_stands(r)}"]
    if not r.active:
        return lines
    if not found.driven:
        lines.append("  its driver starts")
    if look is None:
        return lines
    for arm, count in look.requests.items():
        weight, failed = look.weights.get(arm, 0.0), look.failures.get(arm, 0)
        lines.append(f"  {arm:<11} {weight:>5g} %  {count:,} requests, {failed:,} failed")
    return [*lines, *_findings(look)]


def _findings(look: Any) -> Iterator[str]:
    several = len(look.findings) > 1
    for arm, findings in look.findings.items():
        for finding in findings:
            yield f"  {finding.state:<5} {f'{arm}: ' if several else ''}{finding.words}"
    for s in look.standings:
        interval = f"loss {s.loss:.4f} [{s.low:.4f}, {s.high:.4f}]" if s.rows else "no labels yet"
        won = f"; that it is the best is wrong with probability {s.error:.3g} at most" if s.rows else ""
        yield f"  {s.arm:<11} {interval} over {s.rows:,} labelled rows{won}"


def _stands(rollout: Any) -> str:
    words = {"running": "under way", "waiting": "decided, waits for 'mlops rollout promote' or 'abort'"}
    return f"{words.get(rollout.state, rollout.state.replace('_', ' '))} ({rollout.reason})"
