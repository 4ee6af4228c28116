"""Tells what came true, by prediction id ('<request id>-<row>', or the request's id alone where it had one row).

FILE is CSV with a header, JSON lines ({"id": ..., "label": ..., "time"?: ...}) or Parquet. Labels may come late, again,
and corrected: the one with the latest time (by default: now) wins. Where one label is wrong, none is kept. The
endpoint need not run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mlops_core.cli.arguments import add_json, print_json

SUMMARY = "give labels to logged predictions, from a file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="labels as .csv, .jsonl or .parquet")
    parser.add_argument("--id", default="id", metavar="COL", help="the column of prediction ids (default: id)")
    parser.add_argument("--label", default="label", metavar="COL", help="the column of labels (default: label)")
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    told = api.feedback(args.project, args.file, id=args.id, label=args.label)
    if args.json:
        print_json(told)
        return 0
    print(f"{told.labels:,} labels kept")
    if told.unknown:
        print(f"{told.unknown:,} of them name no prediction that is in the log by now")
    return 0
