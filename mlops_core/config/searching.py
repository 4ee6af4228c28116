"""The search space against the trainer: each key an option of it, each value one that the option may have."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from mlops_core.config.draft import Draft
from mlops_core.config.presets import Presets
from mlops_core.contracts import Choice, Distribution, Space
from mlops_core.errors import PluginError, did_you_mean
from mlops_core.options import bare, check_options
from mlops_core.space import WHEN, edges, parse, wrong_conditions

PREFIX = "trainer."


def check_space(draft: Draft, presets: Presets, trainer: Choice | None, space: Mapping[str, Any]) -> None:
    if not space:
        hint = "name an option, such as trainer.lr: loguniform(1e-4, 1e-1)"
        draft.say(("tuner", "space"), "the search space is empty", hint)
    cls = None
    if trainer is not None:
        try:
            cls = presets.plugins.offer("trainer", trainer.plugin).cls
        except PluginError:  # told where the trainer is checked
            trainer = None
    parsed = {str(k): _dimension(draft, trainer, cls, str(k), v) for k, v in space.items()}
    found = {k: v for k, v in parsed.items() if v is not None}
    wrong = [w for w in wrong_conditions(found) if w[1] not in parsed or w[1] in found]  # the rest is told already
    for key, other, message, hint in wrong:
        draft.say(("tuner", "space", key, WHEN, other), message, hint)
    if trainer and cls and not wrong:
        for key, d in found.items():
            _values(draft, _conditioned(trainer, found, key), cls, key, edges(d))


def _conditioned(trainer: Choice, space: Space, key: str) -> Choice:
    """The trainer with options under which the dimension is there."""
    for other, values in space[key].when.items():
        if other in space:
            trainer = _conditioned(trainer, space, other)
            trainer = Choice(plugin=trainer.plugin, options=_with(trainer.options, _path(other), values[0]))
    return trainer


def _dimension(draft: Draft, trainer: Choice | None, cls: Any, key: str, value: Any) -> Distribution | None:
    at = ("tuner", "space", key)
    known = [PREFIX + o for o in dotted(cls)] if cls else []
    if cls and value is None and not key.startswith(PREFIX):
        draft.say(at, "a distribution is cut in two here", 'quote it: "loguniform(1e-4, 1e-1)"', key=True)
        return None
    if trainer and cls and not (key.startswith(PREFIX) and reaches(cls, key.removeprefix(PREFIX).split("."))):
        draft.say(at, f"no option of trainer {trainer.plugin!r}", did_you_mean(key, known), key=True)
        return None
    try:
        return parse(value)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        draft.say(at, message, hint)
        return None


def _values(draft: Draft, trainer: Choice, cls: Any, key: str, values: list[Any]) -> None:
    """Each edge is tried as the option's value, so that whatever checks the option checks the search."""
    name = key.removeprefix(PREFIX)
    for value in values:
        tried = _with(trainer.options, _path(key), value)
        for wrong in check_options(cls, tried):
            if wrong.key == name or wrong.key.startswith(f"{name}."):
                message = f"it reaches a value that {key} cannot have: {wrong.message}"
                draft.say(("tuner", "space", key), message, wrong.suggestion)
                return


def _path(key: str) -> list[str]:
    return key.removeprefix(PREFIX).split(".")


def _with(options: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    below = options.get(path[0])
    inner = value if len(path) == 1 else _with(below if isinstance(below, Mapping) else {}, path[1:], value)
    return {**options, path[0]: inner}


def dotted(cls: Any, prefix: str = "") -> Iterator[str]:
    """Every option of a plugin class by its dotted name, nested dataclasses included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for f in dataclasses.fields(cls):
        if f.init:
            inner = bare(hints[f.name])
            yield from dotted(inner, f"{prefix}{f.name}.") if dataclasses.is_dataclass(inner) else [prefix + f.name]


def reaches(hint: Any, path: list[str]) -> bool:
    """Whether `path` leads to an option: through nested dataclasses, and anywhere below a free mapping."""
    if not path:
        return True
    inner = bare(hint)
    if dataclasses.is_dataclass(inner):
        hints = typing.get_type_hints(inner, include_extras=True)
        return path[0] in hints and reaches(hints[path[0]], path[1:])
    members = typing.get_args(inner) or (inner,)
    if any(dataclasses.is_dataclass(m) for m in members):
        return any(dataclasses.is_dataclass(m) and reaches(m, path) for m in members)
    origins = {inner, typing.get_origin(inner), *map(typing.get_origin, members), *members}
    return any(o is Any or o is object or (isinstance(o, type) and issubclass(o, Mapping)) for o in origins)
