"""Makes reality equal to the declaration: data, tune, train, seal, evaluate, gate, deploy, as far as declared.

Skips what is unchanged and intact, resumes what was cut off. Type it again at any time.
"""

from __future__ import annotations

import argparse
import sys

from mlops_core.cli.arguments import add_project

SUMMARY = "make reality equal to the declaration; skips what is unchanged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_project(parser)
    parser.add_argument("--until", default="", metavar="STAGE", help="stop after this stage")


def run(args: argparse.Namespace) -> int:
    from mlops_core import api
    from mlops_core.cli.view import choose, summary

    view = choose(args.json, sys.stdout)
    with view:
        finished = api.run(args.project, args.overrides, until=args.until, observers=[view], waiting=view.waiting)
    if args.json:
        view.event("done", run=finished)
    else:
        print(summary(finished, args.project))
    return 0
