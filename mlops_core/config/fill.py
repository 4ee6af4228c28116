"""What a declaration leaves out: plugin names that a preset's name says, and defaults of options and keys."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_core.config.defaults import Chosen
from mlops_core.config.documents import Mark, Path_
from mlops_core.config.draft import Draft, Source, find
from mlops_core.config.overrides import Overrides
from mlops_core.config.presets import Presets
from mlops_core.config.schema import ORDER, SECTIONS, Keys, own
from mlops_core.contracts import Secret, plain
from mlops_core.errors import PluginError
from mlops_core.options import bare
from mlops_core.space import is_distribution


def settle(draft: Draft, overrides: Overrides, chosen: Mapping[str, Chosen], presets: Presets) -> None:
    """Flattens the search space, takes away what was deleted, and names plugins after their presets."""
    _flatten_space(draft)
    for group, option in overrides.groups.items():
        if option is None:
            draft.values.pop(group, None)
    for override in overrides.found:
        if override.kind == "delete":
            _delete(draft, override.key, override.spot)
    for group, choice in chosen.items():
        section = draft.values.get(group)
        if group in SECTIONS and isinstance(section, dict | None) and choice.option:
            _name(draft, group, choice, overrides, presets)


def _name(draft: Draft, group: str, choice: Chosen, overrides: Overrides, presets: Presets) -> None:
    section = draft.values.get(group) or {}
    if "plugin" not in section and choice.option in presets.plugins.names(group):  # type: ignore[arg-type]
        draft.values[group] = section = {"plugin": choice.option, **section}
    given = next((o for o in reversed(overrides.found) if o.kind == "group" and o.key == group), None)
    spot = given.spot if given else choice.spot
    kind: Any = "override" if given else "file" if spot.words == draft.top.words else "preset"
    source = Source(kind=kind, mark=Mark(key=spot, value=spot))
    draft.sources.setdefault((group,), source)
    if "plugin" in section:
        draft.sources.setdefault((group, "plugin"), source)


def _delete(draft: Draft, key: str, spot: Any) -> None:
    path = find(draft.values, key)
    if path is None:
        draft.problems.append(spot.problem(key, "nothing is there to take away"))
        return
    holder = draft.values
    for part in path[:-1]:
        holder = holder[part]
    del holder[path[-1]]


def _flatten_space(draft: Draft) -> None:
    """Nested keys of tuner.space become dotted ones, as an override writes them."""
    tuner = draft.values.get("tuner")
    if not (isinstance(tuner, dict) and isinstance(tuner.get("space"), dict)):
        return
    flat: dict[str, Any] = {}

    def visit(value: Any, path: Path_) -> None:
        if path and (is_distribution(value) or not value):
            name = ".".join(path)
            flat[name] = value
            if len(path) > 1 and (source := draft.source(("tuner", "space", *path))):
                draft.sources[("tuner", "space", name)] = source
            return
        for key, inner in value.items():
            visit(inner, (*path, str(key)))

    visit(tuner["space"], ())
    tuner["space"] = flat


def fill(draft: Draft, presets: Presets) -> None:
    """Adds every default, so that what is declared is whole and its origins are known."""
    for key in ("gate", "slices", "observers", "trust", "rollout", "privacy", "store", "signing", "seed"):
        if draft.values.get(key, ...) is None:
            del draft.values[key]
    _fields(draft, Keys, draft.values, (), "default of mlops_core")
    draft.values = {k: draft.values[k] for k in dict.fromkeys((*ORDER, *draft.values)) if k in draft.values}
    for section in SECTIONS:
        value = draft.values.get(section)
        if isinstance(value, dict):
            _fields(draft, own(section), value, (section,), "default of mlops_core")
            _plugin(draft, presets, section, value, (section,), value.get("plugin"))
    observers = draft.values.get("observers")
    observers = observers if isinstance(observers, dict) else {}
    for name in observers:
        observers[name] = {} if observers[name] is None else observers[name]
        _plugin(draft, presets, "observer", observers[name], ("observers", name), name)


def _plugin(draft: Draft, presets: Presets, kind: Any, value: Any, path: Path_, name: Any) -> None:
    try:
        cls = presets.plugins.offer(kind, str(name)).cls
    except PluginError:  # told where sections are checked
        return
    if isinstance(value, dict):
        _fields(draft, cls, value, path, f"default of {kind} {name!r}")


def _fields(draft: Draft, cls: Any, value: dict[str, Any], path: Path_, words: str) -> None:
    hints = typing.get_type_hints(cls, include_extras=True)
    for f in dataclasses.fields(cls):
        below = (*path, f.name)
        if f.name not in value:
            default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            if default is dataclasses.MISSING or not f.init:
                continue
            value[f.name] = plain(default)
            draft.default(below, words)
        elif isinstance(value[f.name], dict) and dataclasses.is_dataclass(bare(hints[f.name])):
            _fields(draft, bare(hints[f.name]), value[f.name], below, words)


def absolute(hint: Any, value: Any, root: Path) -> Any:
    """`value` of type `hint` with every path in it from the project's folder; URLs stay as they are."""
    inner = bare(hint)
    if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
        hints = typing.get_type_hints(inner, include_extras=True)
        return {k: absolute(hints.get(k, Any), v, root) for k, v in value.items()}
    if isinstance(value, list):
        args = [a for a in typing.get_args(inner) if a is not Ellipsis]
        return [absolute(args[0], v, root) if args else v for v in value]
    if isinstance(value, Mapping):
        args = list(typing.get_args(inner))
        return {k: absolute(args[1], v, root) for k, v in value.items()} if len(args) == 2 else value
    names_path = inner is Path or Path in typing.get_args(inner)
    if not names_path or not isinstance(value, str) or "://" in value:
        return value
    found = str(root / value)
    return Secret(found, value.reference) if isinstance(value, Secret) else found
