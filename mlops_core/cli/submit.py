"""A command of mlops on another machine, a Ray cluster, with this project as it is.

mlops submit [--address URL] [--env NAME] -- run [...]   send it; follow its output; exit as it does there
mlops submit logs ID                                     follow it again, from the first line
mlops submit status ID                                   how it stands
mlops submit stop ID                                     end it
mlops submit list                                        what was sent there, the latest first
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.cli.arguments import add_json, print_json
from mlops_core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from mlops_core.contracts import Submission

SUMMARY = "run a command on a Ray cluster: follow it, stop it, list what was sent"
SENDS = True  # the words after '--' are another command's
VERBS = ("logs", "status", "stop", "list")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", nargs="?", default="", help=f"{', '.join(VERBS)}; none sends the command after '--'")
    parser.add_argument("id", nargs="?", default="", help="which one (logs, status, stop)")
    parser.add_argument("--address", metavar="URL", help="the cluster's dashboard, http://HEAD:8265")
    parser.add_argument("--env", action="append", metavar="NAME", help="send this variable's value; may come again")
    parser.add_argument("--requirements", metavar="FILE", help="pinned packages to install there, from the project")
    parser.add_argument("--max-mb", type=int, metavar="MIB", help="how large the project may be (default: 50)")
    parser.add_argument("--detach", action="store_true", help="do not follow it")
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    _refuse(args)
    keys = ("address", "env", "requirements", "max_mb")
    given = {k: getattr(args, k) for k in keys if getattr(args, k) is not None}
    if not args.verb:
        sent = api.submit(args.project, args.rest, given=given, notice=_say)
        _say(f"sent as {sent.id}")
        if args.detach:
            print_json(sent) if args.json else print(sent.id)
            return 0
        return _follow(args, api.launcher(args.project, given), sent.id)
    launcher = api.launcher(args.project, given)
    if args.verb == "logs":
        return _follow(args, launcher, args.id)
    if args.verb == "list":
        found = launcher.all()
        print_json(found) if args.json else print("\n".join(map(_line, found)) or "nothing was sent there yet")
    elif args.verb == "status":
        one = launcher.status(args.id)
        print_json(one) if args.json else print(_line(one))
    else:
        stopped = launcher.stop(args.id)
        print_json({"stopped": stopped}) if args.json else print("stopped" if stopped else f"{args.id} was over")
    return 0


def _refuse(args: argparse.Namespace) -> None:
    if args.verb and args.verb not in VERBS:
        hint = did_you_mean(args.verb, VERBS)
        raise UsageError(f"submit: unknown verb {args.verb!r}; {hint}; a command to send comes after '--'")
    if args.verb and args.rest:
        raise UsageError(f"submit {args.verb} sends nothing; leave out '--' and what follows")
    if args.verb in ("logs", "status", "stop") and not args.id:
        raise UsageError(f"submit {args.verb}: which one? give its id; 'mlops submit list' tells it")
    if args.verb == "list" and args.id:
        raise UsageError("submit list takes no id")
    if not args.verb and args.rest:
        from mlops_core.cli.main import COMMANDS, parsed

        if args.rest[0] in COMMANDS:
            parsed(args.rest[0], args.rest[1:])  # a wrong flag is told here, not there


def _follow(args: argparse.Namespace, launcher: Any, id: str) -> int:
    out = sys.stderr if args.json else sys.stdout

    def show(text: str) -> None:
        out.write(text)
        out.flush()

    try:
        found = launcher.follow(id, show, _say)
    except KeyboardInterrupt:
        address = f" --address {shlex.quote(args.address)}" if args.address else ""
        _say(f"{id} goes on; 'mlops submit logs {id}{address}' follows it again, 'stop' in place of 'logs' ends it")
        return 130
    if args.json:
        print_json(found)
    elif found.message or found.state == "stopped":
        _say(f"{id} {found.state}" + (f": {found.message}" if found.message else ""))
    return int(found.exit_code or 0)


def _line(found: Submission) -> str:
    end = f" (exit {found.exit_code})" if found.exit_code else ""
    words = shlex.join(["mlops", *found.words])
    return f"{found.id}  {found.state}{end}  {found.began}  {words}" + (f"  {found.message}" if found.message else "")


def _say(line: str) -> None:
    print(f"mlops: {line}", file=sys.stderr)
