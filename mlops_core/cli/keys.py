"""The keys by which callers are let in.

mlops keys create --scope predict [--expires 30d] [--rate 100/s] [--who NAME]    prints the key, this once
mlops keys list                                                                  all, the revoked ones too
mlops keys revoke ID --reason "..."                                              refused at once by every replica

A key of scope predict asks for predictions, feedback sends labels, admin sees status and metrics and may do
everything. Callers send it as 'authorization: Bearer KEY' or 'x-api-key: KEY'; 'mlops predict' takes it from
MLOPS_KEY.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mlops_core.cli.arguments import add_json, console, print_json
from mlops_core.errors import UsageError, did_you_mean

SUMMARY = "make, list and revoke the keys of callers"
VERBS = ("create", "list", "revoke")
SHOWN = ("id", "scope", "model", "who", "rate", "created", "expires", "revoked")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", nargs="?", default="list", help=", ".join(VERBS))
    parser.add_argument("id", nargs="?", default="", help="the key's id (revoke)")
    parser.add_argument("--scope", default="", help="predict, feedback or admin (create)")
    parser.add_argument("--model", default="", metavar="NAME", help="only this model (default: any of the endpoint)")
    parser.add_argument("--expires", default="", metavar="WHEN", help="30d, 12h or 2027-01-31 (default: never)")
    parser.add_argument("--rate", default="", metavar="N/s", help="requests a second, minute (/m) or hour (/h)")
    parser.add_argument("--who", default="", metavar="NAME", help="who gets it; kept in the audit")
    parser.add_argument("--reason", default="", help="why; kept in the audit (revoke)")
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.verb not in VERBS:
        raise UsageError(f"keys: unknown verb {args.verb!r}; {did_you_mean(args.verb, VERBS)}")
    return int(globals()[f"_{args.verb}"](args))


def _create(args: argparse.Namespace) -> int:
    from mlops_core import api

    if not args.scope:
        raise UsageError("keys create: say what for with --scope predict, feedback or admin")
    key, text, note = api.create_key(
        args.project,
        args.scope,
        model=args.model,
        expires=args.expires,
        rate=args.rate,
        who=args.who,
        reason=args.reason,
    )
    if args.json:
        print_json({"key": text, **_shown(key)})
        return 0
    until = f"until {key.expires}" if key.expires else "until it is revoked"
    print(f"key {key.id} for {key.scope}, {until}; this is the only time it is shown", file=sys.stderr)
    if note:
        print(f"note: {note}", file=sys.stderr)
    print(text)
    return 0


def _list(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from mlops_core import api

    keys, now = api.keys(args.project), datetime.now(UTC)
    if args.json:
        print_json([{**_shown(k), "state": k.state(now)} for k in keys])
        return 0
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "state", "scope", "model", "who", "rate", "created", "expires"):
        table.add_column(title, no_wrap=True)
    for k in keys:
        rate = f"{k.rate:g}/s" if k.rate else "any"
        table.add_row(
            k.id, k.state(now), k.scope, k.model or "any", k.who, rate, k.created[:19], k.expires[:19] or "never"
        )
    console().print(table if keys else "no keys yet; 'mlops keys create --scope predict' makes one")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    from mlops_core import api

    if not args.id:
        raise UsageError("keys revoke: name the key's id; 'mlops keys list' shows them")
    if not args.reason.strip():
        raise UsageError("keys revoke: say why with --reason '...'; it is kept in the audit")
    api.revoke_key(args.project, args.id, reason=args.reason)
    print(f"key {args.id} is revoked")
    return 0


def _shown(key: Any) -> dict[str, Any]:
    """What may be seen of a key: neither salt nor hash."""
    return {name: getattr(key, name) for name in SHOWN}
