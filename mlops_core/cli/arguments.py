"""Arguments that several commands share, and how they print."""

from __future__ import annotations

import argparse
import json
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


def print_json(value: Any) -> None:
    json.dump(plain(value), sys.stdout, indent=1, default=str)
    print()


def console(stderr: bool = False) -> Any:
    """A rich console: colours on a terminal, plain text elsewhere; never wraps what a machine may read."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty()
    return Console(file=stream, highlight=False, soft_wrap=piped, width=200 if piped else None)
