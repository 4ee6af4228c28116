"""Makes reality equal to the declaration: data, tune, train, seal, evaluate, gate, deploy, as far as declared.

Skips what is unchanged and intact, resumes what was cut off. Type it again at any time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from mlops_core.cli.arguments import add_project
from mlops_core.cli.rollout import begun, follow
from mlops_core.errors import MlopsError

SUMMARY = "make reality equal to the declaration; skips what is unchanged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_project(parser)
    parser.add_argument("--until", default="", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--wait", action="store_true", help="wait for the end of the rollout that is under way then")


def run(args: argparse.Namespace) -> int:
    from mlops_core import api
    from mlops_core.cli.view import choose, summary

    with contextlib.ExitStack() as stack:
        view = choose(args.json, stack.enter_context(_alone()) if args.json else sys.stdout)
        stack.enter_context(view)
        try:
            finished = api.run(args.project, args.overrides, until=args.until, observers=[view], waiting=view.waiting)
        except MlopsError as error:
            if args.json:
                view.event("ended", error=str(error), exit_code=error.exit_code)
            raise
        rolling = api.rollout(args.project, args.overrides)
        under_way = rolling is not None and rolling.rollout.active
        if args.json:
            view.event("done", run=finished, rollout=rolling.rollout if rolling and under_way else None)
        else:
            view.line(summary(finished, args.project))
            if rolling and under_way:
                view.line(f"  rollout   {begun(rolling)}; follow it with 'mlops rollout'")
        return follow(args.project, args.overrides, view) if args.wait and under_way else 0


@contextlib.contextmanager
def _alone() -> Iterator[TextIO]:
    """Standard output for the events alone: what else is printed meanwhile, in any process, goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out:
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
