"""Drains and stops the endpoint. Its versions, logs and data stay; 'mlops run' starts it again."""

from __future__ import annotations

import argparse

from mlops_core.cli.arguments import add_project

SUMMARY = "stop the endpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_project(parser)
    parser.add_argument("--reason", default="", help="why; kept in the audit")


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    stopped = api.stop(args.project, args.overrides, reason=args.reason)
    print("stopped" if stopped else "no endpoint was running")
    return 0
