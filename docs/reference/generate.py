"""Writes the reference from the code: `python docs/reference/generate.py` (a test holds the pages equal to it)."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import typing
from pathlib import Path

from mlops_core import contracts, errors, hookspecs, metrics
from mlops_core.cli.main import COMMANDS, EXIT_CODES, parser_of
from mlops_core.contracts import KINDS
from mlops_core.options import options_of
from mlops_core.plugins import Plugins

HERE = Path(__file__).parent
RECORDS = ("data", "training", "versions", "serving", "running", "declaration")
NOTE = "<!-- Made by docs/reference/generate.py from the code; do not edit. -->\n\n"


def hooks() -> str:
    about = "Every place to plug in (`mlops_core/hookspecs.py`). Mark yours with `mlops_core.hookimpl`."
    lines = ["# Hooks", "", about, ""]
    for name, function in vars(hookspecs).items():
        if name.startswith("mlops_"):
            lines += [f"## `{name}{inspect.signature(function)}`", "", inspect.getdoc(function) or "", ""]
    return "\n".join(lines)


def plugins() -> str:
    lines = ["# Plugins and their options", "", "`mlops plugins show NAME` prints the same for what is installed.", ""]
    ours = [o for o in Plugins().all() if o.distribution == "mlops-core-framework"]
    for kind in KINDS:
        for offer in (o for o in ours if o.kind == kind):
            lines += [f"## {kind}: `{offer.name}`", "", manual(offer.cls), ""]
            options = options_of(offer.cls)
            if options:
                lines += ["| option | type | default | |", "|---|---|---|---|"]
                lines += [f"| `{o.name}` | {cell(o.type)} | {cell(default(o))} | {cell(o.doc)} |" for o in options]
                lines.append("")
    return "\n".join(lines)


def commands() -> str:
    lines = ["# Command line", "", EXIT_CODES.replace("\n", " ") + ".", ""]
    for name, summary in COMMANDS.items():
        text = parser_of(name).format_help().partition("\nexit codes:")[0].rstrip()
        lines += [f"## `mlops {name}`", "", summary[0].upper() + summary[1:] + ".", "", "```", text, "```", ""]
    return "\n".join(lines)


def records() -> str:
    lines = ["# Records", "", "What passes from room to room (`mlops_core/contracts`): frozen, JSON-able.", ""]
    known = [cls for cls in vars(contracts).values() if isinstance(cls, type) and dataclasses.is_dataclass(cls)]
    for room in RECORDS:
        home = importlib.import_module(f"{contracts.__name__}.{room}")
        lines += [f"## {room.capitalize()}", "", inspect.getdoc(home) or "", ""]
        for cls in (cls for cls in known if cls.__module__ == home.__name__):
            doc = inspect.getdoc(cls) or ""
            doc = "" if doc.startswith(f"{cls.__name__}(") else doc
            lines += [f"### `{cls.__name__}`", "", doc, "", "| field | type |", "|---|---|"]
            hints = typing.get_type_hints(cls)
            lines += [f"| `{f.name}` | {cell(type_text(hints[f.name]))} |" for f in dataclasses.fields(cls)]
            lines.append("")
    return "\n".join(lines)


def scores() -> str:
    lines = ["# Metrics", "", "| name | better | tasks | |", "|---|---|---|---|"]
    lines += [f"| `{m.name}` | {m.mode} | {', '.join(m.tasks)} | {m.summary} |" for m in metrics.METRICS.values()]
    return "\n".join([*lines, ""])


def failures() -> str:
    return "\n".join(["# Errors", "", "```", inspect.getdoc(errors) or "", "```", ""])


def manual(cls: type) -> str:
    """The docstring without the option lines, which the table has."""
    names = {f.name for f in dataclasses.fields(cls)}
    kept, dropping = [], False
    for line in (inspect.getdoc(cls) or "").splitlines():
        found = re.match(r"(\s*)(\w+): ", line)
        dropping = bool(found and found[2] in names) or (dropping and line.startswith(" " * 2))
        if not dropping:
            kept.append(line)
    return "\n".join(kept).strip()


def default(option: typing.Any) -> str:
    if option.required:
        return "required"
    if dataclasses.is_dataclass(option.default):
        return ", ".join(f"{f.name}: {getattr(option.default, f.name)}" for f in dataclasses.fields(option.default))
    return "''" if option.default == "" else str(option.default)


def type_text(hint: typing.Any) -> str:
    return re.sub(r"(\w+\.)+", "", str(hint) if typing.get_origin(hint) else getattr(hint, "__name__", str(hint)))


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES = {"hooks": hooks, "plugins": plugins, "cli": commands, "records": records, "metrics": scores, "errors": failures}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / f"{page}.md").write_text(NOTE + make())
        print(f"docs/reference/{page}.md")
