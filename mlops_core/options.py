"""The options of a plugin are the fields of its dataclass: told in words, and checked before any work.

pydantic does the checking, in strict mode on JSON: a list may become a tuple and text may become a path, but
"3" never becomes 3. A field may narrow its type: `Annotated[float, Ge(0), Lt(1)]` (annotated_types or
pydantic.Field), `Literal["a", "b"]`, a nested dataclass.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mlops_core.contracts import plain, record
from mlops_core.errors import MlopsError, PluginError, Problem, did_you_mean


@record
class Option:
    """One option of a plugin: its name, type in words, default (None where it is required) and manual line."""

    name: str
    type: str
    default: Any
    required: bool
    doc: str


def options_of(cls: type) -> tuple[Option, ...]:
    """The options of a plugin class; a line 'name: text' in its docstring documents a field without metadata."""
    hints = typing.get_type_hints(cls, include_extras=True)
    manual = _manual(cls)
    return tuple(
        Option(
            name=f.name,
            type=type_words(hints[f.name]),
            default=_default(f),
            required=f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
            doc=f.metadata.get("doc", manual.get(f.name, "")),
        )
        for f in dataclasses.fields(cls)
        if f.init
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def _manual(cls: type) -> dict[str, str]:
    """Option -> its line; lines indented deeper go on with it."""
    found = re.findall(r"^( *)(\w+): (.+(?:\n\1 +\S.*)*)$", inspect.getdoc(cls) or "", re.M)
    return {name: " ".join(text.split()) for _, name, text in found}


_WORDS = {"str": "text", "Path": "path", "Any": "any value", "NoneType": "null", "int": "whole number"}
_WORDS |= {"float": "number", "bool": "true or false", "dict": "mapping", "list": "list", "tuple": "list"}


def type_words(hint: Any) -> str:
    """A type in words a user knows.

    >>> type_words(tuple[int, ...] | None)
    'list of whole number or null'
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return ", ".join([type_words(args[0]), *_bounds(args[1:])])
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, args))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_words(a) for a in args)
    if _is(origin, Mapping):
        return f"mapping of {type_words(args[1])}" if args[1] not in (Any, object) else "mapping"
    if _is(origin, Iterable):
        return f"list of {type_words(args[0])}" if args and args[0] not in (Any, object) else "list"
    name = getattr(hint, "__name__", str(hint))
    return "mapping" if dataclasses.is_dataclass(hint) else _WORDS.get(name, name)


def _is(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)


_LIMITS = {
    "ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}",
    "multiple_of": "a multiple of {}", "min_length": "at least {} long",
    "max_length": "at most {} long", "pattern": "matching {!r}",
}  # fmt: skip


def _bounds(extras: Iterable[Any]) -> Iterator[str]:
    """Annotated limits in words; pydantic.Field holds its own in `metadata`."""
    for extra in extras:
        yield from _bounds(getattr(extra, "metadata", ()))
        for name, words in _LIMITS.items():
            value = getattr(extra, name, None)
            if value is not None:
                yield words.format(value)


def check_options(cls: type, options: Mapping[str, Any]) -> list[Problem]:
    """Everything wrong with `options` as fields of `cls`, nested dataclasses included."""
    import pydantic

    try:
        make(cls, options)
    except pydantic.ValidationError as error:
        found = [_problem(cls, plain(options), dict(e)) for e in error.errors(include_url=False)]
        return list({(p.key, p.message): p for p in found}.values())
    except (TypeError, ValueError, MlopsError) as error:
        return [Problem(place="", key="", message=str(error))]
    return []


def make(cls: type, options: Mapping[str, Any]) -> Any:
    """The object of class `cls` made of its options. Raises what pydantic or its own checks raise."""
    return _adapter(cls).validate_json(json.dumps(plain(options, reveal=True), default=str), strict=True)


@functools.cache
def _adapter(cls: type) -> Any:
    import pydantic

    _forbid_unknown(cls)
    try:
        return pydantic.TypeAdapter(cls)
    except (pydantic.errors.PydanticUserError, NameError) as error:
        raise PluginError(f"the options of {cls.__module__}.{cls.__qualname__} cannot be checked: {error}") from error


def _forbid_unknown(hint: Any) -> None:
    """pydantic reads a plain dataclass's configuration from this attribute, nested ones' from their own."""
    for inner in typing.get_args(hint):
        _forbid_unknown(inner)
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)) or "__pydantic_config__" in vars(hint):
        return
    hint.__pydantic_config__ = {"extra": "forbid", "arbitrary_types_allowed": True}  # type: ignore[attr-defined]
    for inner in typing.get_type_hints(hint, include_extras=True).values():
        _forbid_unknown(inner)


_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")


def _problem(cls: type, options: Any, error: dict[str, Any]) -> Problem:
    """pydantic's finding in our words, at the dotted key a user wrote."""
    path, hint, given = _walk(cls, options, error["loc"])
    kind, key, inner = error["type"], ".".join(path), bare(hint)
    if kind in _UNKNOWN:
        name = str(error["loc"][-1])
        fields = _given(inner) if dataclasses.is_dataclass(inner) else []
        return Problem(
            place="", key=".".join([*path, name]), message="unknown option", suggestion=did_you_mean(name, fields)
        )
    if kind in _MISSING:
        return Problem(place="", key=key, message=f"missing mandatory value, expected {type_words(hint)}")
    if kind == "literal_error":
        choices = [str(c) for c in typing.get_args(inner)]
        return Problem(
            place="", key=key, message=f"unknown value {given!r}", suggestion=did_you_mean(str(given), choices)
        )
    if kind in ("value_error", "assertion_error"):
        return Problem(place="", key=key, message=error["msg"].split(", ", 1)[-1])
    return Problem(place="", key=key, message=f"expected {type_words(hint)}, got {_shown(given)}")


def _walk(hint: Any, value: Any, loc: tuple[Any, ...]) -> tuple[list[str], Any, Any]:
    """The keys a user wrote on the way to `loc`, the type that stands there, and the value given.

    pydantic adds the names of a union's members to the way; there the walk ends, for the union as a whole
    is what the user is told about.
    """
    path: list[str] = []
    for part in loc:
        below = _below(bare(hint), part)
        if below is None:
            break
        path.append(str(part))
        hint, value = below, _inside(value, part)
    return path, hint, value


def _given(cls: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.init]


def _inside(value: Any, part: Any) -> Any:
    try:
        return value[part]
    except (LookupError, TypeError):
        return None


def _below(hint: Any, part: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return typing.get_type_hints(hint, include_extras=True).get(str(part)) if part in _given(hint) else None
    if _is(origin, Mapping):
        return args[1]
    if _is(origin, tuple) and isinstance(part, int):
        return args[0] if len(args) == 2 and args[1] is Ellipsis else args[min(part, len(args) - 1)]
    return args[0] if _is(origin, Iterable) and args and isinstance(part, int) else None


def bare(hint: Any) -> Any:
    """`hint` without Annotated and without 'or null': what pydantic leaves out of the way to an error."""
    if typing.get_origin(hint) is typing.Annotated:
        return bare(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [a for a in typing.get_args(hint) if a is not type(None)]
        return bare(members[0]) if len(members) == 1 else hint
    return hint


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
