"""The defaults list: each entry must name something that is there; a wrong one is told and mended.

The mend takes the nearest name, so that the rest of the declaration is checked as it was meant.
"""

from __future__ import annotations

import re
from typing import Any

from mlops_core.config.documents import Document, Spot
from mlops_core.config.presets import GROUPS, Presets
from mlops_core.contracts import record
from mlops_core.errors import did_you_mean, nearest


@record
class Chosen:
    """What a defaults list chose for a group, and where."""

    group: str
    option: str
    spot: Spot


class Defaults:
    """Walks the defaults lists from the primary config down. `overridden` are groups chosen on the command line."""

    def __init__(self, presets: Presets, overridden: dict[str, str | None]) -> None:
        self.presets, self.overridden = presets, overridden
        self.chosen: dict[str, Chosen] = {}
        self.entries: dict[str, Spot] = {}
        self._seen: set[str] = set()
        self._visit(presets.primary, "")
        for group, option in overridden.items():
            if option and group not in self.chosen:
                self._follow(f"{group}/{option}")

    def _visit(self, document: Document, group: str) -> None:
        node = document.keys().get("defaults")
        if node is None:
            return
        if node.id != "sequence":
            document.fault(document.at(node), "expected a list, one '- GROUP: OPTION' a line", "defaults")
            document.node.value = [(k, v) for k, v in document.node.value if k.value != "defaults"]
            return
        own = [item for item in node.value if item.value == "_self_"]
        for item in own[1:]:
            document.fault(document.at(item), "_self_ is there twice", "defaults")
        node.value = [item for item in node.value if item not in own[1:] and self._entry(document, group, item)]

    def _entry(self, document: Document, group: str, item: Any) -> bool:
        """Whether the entry can stay, mended or not."""
        if item.id == "scalar":
            return item.value == "_self_" or self._config(document, group, item)
        if item.id == "mapping" and len(item.value) == 1 and item.value[0][1].id in ("scalar", "sequence"):
            return self._choice(document, group, *item.value[0])
        document.fault(document.at(item), "expected GROUP: OPTION, or the name of a file beside this one", "defaults")
        return False

    def _config(self, document: Document, group: str, item: Any) -> bool:
        name = item.value.split("@")[0].removeprefix("optional ")
        full = _join(group, name)
        if self.presets.exists(full):
            self._follow(full)
            return True
        if item.value.startswith("optional "):
            return True
        known = self.presets.options(full.rpartition("/")[0]) - {"config"}
        document.fault(document.at(item), f"no file {full}.yaml is there", "defaults", did_you_mean(name, known))
        item.value = nearest(name, known)
        self._follow(_join(group, item.value))
        return bool(item.value)

    def _choice(self, document: Document, group: str, key: Any, value: Any) -> bool:
        words = key.value.split()
        name = words[-1].split("@")[0]
        full = _join(group, name)
        if full not in self.presets.groups:
            if "optional" in words:
                return True
            known = self.presets.groups
            document.fault(document.at(key), f"unknown group {name!r}", "defaults", did_you_mean(name, known))
            near = nearest(name, known)
            key.value = re.sub(re.escape(name), near, key.value, count=1)
            full = near
            if not near:
                return False
        if key.value in self.entries:
            first = self.entries[key.value]
            document.fault(document.at(key), f"{key.value!r} is chosen twice, first at {first}", "defaults")
            return False
        if "override" not in words:
            self.entries[key.value] = document.at(key)
        if value.id == "sequence":
            value.value = [v for v in value.value if self._option(document, full, v, words)]
            return True
        return self._option(document, full, value, words)

    def _option(self, document: Document, group: str, value: Any, words: list[str]) -> bool:
        name = str(value.value).removesuffix(".yaml")
        spot = document.at(value)
        if group in self.overridden:
            self.chosen[group] = Chosen(group=group, option=self.overridden[group] or "", spot=spot)
            self._follow(f"{group}/{self.overridden[group]}")
            value.value, value.tag, value.style = "null", "tag:yaml.org,2002:null", None
            return True
        lost = [k for k in re.findall(r"\$\{(.+?)\}", name) if k not in self.presets.groups]
        if lost:
            document.fault(spot, f"the interpolation '${{{lost[0]}}}' leads nowhere", f"defaults.{group}")
            return False
        if value.tag == "tag:yaml.org,2002:null" or "${" in name:
            self.chosen[group] = Chosen(group=group, option="", spot=spot)
            return True
        known = self.presets.options(group)
        if name == "???":
            document.fault(spot, f"missing mandatory value, choose a {group}", f"defaults.{group}", _list(known))
            return False
        if name not in known and "optional" not in words:
            message, suggestion = self.presets.unknown(group, name)
            document.fault(spot, message, f"defaults.{group}", suggestion)
            value.value = name = nearest(name, known)
            if not name:
                self.chosen[group] = Chosen(group=group, option="?", spot=spot)
                return False
        self.chosen[group] = Chosen(group=group, option=name, spot=spot)
        self._follow(f"{group}/{name}")
        return True

    def _follow(self, name: str) -> None:
        path = self.presets.find(name)
        if path and name not in self._seen:
            self._seen.add(name)
            self._visit(self.presets.document(path), name.strip("/").rpartition("/")[0])

    def unsettled(self) -> set[str]:
        """Groups whose choice named nothing near: what hangs on them cannot be checked."""
        return {g for g in GROUPS if g in self.chosen and self.chosen[g].option == "?"}


def _join(group: str, name: str) -> str:
    return name.strip("/") if name.startswith("/") or not group else f"{group}/{name}"


def _list(names: set[str]) -> str:
    return "expected one of: " + ", ".join(sorted(names))
