"""Erases a subject's rows from the prediction log, its labels, windows and quarantine, and their requests from the
access log; the endpoint may go on.

mlops forget --where id=0198c3-... --reason "request 17 of the data protection officer"
mlops forget --where email=- --reason "..."      reads the value from standard input, out of the shell's history

A row is the subject's where all that is given holds. 'id' is the id of a prediction or of its request too. Columns
with role pii can be looked for where 'privacy: {pii: hash}' keeps their hashes. The audit keeps how many rows or lines
went from which file, and a pseudonym of the subject. Frozen data sets are not changed: it says where the subject is
still in them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlops_core.cli.arguments import add_json, print_json
from mlops_core.errors import UsageError

SUMMARY = "erase a subject from everything that was logged of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--where", action="append", default=[], metavar="COL=VALUE", help="what the subject's rows have; may come again"
    )
    parser.add_argument("--reason", default="", help="why; kept in the audit")
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    if not args.reason.strip():
        raise UsageError("forget: say why with --reason '...'; it is kept in the audit")
    found = api.forget(args.project, _where(args.where), reason=args.reason)
    if args.json:
        print_json(found)
        return 0
    for file, rows in found.files.items():
        print(f"{rows:>9,} erased from {file}")
    erased = f"{found.rows:,} rows, labels and requests erased; looked again: nothing is found"
    print(erased if found.rows else "nothing was found that could be erased")
    for column in found.blind:
        print(f"the prediction log has no column {column!r} to find anybody by; it knows the ids of predictions")
    for file, rows in found.held.items():
        print(f"{rows:>9,} still held by {file}")
    if found.held:
        print(
            "frozen data sets, the models trained on them, and their copies in object stores keep the subject: erase "
            "it at the source, and 'mlops run' trains without it"
        )
    return 0


def _where(given: list[str]) -> dict[str, str]:
    if not given:
        raise UsageError("forget: say whom with --where COL=VALUE")
    found: dict[str, str] = {}
    for text in given:
        column, equals, value = text.partition("=")
        if not column or not equals or not value:
            raise UsageError("forget: expected --where COL=VALUE")
        if column in found:
            raise UsageError(f"forget: column {column!r} is given twice; all that is given must hold")
        found[column] = sys.stdin.readline().rstrip("\n") if value == "-" else value
    return found
