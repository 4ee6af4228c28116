"""What is there and how it does: versions, aliases, endpoint, the monitor's verdict, the last runs.

Where the endpoint tells (with auth: keys, to a key of scope admin in MLOPS_KEY), also what each version has answered
since the endpoint began, with the median and the 99th percentile of its latency.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mlops_core.cli.arguments import add_project, console, print_json
from mlops_core.cli.rollout import told

if TYPE_CHECKING:
    from mlops_core.flow.counting import Counted

SUMMARY = "versions, endpoint, rollout, health, drift, last runs"
COLOURS = {"healthy": "green", "alarm": "red", "unknown": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_project(parser)


def run(args: argparse.Namespace) -> int:
    from mlops_core import api

    found = api.status(args.project, args.overrides)
    if args.json:
        print_json(found)
        return 0
    out = console()
    names: dict[int, list[str]] = {}
    for alias, number in found.aliases.items():
        names.setdefault(number, []).append(alias)
    out.print(f"{found.name}: {len(found.versions)} versions")
    for version in found.versions[-5:]:
        alias = ", ".join(names.get(version.number, []))
        line = f"  {version.number:>3}  {version.status:<9} {alias:<10} {version.created[:19]}"
        line += f"  {version.evaluation.told()}"
        out.print(line, markup=False)
    if found.endpoint:
        numbers = ", ".join(map(str, found.endpoint.versions))
        out.print(f"endpoint: {found.endpoint.url} serves version {numbers}")
        other = [
            f"{name} {found.endpoint.details[name]}" for name in ("admin", "grpc") if name in found.endpoint.details
        ]
        if other:
            out.print(f"beside it: {', '.join(other)}")
        for line in map(_line, found.counts or ()):
            out.print(line, markup=False)
    else:
        out.print("endpoint: none is running")
    if found.rollout and found.rollout.rollout.active:
        for line in told(found.rollout):
            out.print(line, markup=False)
    if found.verdict is None:
        out.print("drift: not judged yet" + (" (no predictions logged)" if found.endpoint else ""))
    else:
        rows = f" over {found.window.rows:,} predictions" if found.window else ""
        out.print(f"drift: [{COLOURS[found.verdict.state]}]{found.verdict.state}[/]{rows}")
        for reason in found.verdict.reasons[:8]:
            out.print(f"  {reason}", markup=False)
    for row in found.runs:
        out.print(
            f"run {row.id}  {row.state}" + (f": {row.error.splitlines()[0][:120]}" if row.error else ""),
            markup=False,
        )
    return 0


def _line(found: Counted) -> str:
    line = f"  version {found.version} ({found.role}): {found.answered:,} requests answered, {found.errors:,} errors"
    if found.median is None or found.p99 is None:
        return line
    return f"{line}, median {_milliseconds(found.median)}, p99 {_milliseconds(found.p99)}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
