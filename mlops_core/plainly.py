"""Builds a plugin from options that fit its fields as they are, without pydantic, whose import costs more than
a whole run that finds nothing due. Whatever is not plainly right is left to pydantic: it says what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class NotPlain(Exception):
    """These options need pydantic: to convert, to hold a bound, or to say what is wrong."""


BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "annotated_types.Ge": lambda value, bound: value >= bound.ge,
    "annotated_types.Gt": lambda value, bound: value > bound.gt,
    "annotated_types.Le": lambda value, bound: value <= bound.le,
    "annotated_types.Lt": lambda value, bound: value < bound.lt,
    "annotated_types.MinLen": lambda value, bound: len(value) >= bound.min_length,
    "annotated_types.MaxLen": lambda value, bound: len(value) <= bound.max_length,
}


def build(cls: type, options: Mapping[str, Any]) -> Any:
    """An instance of dataclass `cls`, equal to the one that pydantic's strict mode makes. Raises NotPlain."""
    if not isinstance(options, Mapping):
        raise NotPlain
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    needed = {
        n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if options.keys() - fields.keys() or needed - options.keys():
        raise NotPlain
    hints = typing.get_type_hints(cls, include_extras=True) if options else {}
    fitted = {name: _fit(hints[name], value) for name, value in options.items()}
    try:
        return cls(**fitted)
    except Exception as error:  # the plugin's own check: pydantic's road tells it as a problem
        raise NotPlain from error


def _fit(hint: Any, value: Any) -> Any:
    kind = type(value)
    if hint is Any:
        return value
    if hint in (str, int, bool):
        return _same(kind is hint, value)
    if hint is float:
        return float(_same(kind in (float, int), value))
    if hint is Path:
        return Path(_same(kind is str or isinstance(value, Path), value))
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _bounded(args[0], args[1:], value)
    if origin is typing.Literal:
        return _same(any(value == a and kind is type(a) for a in args), value)
    if origin in (typing.Union, types.UnionType):
        return _one_of(args, value)
    if origin is tuple and len(args) == 2 and args[1] is ...:
        return tuple(_fit(args[0], v) for v in _same(kind in (list, tuple), value))
    if origin is list:
        return [_fit(args[0], v) for v in _same(kind in (list, tuple), value)]
    if origin in (dict, Mapping) and args[0] is str:
        return {_fit(str, k): _fit(args[1], v) for k, v in _same(isinstance(value, Mapping), value).items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value)
    raise NotPlain


def _one_of(hints: tuple[Any, ...], value: Any) -> Any:
    if value is None:
        return _same(type(None) in hints, value)
    fits = []
    for hint in hints:
        with contextlib.suppress(NotPlain):
            fits.append(_fit(hint, value))
    if len(fits) != 1:  # pydantic knows which member of a union fits best
        raise NotPlain
    return fits[0]


def _bounded(hint: Any, bounds: tuple[Any, ...], value: Any) -> Any:
    fitted = _fit(hint, value)
    for bound in bounds:
        holds = BOUNDS.get(f"{type(bound).__module__}.{type(bound).__name__}")
        if holds is None:
            raise NotPlain
        _same(holds(fitted, bound), fitted)
    return fitted


def _same(fits: bool, value: Any) -> Any:
    if not fits:
        raise NotPlain
    return value
