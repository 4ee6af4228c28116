"""Asks the running endpoint: rows as JSON from an argument, a file or standard input ('-'), or sample rows."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mlops_core.cli.arguments import add_json, print_json
from mlops_core.errors import UsageError

SUMMARY = "ask the running endpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "rows",
        nargs="?",
        default="",
        help='JSON: one row {"age": 41, ...} or a list of rows; a file; or - for standard input',
    )
    parser.add_argument(
        "--sample",
        type=int,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="send N rows (default 1) of the model's own smoke set",
    )
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    if not args.rows and not args.sample:
        raise UsageError("predict: nothing to ask; give rows as JSON, a file, - for standard input, or --sample")
    answer = api.predict(args.project, _rows(args.rows) if args.rows else (), samples=args.sample)
    if args.json:
        print_json(answer)
        return 0
    for row, found in zip(answer["asked"], answer["predictions"], strict=True):
        print(", ".join(f"{k}={_short(v)}" for k, v in row.items()))
        chances = ", ".join(f"{k} {v:.3f}" for k, v in (found.get("probability") or {}).items())
        print(f"  -> {found['prediction']}" + (f"  ({chances})" if chances else ""))
    print(f"version {answer['version']}, prediction id {answer['id']}")
    return 0


def _rows(text: str) -> list[dict[str, Any]]:
    where = "the argument"
    if text == "-":
        text, where = sys.stdin.read(), "standard input"
    elif not text.lstrip().startswith(("{", "[")):
        where = text
        try:
            text = Path(text).read_text()
        except (OSError, ValueError) as error:  # ValueError: bytes that are no text
            why = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"predict: cannot read {where}: {why}; expected JSON rows, a file, or -") from error
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"predict: {where} is no JSON: {error}") from error
    rows = found.get("rows", [found]) if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise UsageError(f"predict: {where} must be a row (an object) or a list of rows")
    if not rows:
        raise UsageError(f"predict: {where} holds no rows")
    return rows


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."
