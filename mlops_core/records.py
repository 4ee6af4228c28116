"""What a record is: a frozen dataclass that becomes plain data and comes back. Standard library only."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

C = TypeVar("C")
field = dataclasses.field


@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[C]) -> type[C]:
    """A frozen dataclass with slots whose fields are given by name."""
    return dataclasses.dataclass(frozen=True, slots=True, kw_only=True)(cls)


class Secret(str):
    """Text that holds something from the environment: used as it is, written down as its `reference`."""

    reference: str

    def __new__(cls, value: str, reference: str) -> Secret:
        made = super().__new__(cls, value)
        made.reference = reference
        return made

    def __repr__(self) -> str:
        return repr(self.reference)

    def __reduce__(self) -> tuple[type[Secret], tuple[str, str]]:
        return Secret, (str.__str__(self), self.reference)


def plain(value: Any, *, reveal: bool = False) -> Any:
    """`value` as JSON-able data: records become dicts, paths strings, tuples lists.

    A `Secret` becomes its reference; with `reveal` its value: only to use it, never to keep it.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), reveal=reveal) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v, reveal=reveal) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        ordered = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(v, reveal=reveal) for v in ordered]
    if isinstance(value, Secret):
        return str.__str__(value) if reveal else value.reference
    if isinstance(value, Path):
        return str(value)
    return value


R = TypeVar("R")


def restore(cls: type[R], data: Mapping[str, Any]) -> R:
    """The record of class `cls` that `plain` turned into `data`. Unknown keys of a newer writer are ignored."""
    hints = _hints(cast(Any, cls))
    return cls(**{name: _restore(hint, data[name]) for name, hint in hints.items() if name in data})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _restore(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if value is None or hint is Any or hint is object:
        return value
    if origin in (typing.Union, types.UnionType):
        return _restore(next(a for a in args if a is not type(None)), value)
    if origin is tuple:
        inner = args[0] if args else Any
        return tuple(_restore(inner, v) for v in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {k: _restore(args[1], v) for k, v in value.items()} if args else dict(value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return restore(cast(type, hint), value)
    return Path(value) if hint is Path else value
