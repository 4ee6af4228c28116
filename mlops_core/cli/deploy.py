"""The endpoint by itself, without the stages before it.

mlops deploy                           make it as declared: the champion, and the rollout under way; after a reboot
mlops deploy stop --reason "..."       drain and stop it, as 'mlops stop' does
"""

from __future__ import annotations

import argparse

from mlops_core.cli.arguments import add_project, print_json, say_waiting
from mlops_core.errors import UsageError, did_you_mean

SUMMARY = "make the endpoint as declared, without a stage before it; stop it"
VERBS = ("apply", "stop")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", nargs="?", default="apply", help=", ".join(VERBS))
    parser.add_argument("--reason", default="", help="why; kept in the audit")
    add_project(parser)


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    if "=" in args.verb or args.verb.startswith("~"):
        args.verb, args.overrides = "apply", [args.verb, *args.overrides]
    if args.verb not in VERBS:
        raise UsageError(f"deploy: unknown verb {args.verb!r}; {did_you_mean(args.verb, VERBS)}")
    if args.verb == "stop":
        stopped = api.stop(args.project, args.overrides, reason=args.reason)
        print_json({"stopped": stopped}) if args.json else print("stopped" if stopped else "no endpoint was running")
        return 0
    endpoint = api.deploy(args.project, args.overrides, reason=args.reason, waiting=say_waiting)
    numbers = ", ".join(map(str, endpoint.versions))
    print_json(endpoint) if args.json else print(f"{endpoint.url} serves version {numbers}")
    return 0
