"""The versions of the model.

mlops versions                             a table of all
mlops versions show N                      the card: data, code, config, scores, slices, time
mlops versions promote N --reason "..."    make it champion, by the declared rollout; --now: at once
mlops versions rollback --reason "..."     make the previous champion champion again, or abort a rollout
mlops versions sign N --reason "..."       sign an accepted version from before signing was declared
mlops versions audit                       who did what, when and why; verifies the chain
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mlops_core.cli.arguments import add_json, console, print_json, say_waiting
from mlops_core.cli.rollout import begun
from mlops_core.contracts import plain
from mlops_core.errors import UsageError, did_you_mean

SUMMARY = "list versions; show, promote, roll back or sign one; audit"
VERBS = ("list", "show", "promote", "rollback", "sign", "audit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", nargs="?", default="list", help=", ".join(VERBS))
    parser.add_argument("number", nargs="?", help="the version's number")
    parser.add_argument("--reason", default="", help="why; kept in the audit (promote, rollback, sign)")
    parser.add_argument("--now", action="store_true", help="all traffic at once, whatever is declared (promote)")
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.verb not in VERBS:
        raise UsageError(f"versions: unknown verb {args.verb!r}; {did_you_mean(args.verb, VERBS)}")
    return int(globals()[f"_{args.verb}"](args))


def _list(args: argparse.Namespace) -> int:
    from mlops_core import api

    versions, aliases = api.versions(args.project)
    if args.json:
        print_json({"versions": versions, "aliases": aliases})
        return 0
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("version", "status", "alias", "created", "test score", "data", "bundle"):
        table.add_column(title, no_wrap=True)
    names: dict[int, list[str]] = {}
    for alias, number in aliases.items():
        names.setdefault(number, []).append(alias)
    for v in versions:
        table.add_row(
            str(v.number),
            v.status,
            ", ".join(names.get(v.number, [])),
            v.created[:19],
            v.evaluation.told(1),
            v.model.dataset[:12],
            v.model.digest[:12],
        )
    console().print(table if versions else "no versions yet; 'mlops run' makes one")
    return 0


def _show(args: argparse.Namespace) -> int:
    from mlops_core import api

    version, signed = api.version(args.project, _number(args)), api.signed(args.project, _number(args))
    if args.json:
        print_json({**plain(version), "signed": signed})
        return 0
    console().print(card(version, signed), markup=False)
    return 0


def _promote(args: argparse.Namespace) -> int:
    from mlops_core import api

    number = _number(args)
    endpoint = api.promote(args.project, number, reason=_reason(args), now=args.now, waiting=say_waiting)
    rolling = api.rollout(args.project)
    if rolling and rolling.rollout.active and rolling.rollout.candidate == number:
        print(f"{begun(rolling)}; follow it with 'mlops rollout'")
        return 0
    print(
        f"version {args.number} is champion"
        + (f"; {endpoint.url} serves it" if endpoint else "; no endpoint is running")
    )
    return 0


def _rollback(args: argparse.Namespace) -> int:
    from mlops_core import api

    number, endpoint = api.rollback(args.project, reason=_reason(args), waiting=say_waiting)
    print(
        f"version {number} is champion again"
        + (f"; {endpoint.url} serves it" if endpoint else "; no endpoint is running")
    )
    return 0


def _sign(args: argparse.Namespace) -> int:
    from mlops_core import api

    number = _number(args)
    api.sign(args.project, number, reason=_reason(args))
    print(f"version {number} is signed with key {api.signed(args.project, number).key[:12]}")
    return 0


def _audit(args: argparse.Namespace) -> int:
    from mlops_core import api

    entries, fault = api.audit(args.project)
    if args.json:
        print_json({"whole": not fault, "fault": fault, "entries": entries})
        return 1 if fault else 0
    for e in entries:
        moved = f" {e.facts['from'] or 'none'} -> {e.facts['to'] or 'none'}" if e.action.startswith("alias.") else ""
        print(f"{e.at[:19]}  {e.actor:<12} {e.action:<16} {e.subject}{moved}: {e.reason}")
    print(f"the chain is broken: {fault}" if fault else f"{len(entries)} entries; the chain is whole")
    return 1 if fault else 0


def card(version: Any, signed: Any) -> str:
    """A version's card: what it is, what made it, and how good it is."""
    model, evaluation = version.model, version.evaluation
    git, dirty = version.code.get("git", "")[:12], " with uncommitted changes" if version.code.get("dirty") else ""
    size = f"{model.artifact.size / 1024:,.0f} KiB in {model.artifact.files} files"
    lines = [
        f"{version.name} version {version.number}: {version.status}",
        f"  created   {version.created} (run {version.run})",
        f"  bundle    {model.digest[:12]}  {size}  {model.path}",
        f"  signature {_vouched(signed)}",
        f"  data      {model.dataset[:12]}",
        f"  code      {git + dirty if git else 'not in git'}",
        f"  trainer   {model.trainer.plugin}",
        *[f"    {k} = {v}" for k, v in model.params.items()],
        f"  test split ({evaluation.rows:,} rows, 95 % intervals)",
        *[f"    {k:<18} {s.value:.4f}  [{s.low:.4f}, {s.high:.4f}]" for k, s in evaluation.metrics.items()],
    ]
    for name, scores in evaluation.slices.items():
        metric = evaluation.metric if evaluation.metric in scores else next(iter(scores), "")
        if metric:
            s = scores[metric]
            lines.append(f"    {name:<24} {metric} {s.value:.4f}  [{s.low:.4f}, {s.high:.4f}]  {s.rows:,} rows")
    lines += ["  gate", *[f"    {reason}" for reason in version.reasons or ("none declared",)]]
    lines += ["  declaration", *[f"    {line}" for line in str(version.config.get("text", "")).splitlines()]]
    return "\n".join(lines)


def _vouched(signed: Any) -> str:
    """Who vouches for a version, in words."""
    by = f"by key {signed.key[:12]}" if signed.key else "none"
    if signed.verified is None:
        return f"{by}; no public key is declared that verifies it" if signed.key else by
    return f"{by}, verified" if signed.verified else f"{by}; it may not answer: {signed.wrong}"


def _number(args: argparse.Namespace) -> int:
    try:
        return int(args.number)
    except (TypeError, ValueError):
        raise UsageError(
            f"versions {args.verb}: expected a version's number, got {args.number or 'nothing'}; see 'mlops versions'"
        ) from None


def _reason(args: argparse.Namespace) -> str:
    if not args.reason.strip():
        raise UsageError(f"versions {args.verb}: say why with --reason '...'; it is kept in the audit")
    return str(args.reason)
