"""Arguments that several commands share, and how they print."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from mlops_core.contracts import plain


def add_project(parser: argparse.ArgumentParser) -> None:
    """`[KEY=VALUE ...]`, `--project` and `--json`."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="override a value of the declaration (Hydra's grammar)"
    )
    parser.add_argument(
        "--project",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="the project's folder (default: this one, or the nearest above)",
    )
    add_json(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for machines")


def say_waiting(holder: str) -> None:
    """For calls that wait for another one: who that is."""
    print(f"waiting: {holder}", file=sys.stderr)


def print_json(value: Any) -> None:
    print(to_json(value, indent=1))


def to_json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON that every reader takes: a number that is none (NaN, infinite) becomes null."""
    return json.dumps(_finite(plain(value)), indent=indent, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def console(stderr: bool = False) -> Any:
    """A rich console: colours on a terminal, plain text elsewhere; never wraps what a machine may read."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty()
    return Console(file=stream, highlight=False, soft_wrap=piped, width=200 if piped else None)
