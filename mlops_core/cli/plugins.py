"""What is installed, its options and manual; and a start for a plugin of your own.

mlops plugins [list] [--kind KIND]                     every plugin: kind, name, where it comes from, what it is
mlops plugins show [KIND] NAME                         its manual and its options
mlops plugins new NAME [--kind trainer] [--out DIR]    a new distribution whose own tests pass
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.cli.arguments import add_json, console, print_json
from mlops_core.contracts import KINDS, plain
from mlops_core.errors import PluginError, UsageError, did_you_mean, nearest

if TYPE_CHECKING:
    from mlops_core.plugins import Offer, Plugins

SUMMARY = "what is installed, its options and manual; scaffold a new one"
VERBS = ("list", "show", "new")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", nargs="?", default="list", help=", ".join(VERBS))
    parser.add_argument("name", nargs="*", help="the plugin's name (show, new); show also takes KIND NAME")
    parser.add_argument("--kind", default="", help=f"only this kind: {', '.join(KINDS)}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write it (new; default: mlops-NAME)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.verb not in VERBS:
        raise UsageError(f"plugins: unknown verb {args.verb!r}; {did_you_mean(args.verb, VERBS)}")
    if args.verb == "show" and len(args.name) == 2 and not args.kind:
        args.kind = args.name.pop(0)
    if len(args.name) > 1:
        raise UsageError(f"plugins {args.verb}: one name at a time, got {' '.join(args.name)}")
    args.name = "".join(args.name)
    if args.kind and args.kind not in KINDS:
        raise UsageError(f"plugins: unknown kind {args.kind!r}; {did_you_mean(args.kind, KINDS)}")
    if args.verb != "list" and not args.name:
        raise UsageError(f"plugins {args.verb}: which one? give its name")
    return int(globals()[f"_{args.verb}"](args))


def _list(args: argparse.Namespace) -> int:
    from mlops_core import api

    if args.name:
        raise UsageError(f"plugins list takes no name; 'mlops plugins show {args.name}' shows one")
    plugins = api.plugins()
    offers = [o for o in plugins.all() if args.kind in ("", o.kind)]
    if args.json:
        print_json({"plugins": [_plain(o) for o in offers], "broken": plugins.broken})
        return 0
    _print_table(offers)
    _print_faults(plugins, offers)
    return 0


def _print_table(offers: Sequence[Offer]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("kind", "name", "from", "what it does"):
        table.add_column(title, no_wrap=title in ("kind", "name"))
    for offer in offers:
        table.add_row(offer.kind, offer.name, f"{offer.distribution} {offer.version}", offer.summary)
    none = "no plugins are installed: run 'python -m pip install mlops-core-framework' (or '-e .' in a checkout)"
    _wide().print(table if offers else none)


def _print_faults(plugins: Plugins, offers: Sequence[Offer]) -> None:
    seen: set[tuple[str, str]] = set()
    told = []
    for offer in offers:
        if (offer.kind, offer.name) in seen:
            told.append(f"{offer.kind} {offer.name!r} is claimed twice and cannot be used; uninstall one of them")
        seen.add((offer.kind, offer.name))
    told += [f"{b.entry} of {b.distribution} could not be used: {b.reason}" for b in plugins.broken]
    for line in ["", *told] if told else []:
        print(line)


def _show(args: argparse.Namespace) -> int:
    from mlops_core import api

    plugins = api.plugins()
    offers = [o for o in plugins.all() if o.name == args.name and args.kind in ("", o.kind)]
    if not offers:
        raise _unknown(plugins, args)
    if args.json:
        print_json([_plain(o) | {"manual": o.manual, "options": _options(o)} for o in offers])
        return 0
    for index, offer in enumerate(offers):
        if index:
            print()
        _print_offer(offer)
    return 0


def _unknown(plugins: Plugins, args: argparse.Namespace) -> PluginError:
    pool = {o.name for o in plugins.all() if args.kind in ("", o.kind)}
    near = nearest(args.name, pool)
    hint = f"did you mean {near!r}?" if near else "see 'mlops plugins list'"
    broken = "".join(f"; plugin {b.entry!r} could not be used: {b.reason}" for b in plugins.broken)
    return PluginError(f"unknown {args.kind or 'plugin'} {args.name!r}; {hint}{broken}")


def _print_offer(offer: Offer) -> None:
    from rich.table import Table

    from mlops_core.options import options_of

    print(f"{offer.kind} {offer.name}  ({offer.distribution} {offer.version}, {offer.cls.__module__})\n")
    options = options_of(offer.cls)
    print(_manual(offer.manual, {o.name for o in options}))
    if not options:
        print("\nIt has no options.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("option", "type", "default", "what it does"):
        table.add_column(title, no_wrap=title == "option")
    for o in options:
        table.add_row(o.name, o.type, "required" if o.required else _shown(o.default), o.doc)
    print()
    _wide().print(table, markup=False)


def _wide() -> Any:
    """A console that wraps cells for a terminal, and leaves lines whole for a pipe."""
    found = console()
    if not found.is_terminal:
        found.width = 1000
    return found


def _manual(manual: str, options: set[str]) -> str:
    """The manual without the lines that the table of options tells."""
    kept, inside = [], False
    for line in manual.splitlines():
        name = line.split(":")[0]
        inside = (name in options) or (inside and line.startswith(" "))
        if not inside:
            kept.append(line)
    return "\n".join(kept).strip()


def _shown(default: Any) -> str:
    import json

    value = plain(default)
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def _plain(offer: Offer) -> dict[str, Any]:
    facts = {"kind": offer.kind, "name": offer.name, "distribution": offer.distribution, "version": offer.version}
    return facts | {"class": f"{offer.cls.__module__}.{offer.cls.__qualname__}", "summary": offer.summary}


def _options(offer: Offer) -> list[dict[str, Any]]:
    from mlops_core.options import options_of

    return [dict(plain(o)) for o in options_of(offer.cls)]


def _new(args: argparse.Namespace) -> int:
    from mlops_core import scaffold

    kind = args.kind or "trainer"
    out = args.out or Path(f"mlops-{args.name.replace('_', '-')}")
    files = scaffold.new(args.name, kind, out)
    if args.json:
        print_json({"folder": out, "files": files})
        return 0
    for file in files:
        print(f"  {file}")
    print(f"a {kind} in {out}; next: cd {out}; python -m pip install -e .; mlops plugins show {args.name}; pytest")
    return 0
