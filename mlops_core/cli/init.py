"""Makes a project folder from a shipped recipe: declaration, contract, data and README."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlops_core.errors import UsageError

SUMMARY = "make a project folder from a shipped recipe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", help="the new project's folder")
    parser.add_argument(
        "--recipe", default="credit", help="which recipe (default: credit; 'mlops init --list' names all)"
    )
    parser.add_argument("--list", action="store_true", help="name the recipes")


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    if args.list:
        print("\n".join(api.recipes()))
        return 0
    if args.folder is None:
        raise UsageError("init: name the new project's folder, as in 'mlops init my-project'")
    folder = api.init(args.folder, args.recipe)
    print(f"{folder}: a project from recipe {args.recipe!r}\nnext: cd {folder} && mlops plan && mlops run")
    return 0
