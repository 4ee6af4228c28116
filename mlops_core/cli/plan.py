"""Shows what 'mlops run' would do and why, key by key. Changes nothing.

Data files that were touched are read once to tell whether they changed; the run after it does not read them for
that again. Where they did, it says how many rows more or fewer, unless opening and counting them takes longer than
two seconds.

Exits with 0 where nothing is due, 2 where work is due, and 4 where the declared model was rejected by its gate.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mlops_core.cli.arguments import add_project, console, print_json
from mlops_core.errors import Rejected

if TYPE_CHECKING:
    from mlops_core.plan import Plan

SUMMARY = "what run would do and why, key by key; changes nothing"
MARKS = {"unchanged": ("=", "green"), "restore": ("^", "cyan"), "due": ("~", "yellow")}
SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_project(parser)
    parser.add_argument(
        "--all", action="store_true", help=f"show every cause (default: the first {SHOWN} of each stage)"
    )


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    plan = api.plan(args.project, args.overrides)
    if args.json:
        words = {"rejected": plan.rejected, "chosen": plan.chosen, "rollout": plan.rollout}
        print_json({"name": plan.name, "due": plan.due, **words, "steps": plan.steps})
        return _code(plan)
    out = console()
    for step in plan.steps:
        mark, colour = MARKS[step.state]
        past = f"  (took {step.seconds:.1f} s last time)" if step.seconds >= 0.05 else ""
        out.print(f"[{colour}]{mark}[/] {step.stage:<9} {step.state}{past}")
        shown = step.causes if args.all else step.causes[:SHOWN]
        for cause in shown:
            out.print(f"    {cause}", markup=False)
        if len(shown) < len(step.causes):
            out.print(f"    and {len(step.causes) - len(shown)} more: --all shows them")
    due = [s.stage for s in plan.steps if s.state != "unchanged"]
    if plan.rejected or plan.chosen:
        out.print(f"{plan.name}: {plan.rejected or plan.chosen}", markup=False)
    if plan.rollout:
        out.print(f"rollout: {plan.rollout}", markup=False)
    if due:
        out.print(f"{plan.name}: {', '.join(due)} due; 'mlops run' does it")
    elif not plan.rejected:
        out.print(f"{plan.name}: reality is as declared; nothing to do")
    return _code(plan)


def _code(plan: Plan) -> int:
    return 2 if plan.due else Rejected.exit_code if plan.rejected else 0
