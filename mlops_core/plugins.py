"""Find plugins, name them, list them, refuse them, build them.

Every plugin, ours included, comes through the entry-point group `mlops_core`. A broken one is remembered
and told when its name is asked for; it never takes the program down.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pluggy

from mlops_core import hookspecs, plainly
from mlops_core.contracts import KINDS, Choice, Kind, record
from mlops_core.entries import Entry, installed
from mlops_core.errors import PluginError, Problem, did_you_mean
from mlops_core.options import Option as Option
from mlops_core.options import check_options as check_options
from mlops_core.options import make, options_of
from mlops_core.options import type_words as type_words

RESERVED: Mapping[str, frozenset[str]] = {
    "data": frozenset({"plugin", "target", "task", "contract", "split"}),
    "tuner": frozenset({"plugin", "space", "retrain_best", "objectives", "tolerance"}),
    "launcher": frozenset({"plugin", "env", "requirements", "max_mb"}),
}
"""Keys of a section of the declaration that are the core's own, by kind; elsewhere `plugin` alone."""


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
    """The plugins installed here: `names`, `offer`, `options`, `problems`, `build`, and `tell` for watchers.

    `extra` adds modules (name, module) that are not installed: for tests and notebooks.
    """

    def __init__(self, extra: Iterable[tuple[str, Any]] = ()) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.broken: list[Broken] = []
        self._offers: dict[tuple[str, str], list[Offer]] = {}
        for entry in installed(hookspecs.PROJECT):
            self._load(entry.name, entry.load, entry)
        for name, module in extra:
            self._load(
                name, functools.partial(_same, module), Entry(name=name, value="", distribution=name, version="0")
            )

    @property
    def hook(self) -> Any:
        return self.manager.hook

    def names(self, kind: Kind) -> tuple[str, ...]:
        return tuple(sorted(name for k, name in self._offers if k == kind))

    def all(self) -> tuple[Offer, ...]:
        """Every offer, by kind and name; a name that is claimed twice is there twice."""
        return tuple(offer for kind in KINDS for name in self.names(kind) for offer in self._offers[kind, name])

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
            hint = (
                "no plugins are installed: run 'python -m pip install mlops-core-framework' (or '-e .' in a checkout)"
            )
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
        with contextlib.suppress(plainly.NotPlain):
            return plainly.build(offer.cls, choice.options)
        wrong = check_options(offer.cls, choice.options)
        if wrong:
            told = [
                ": ".join(filter(None, [p.key, p.message])) + (f"; {p.suggestion}" if p.suggestion else "")
                for p in wrong
            ]
            raise PluginError("\n".join([f"{kind} {choice.plugin!r} cannot be built", *told]))
        return make(offer.cls, choice.options)

    def watch(self, observers: Iterable[Any]) -> None:
        """Registers built observers, so that they are told what happens, in the order given."""
        for observer in reversed(list(observers)):  # pluggy calls the last registered first
            self._register(observer, _free_name(self.manager, type(observer).__name__))

    def tell(self, hook: str, **facts: Any) -> list[str]:
        """Calls a watching hook; what a watcher raises is returned in words, never raised."""
        said = []
        for impl in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            try:
                impl.function(*(facts[a] for a in impl.argnames))
            except Exception as error:  # a watcher must not stop the work
                said.append(f"observer {impl.plugin_name}: {type(error).__name__}: {error}")
        return said

    def _load(self, name: str, load: Callable[[], Any], entry: Entry) -> None:
        try:
            module = load()
            self._register(module, f"{entry.distribution}:{name}")
            try:
                found = list(self._offered(module, entry))
            except Exception:
                self.manager.unregister(module)
                raise
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            self.broken.append(Broken(entry=name, distribution=entry.distribution, reason=reason))
            return
        for offer in found:
            self._offers.setdefault((offer.kind, offer.name), []).append(offer)

    def _register(self, plugin: Any, name: str) -> None:
        """All of the plugin or nothing. Raises PluginError for a misspelt hook or argument, and for a wrapper."""
        if self.manager.is_registered(plugin):
            raise PluginError(f"{_called(plugin)} is registered already")
        try:
            self.manager.register(plugin, name=name)
            self.manager.check_pending()
            _refuse_wrappers(self.manager, plugin)
        except (pluggy.PluginValidationError, PluginError) as error:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            raise PluginError(_misused(str(error), plugin)) from error

    def _offered(self, module: Any, entry: Entry) -> Iterator[Offer]:
        for kind in KINDS:
            for impl in getattr(self.manager.hook, f"mlops_{kind}").get_hookimpls():
                if impl.plugin is module:
                    yield from _offers(kind, impl.function(), entry)


def _offers(kind: Kind, offered: Any, entry: Entry) -> Iterator[Offer]:
    if not isinstance(offered, Mapping):
        raise PluginError(f"hook 'mlops_{kind}' must return a mapping of name to class, not {type(offered).__name__}")
    for name, cls in offered.items():
        _refuse_unfit(kind, name, cls)
        package = cls.__module__.split(".")[0]
        yield Offer(
            kind=kind, name=name, cls=cls, distribution=entry.distribution, version=entry.version, package=package
        )


def _refuse_unfit(kind: str, name: Any, cls: Any) -> None:
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w*", name)):
        raise PluginError(f"{kind} name {name!r} must be letters, digits and underscores, as it is typed in YAML")
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        shown = cls.__qualname__ if isinstance(cls, type) else repr(cls)
        raise PluginError(f"{kind} {name!r} must be a dataclass whose fields are its options, not {shown}")
    taken = {f.name for f in dataclasses.fields(cls)} & RESERVED.get(kind, frozenset({"plugin"}))
    if taken:
        raise PluginError(
            f"{kind} {name!r} has option {', '.join(sorted(taken))}, which the declaration keeps for itself"
        )


def _refuse_wrappers(manager: pluggy.PluginManager, plugin: Any) -> None:
    for caller in manager.get_hookcallers(plugin) or ():
        if any(i.plugin is plugin and (i.wrapper or i.hookwrapper) for i in caller.get_hookimpls()):
            raise PluginError(
                f"{_called(plugin)} wraps hook {caller.name!r}; a plugin offers or watches, it wraps nothing"
            )


def _misused(message: str, plugin: Any) -> str:
    """pluggy's complaint, with the nearest hook or argument."""
    hook = re.search(r"unknown hook '(\w+)'", message)
    if hook:
        known = [n for n in vars(hookspecs) if n.startswith("mlops_")]
        return f"unknown hook {hook[1]!r} in {_called(plugin)}; {did_you_mean(hook[1], known)}"
    hook, argument = re.search(r"for hook '(\w+)'", message), re.search(r"Argument\(s\) \{'(\w+)'", message)
    if hook and argument:
        known = list(inspect.signature(getattr(hookspecs, hook[1])).parameters)
        return (
            f"hook {hook[1]!r} in {_called(plugin)} has no argument {argument[1]!r}; {did_you_mean(argument[1], known)}"
        )
    return message


def _same(module: Any) -> Any:
    return module


def _called(plugin: Any) -> str:
    return str(getattr(plugin, "__name__", type(plugin).__name__))


def _free_name(manager: pluggy.PluginManager, name: str) -> str:
    taken = sum(n == name or n.startswith(f"{name} ") for n, _ in manager.list_name_plugin())
    return f"{name} {taken + 1}" if taken else name
