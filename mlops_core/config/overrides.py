"""Overrides of the command line, in Hydra's grammar, read one by one so that each wrong one is told.

A value is set whether its key is there or not: the schema judges names, with a suggestion, so nobody needs
Hydra's '+'. A group is chosen whether the defaults list has it or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mlops_core.config.documents import Path_, Spot
from mlops_core.config.grammar import readable
from mlops_core.config.presets import Presets
from mlops_core.contracts import record
from mlops_core.errors import Problem

_CALL = re.compile(r"(\+{0,2}tuner\.space\.[\w.]+|[+\w.]+(?==\s*\$\{))=\s*(\w+\(.*|\$\{.*)", re.S)
_KEY = re.compile(r"[+~]{0,2}[\w./@:-]+")
_FORM = "expected KEY=VALUE, GROUP=OPTION or ~KEY"


@record
class Override:
    """One override as understood: `value` sets `key`, `group` chooses an option, `delete` takes away."""

    kind: str
    key: str
    line: str
    spot: Spot
    option: str | None = None
    value: Any = None

    @property
    def path(self) -> Path_:
        return tuple(self.key.split("."))


class Overrides:
    """All overrides given, and what is wrong with them."""

    def __init__(self, given: Iterable[str], presets: Presets) -> None:
        self.presets = presets
        self.problems: list[Problem] = []
        self.found: list[Override] = []
        for number, text in enumerate(given, 1):
            self._read(text, Spot(words=f"command line, override {number}", column=1, text=text))

    @property
    def groups(self) -> dict[str, str | None]:
        """Group -> option chosen here; None where it is taken away."""
        return {o.key: o.option for o in self.found if o.kind == "group"}

    def lines(self, chosen: Iterable[str]) -> list[str]:
        """What Hydra is told, given the groups that the defaults lists choose by themselves."""
        there = set(chosen)
        last = {o.key: o for o in self.found if o.kind == "group"}
        groups = [f"{'' if k in there else '+'}{k}={o.option}" for k, o in last.items() if o.option]
        groups += [f"~{k}" for k, o in last.items() if not o.option and k in there]
        return groups + [o.line for o in self.found if o.kind == "value"]

    def _read(self, text: str, spot: Spot) -> None:
        name, equals, value = text.partition("=")
        if not equals and not name.startswith("~"):
            self._refuse(spot, name, f"cannot be read, {_FORM}")
        elif not _KEY.fullmatch(name):
            self._refuse(spot, name, f"this is no key, {_FORM}")
        elif (parsed := _parsed(text)) is None:
            hint = f"quote it: '{name}=\"{value}\"'"
            self._refuse(spot, name.lstrip("+~"), f"the value {value!r} cannot be read", hint)
        else:
            self._take(parsed.key_or_group, parsed, spot)

    def _take(self, key: str, parsed: Any, spot: Spot) -> None:
        if key.split(".")[0] == "hydra" or key.startswith("hydra/"):
            self._refuse(spot, key, "Hydra's own settings mean nothing here")
        elif parsed.is_sweep_override():
            self._refuse(spot, key, "a sweep means nothing here", _swept(spot.text, key))
        elif not readable(parsed.value()):
            self._refuse(spot, key, f"the interpolation {parsed.value()!r} cannot be read, expected ${{KEY}}")
        elif key in self.presets.groups and not isinstance(parsed.value(), dict):
            self._group(key, None if parsed.is_delete() else parsed.value(), spot)
        elif parsed.is_delete():
            self._keep("delete", key, "", spot)
        else:
            self._keep("value", key, "++" + str(parsed.input_line).lstrip("+"), spot, value=parsed.value())

    def _group(self, key: str, option: Any, spot: Spot) -> None:
        name = None if option is None else str(option).removesuffix(".yaml")
        if name is not None and name not in self.presets.options(key):
            self._refuse(spot, key, *self.presets.unknown(key, name))
        else:
            self._keep("group", key, "", spot, name)

    def _keep(self, kind: str, key: str, line: str, spot: Spot, option: str | None = None, value: Any = None) -> None:
        self.found.append(Override(kind=kind, key=key, line=line, spot=spot, option=option, value=value))

    def _refuse(self, spot: Spot, key: str, message: str, suggestion: str = "") -> None:
        self.problems.append(spot.problem(key, message, suggestion))


def _parsed(text: str) -> Any:
    """The override as Hydra reads it; None where it cannot."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    call = _CALL.fullmatch(text)
    try:
        return OverridesParser.create().parse_override(_quoted(call) if call else text)
    except HydraException:
        return None


def _quoted(call: re.Match[str]) -> str:
    escaped = call[2].replace("\\", "\\\\").replace('"', '\\"')
    return f'{call[1]}="{escaped}"'


def _swept(text: str, key: str) -> str:
    value = text.partition("=")[2]
    if "(" in value:
        return f"to search over it declare tuner.space.{key}={value}"
    return f"for a list write {key}=[{value}], for text {key}=\\'{value}\\'"
