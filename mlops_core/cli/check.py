"""Validates the declaration only: every error at once, each with its place, what was expected and the nearest name.

Reads the data's column names, and nothing more of it. Changes nothing. With --infer-contract it proposes a
contract for a table instead, as YAML to look through and keep.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlops_core.cli.arguments import add_project, console, print_json

SUMMARY = "validate the declaration: every error at once, with file and line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_project(parser)
    parser.add_argument(
        "--infer-contract", type=Path, metavar="FILE", help="propose a contract for a .csv or .parquet file"
    )


def run(args: argparse.Namespace) -> int:
    if args.infer_contract:
        return _propose(args.infer_contract, args.json)
    from mlops_core import api
    from mlops_core.config import find_root
    from mlops_core.errors import DeclarationError

    root, problems = find_root(args.project), api.check(args.project, args.overrides)
    if args.json:
        print_json({"ok": not problems, "problems": problems})
        return DeclarationError.exit_code if problems else 0
    if problems:
        raise DeclarationError.of(problems)
    console().print(f"{root / 'conf' / 'config.yaml'}: the declaration is right", markup=False)
    return 0


def _propose(file: Path, as_json: bool) -> int:
    from mlops_core.validation import infer_contract

    contract: Any = infer_contract(_table(file))
    if as_json:
        print_json(contract)
        return 0
    import yaml

    print(f"# A contract proposed from {file.name}: what is true of this table. Look through it, tighten it, keep it.")
    print(yaml.safe_dump(contract, sort_keys=False, allow_unicode=True, width=110), end="")
    return 0


def _table(file: Path) -> Any:
    """Read as a run reads it, by the data source of that name: a contract holds the dtypes that the source tells."""
    from mlops_core import api
    from mlops_core.contracts import Choice
    from mlops_core.errors import DataError, UsageError

    if file.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--infer-contract reads .csv and .parquet files, not {file.name!r}")
    if not file.is_file():
        raise DataError(f"there is no file {file}")
    choice = Choice(plugin=file.suffix[1:], options={"path": str(file.absolute())})
    return api.plugins().build("data", choice).read()
