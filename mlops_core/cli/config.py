"""Prints the composed declaration as YAML, every default filled in; with --origin, where each value came from.

A value from the environment is printed as its reference, never as what it holds.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from mlops_core.cli.arguments import add_project, console, print_json

SUMMARY = "the composed declaration, and where each value came from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_project(parser)
    parser.add_argument("--origin", action="store_true", help="for each value: file and line, override, or default")


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    if args.origin:
        found = api.origins(args.project, args.overrides)
        print_json(found) if args.json else _table(found)
    elif args.json:
        import yaml

        print_json(yaml.safe_load(api.config(args.project, args.overrides)))
    else:
        print(api.config(args.project, args.overrides), end="")
    return 0


def _table(found: Any) -> None:
    rows = [(key, _shown(o.value), o.place) for key, o in found.items()]
    width, middle = (max(len(row[i]) for row in rows) for i in (0, 1))
    out = console()
    for key, value, place in rows:
        out.print(f"{key:<{width}}  {value:<{middle}}  {place}", markup=False)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
