"""Find plugins, name them, list them, refuse them, build them.

Every plugin, ours included, comes through the entry-point group `mlops_core`. A broken one is remembered
and told when its name is asked for; it never takes the program down.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from mlops_core import hookspecs
from mlops_core.contracts import KINDS, Choice, Kind, plain, record
from mlops_core.errors import PluginError, Problem, did_you_mean


@record
class Option:
    """One option of a plugin: its name, type in words, default (None where it is required) and manual line."""

    name: str
    type: str
    default: Any
    required: bool
    doc: str


@record
class Offer:
    """A plugin that is installed: what offers it, and its class."""

    kind: Kind
    name: str
    cls: type
    distribution: str
    version: str
    package: str

    @property
    def manual(self) -> str:
        return inspect.getdoc(self.cls) or ""

    @property
    def summary(self) -> str:
        return self.manual.split("\n\n")[0].replace("\n", " ")


@record
class Broken:
    """An entry point that could not be used, and why."""

    entry: str
    distribution: str
    reason: str


class Plugins:
    """The plugins installed here: `names`, `offer`, `options`, `problems`, `build`, and `hook` to tell watchers."""

    def __init__(self, extra: Iterable[tuple[str, Any]] = ()) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.broken: list[Broken] = []
        self._offers: dict[tuple[str, str], list[Offer]] = {}
        for dist, entry in _entries():
            self._load(entry.name, lambda e=entry: e.load(), dist.metadata["Name"], dist.version)
        for name, module in extra:
            self._load(name, lambda m=module: m, name, "0")

    @property
    def hook(self) -> Any:
        return self.manager.hook

    def names(self, kind: Kind) -> tuple[str, ...]:
        return tuple(sorted(name for k, name in self._offers if k == kind))

    def all(self) -> tuple[Offer, ...]:
        return tuple(offer for _, offers in sorted(self._offers.items()) for offer in offers)

    def offer(self, kind: Kind, name: str) -> Offer:
        """The one plugin of that name. Raises PluginError: unknown (with the nearest), or claimed twice."""
        offers = self._offers.get((kind, name), [])
        if len(offers) > 1:
            claims = " and ".join(sorted(f"{o.distribution} {o.version} ({o.package})" for o in offers))
            raise PluginError(f"{kind} {name!r} is claimed by {claims}; uninstall one of them")
        if offers:
            return offers[0]
        hint = did_you_mean(name, self.names(kind))
        if not self._offers:
            hint = "no plugins are installed: run 'python -m pip install mlops-core-framework' (or '-e .' in a checkout)"
        broken = "".join(f"; plugin {b.entry!r} of {b.distribution} could not be used: {b.reason}" for b in self.broken)
        raise PluginError(f"unknown {kind} {name!r}; {hint}{broken}")

    def options(self, kind: Kind, name: str) -> tuple[Option, ...]:
        """The options of a plugin, in the order of its fields."""
        return options_of(self.offer(kind, name).cls)

    def problems(self, kind: Kind, choice: Choice) -> tuple[Problem, ...]:
        """Everything wrong with the options of `choice`; `Problem.key` is the dotted option, `place` is empty."""
        return tuple(check_options(self.offer(kind, choice.plugin).cls, choice.options))

    def build(self, kind: Kind, choice: Choice) -> Any:
        """The plugin, made of its options. Raises PluginError with every wrong option."""
        offer = self.offer(kind, choice.plugin)
        wrong = check_options(offer.cls, choice.options)
        if wrong:
            raise PluginError(
                "\n".join([f"{kind} {choice.plugin!r} cannot be built", *(f"{p.key}: {p.message}" + (f"; {p.suggestion}" if p.suggestion else "") for p in wrong)])
            )
        return _validate(offer.cls, choice.options)

    def watch(self, observers: Iterable[Any]) -> None:
        """Registers built observers, so that they are told what happens."""
        for observer in observers:
            self.manager.register(observer)
        self.manager.check_pending()

    def tell(self, hook: str, **facts: Any) -> list[str]:
        """Calls a watching hook; what a watcher raises is returned in words, never raised."""
        said = []
        caller = getattr(self.manager.hook, hook)
        for impl in caller.get_hookimpls():
            try:
                impl.function(*(facts[a] for a in impl.argnames))
            except Exception as error:  # a watcher must not stop the work
                said.append(f"observer {impl.plugin_name}: {type(error).__name__}: {error}")
        return said

    def _load(self, entry: str, load: Any, distribution: str, version: str) -> None:
        try:
            module = load()
            self.manager.register(module, name=f"{distribution}:{entry}")
            try:
                self.manager.check_pending()
            except pluggy.PluginValidationError as error:
                self.manager.unregister(module)
                raise PluginError(_pending(str(error), module)) from error
            found = list(self._offered(module, distribution, version))
        except Exception as error:
            self.broken.append(Broken(entry=entry, distribution=distribution, reason=f"{type(error).__name__}: {error}"))
            return
        for offer in found:
            self._offers.setdefault((offer.kind, offer.name), []).append(offer)

    def _offered(self, module: Any, distribution: str, version: str) -> Iterable[Offer]:
        for kind in KINDS:
            for impl in getattr(self.manager.hook, f"mlops_{kind}").get_hookimpls():
                if impl.plugin is not module:
                    continue
                for name, cls in impl.function().items():
                    _refuse_unfit(kind, name, cls)
                    package = cls.__module__.split(".")[0]
                    yield Offer(kind=kind, name=name, cls=cls, distribution=distribution, version=version, package=package)


RESERVED: Mapping[str, frozenset[str]] = {
    "data": frozenset({"plugin", "target", "task", "contract", "split"}),
    "tuner": frozenset({"plugin", "space"}),
}


def _refuse_unfit(kind: str, name: str, cls: Any) -> None:
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise PluginError(f"{kind} {name!r} must be a dataclass whose fields are its options, not {cls!r}")
    taken = {f.name for f in dataclasses.fields(cls)} & RESERVED.get(kind, frozenset({"plugin"}))
    if taken:
        raise PluginError(f"{kind} {name!r} has option {', '.join(sorted(taken))}, which the declaration keeps for itself")


def _pending(message: str, module: Any) -> str:
    found = re.search(r"unknown hook '(\w+)'", message)
    if not found:
        return message
    specs = [n for n in vars(hookspecs) if n.startswith("mlops_")]
    return f"unknown hook {found[1]!r} in {getattr(module, '__name__', module)}; {did_you_mean(found[1], specs)}"


def _entries() -> Iterable[tuple[importlib.metadata.Distribution, importlib.metadata.EntryPoint]]:
    seen = set()
    for dist in importlib.metadata.distributions():
        for entry in dist.entry_points:
            if entry.group == hookspecs.PROJECT and (entry.name, entry.value) not in seen:
                seen.add((entry.name, entry.value))
                yield dist, entry


def options_of(cls: type) -> tuple[Option, ...]:
    """The options of a plugin class; a line 'name: text' in its docstring documents a field without metadata."""
    hints = typing.get_type_hints(cls)
    manual = dict(re.findall(r"^\s*(\w+): (.+)$", inspect.getdoc(cls) or "", re.M))
    found = []
    for f in dataclasses.fields(cls):
        if not f.init:
            continue
        missing = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        default = None if missing else f.default if f.default is not dataclasses.MISSING else f.default_factory()  # type: ignore[misc]
        found.append(
            Option(name=f.name, type=type_words(hints[f.name]), default=default, required=missing, doc=f.metadata.get("doc", manual.get(f.name, "")))
        )
    return tuple(found)


def type_words(hint: Any) -> str:
    """A type in words a user knows: 'int', "one of 'a', 'b'", 'list of int'."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_words(args[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, args))
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if a is type(None) else type_words(a) for a in args)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if origin in (tuple, list, set, frozenset) or (isinstance(origin, type) and issubclass(origin, Iterable)):
        return "list of " + type_words(args[0]) if args else "list"
    return {"str": "text", "Path": "path", "Any": "any value"}.get(getattr(hint, "__name__", str(hint)), getattr(hint, "__name__", str(hint)))


def check_options(cls: type, options: Mapping[str, Any]) -> list[Problem]:
    """Everything wrong with `options` as fields of `cls`, nested dataclasses included."""
    import pydantic

    try:
        _validate(cls, options)
    except pydantic.ValidationError as error:
        return [_problem(cls, dict(e)) for e in error.errors(include_url=False)]
    except (TypeError, ValueError, PluginError) as error:
        return [Problem(place="", key="", message=str(error))]
    return []


def _problem(cls: type, error: dict[str, Any]) -> Problem:
    loc = [str(part) for part in error["loc"]]
    key, kind = ".".join(loc), error["type"]
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return Problem(place="", key=key, message="unknown option", suggestion=did_you_mean(loc[-1], _fields_at(cls, loc[:-1])))
    if kind in ("missing", "missing_argument"):
        return Problem(place="", key=key, message="missing mandatory value")
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return Problem(place="", key=key, message=f"unknown value {error['input']!r}", suggestion=did_you_mean(str(error["input"]), choices))
    message = error["msg"][0].lower() + error["msg"][1:]
    message = message.removeprefix("value error, ")
    given = error.get("input")
    shown = f", got {given!r}" if not isinstance(given, dict) and "got" not in message else ""
    return Problem(place="", key=key, message=message + shown)


def _fields_at(cls: Any, path: list[str]) -> list[str]:
    for part in path:
        hints = typing.get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
        hint = hints.get(part)
        inner = [a for a in (typing.get_args(hint) or (hint,)) if dataclasses.is_dataclass(a)]
        if not inner:
            return []
        cls = inner[0]
    return [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []


@functools.cache
def _adapter(cls: type) -> Any:
    import pydantic

    _forbid_unknown(cls)
    return pydantic.TypeAdapter(cls)


def _forbid_unknown(cls: Any) -> None:
    """pydantic reads a plain dataclass's configuration from this attribute, nested ones' from their own."""
    if not dataclasses.is_dataclass(cls) or "__pydantic_config__" in vars(cls):
        return
    cls.__pydantic_config__ = {"extra": "forbid", "arbitrary_types_allowed": True}
    for hint in typing.get_type_hints(cls).values():
        for inner in (hint, *typing.get_args(hint)):
            _forbid_unknown(inner)


def _validate(cls: type, options: Mapping[str, Any]) -> Any:
    # JSON in strict mode: lists may become tuples and text may become paths, but "3" never becomes 3.
    return _adapter(cls).validate_json(json.dumps(plain(options)), strict=True)
