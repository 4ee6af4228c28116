"""The schema of a declaration: the core's keys, each plugin's options, the search space, metrics and gates."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_core.config import secrets
from mlops_core.config.documents import Path_
from mlops_core.config.draft import Draft, leaves
from mlops_core.config.legs import continues, wrong_legs
from mlops_core.config.presets import Presets
from mlops_core.config.schema import LATER, SECTIONS, Keys, own
from mlops_core.contracts import Choice, Goal, Secret
from mlops_core.errors import PluginError, Problem, did_you_mean, nearest
from mlops_core.metrics import METRICS, names
from mlops_core.options import check_options
from mlops_core.pareto import SIZE
from mlops_core.plugins import RESERVED
from mlops_core.privacy import seconds
from mlops_core.rollout.plan import wrong
from mlops_core.space import changeable

PRIVATE = "PRIVATE KEY-----"
CLEAR = re.compile(rf"://[^/\s:@]*:[^/\s@]+@|{PRIVATE}")  # user:password@ in a URL, a key in PEM
WAYS = {"max": "lower", "min": "higher"}
"""What a score must be to be good, by the mode that it does not have."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Verifier:
    """Checks a draft against everything that is known without looking at the data."""

    def __init__(self, draft: Draft, presets: Presets) -> None:
        self.draft, self.presets = draft, presets
        self.values: dict[str, Any] = _resolved(draft)
        self.wrong: dict[str, frozenset[str]] = {}

    def run(self) -> None:
        self._top()
        for section in SECTIONS:
            value = self.values.get(section)
            if isinstance(value, Mapping):
                self._section(section, value)
        observers = self.values.get("observers")
        for name, options in observers.items() if isinstance(observers, Mapping) else ():
            if isinstance(options, Mapping):
                self._plugin("observer", ("observers", name), name, options, ("observers", name))
        self._metric(("metric",), self.values.get("metric"))
        self._gang()
        self._gate()
        self._clear()

    def _clear(self) -> None:
        """Refuses a password or a key written in clear: the ledger, caches and versions keep what is declared."""
        for path, value in leaves(self.values):
            found = CLEAR.search(value) if isinstance(value, str) and not isinstance(value, Secret) else None
            if found:
                what, it = ("key", "it") if found[0] == PRIVATE else ("password", "the URL")
                hint = f"put {it} into an environment variable and write ${{oc.env:NAME}}"
                self.draft.say(path, f"holds a {what} in clear", hint, bare=True)

    def keys(self, root: Path) -> None:
        """Tells which keys of `signing` cannot be used. Not at every reading: they lie where models are made."""
        from mlops_core.bundle.signing import wrong

        declared = self.values.get("signing")
        found = {k: v for k, v in declared.items() if isinstance(v, str)} if isinstance(declared, Mapping) else {}
        try:
            for name, words in wrong(found, root).items():
                self.draft.say(("signing", name), words)
        except PluginError as error:
            self.draft.say(("signing",), str(error))

    def choice(self, section: str) -> Choice | None:
        """The plugin of a section with its options."""
        value = self.values.get(section)
        if not isinstance(value, Mapping) or not isinstance(value.get("plugin"), str):
            return None
        kept = RESERVED.get(section, frozenset({"plugin"}))
        return Choice(plugin=value["plugin"], options={k: v for k, v in value.items() if k not in kept})

    def _top(self) -> None:
        given = {k: v for k, v in self.values.items() if k not in LATER}
        self._report(check_options(Keys, given), ())
        for key in [k for k in LATER if k in self.values]:
            self.draft.say((key,), "is not part of this version of mlops_core", "take it out", key=True)
        rollout = self.values.get("rollout")
        for path, message, hint in wrong(rollout) if isinstance(rollout, Mapping) else ():
            self.draft.say(("rollout", *path), message, hint)
        privacy = self.values.get("privacy")
        retention = privacy.get("retention") if isinstance(privacy, Mapping) else None
        if isinstance(retention, str) and retention and not seconds(retention):
            self.draft.say(("privacy", "retention"), f"expected a duration such as 12h, 90d or 52w, got {retention!r}")
        name = self.values.get("name")
        if isinstance(name, str) and not NAME.fullmatch(name):
            self.draft.say(("name",), f"expected lower-case letters, digits, '-' and '_', got {name!r}")

    def _section(self, section: str, value: Mapping[str, Any]) -> None:
        kept = RESERVED.get(section, frozenset({"plugin"}))
        own_values = {k: v for k, v in value.items() if k in kept}
        if section == "tuner" and own_values.get("space") is None:
            own_values.pop("space", None)
        self._report(check_options(own(section), own_values), (section,))
        plugin = value.get("plugin")
        if isinstance(plugin, str):
            options = {k: v for k, v in value.items() if k not in kept}
            self._plugin(section, (section, "plugin"), plugin, options, (section,))
        if section == "data" and isinstance(value.get("split"), Mapping):
            self._split(value["split"])
        if section == "tuner" and isinstance(value.get("space"), Mapping):
            from mlops_core.config.searching import check_space

            check_space(self.draft, self.presets, self.choice("trainer"), value["space"])
        if section == "tuner":
            self._objectives(value)

    def _plugin(self, kind: Any, at: Path_, name: str, options: Mapping[str, Any], path: Path_) -> None:
        known = self.presets.plugins.names(kind)
        if name not in known:
            message, suggestion = self.presets.unknown(kind, name, known)
            self.draft.say(at, message, suggestion, key=kind == "observer")
            name = nearest(name, known)
        if not name:
            return
        try:
            wrong = self.presets.plugins.problems(kind, Choice(plugin=name, options=options))
        except PluginError as error:
            self.draft.say(at, str(error))
            return
        self.wrong[str(kind)] = frozenset(p.key.split(".")[0] for p in wrong)
        self._report([self._elsewhere(kind, name, p) for p in wrong], path)

    def _elsewhere(self, kind: Any, name: str, problem: Problem) -> Problem:
        """The nearest key of the core's own, or the other plugin that has this option.

        What is written inline survives a swap of plugins: that is where the latter comes from.
        """
        if problem.message != "unknown option" or "did you mean" in problem.suggestion:
            return problem
        near = nearest(problem.key, RESERVED.get(kind, ()))
        if near:
            return dataclasses.replace(problem, suggestion=f"did you mean {near!r}?")
        offers = [o for o in self.presets.plugins.all() if o.kind == kind and o.name != name]
        owners = [o.name for o in offers if problem.key in getattr(o.cls, "__dataclass_fields__", ())]
        if not owners:
            return problem
        hint = f"it belongs to {kind} {owners[0]!r}: keep it in conf/{kind}/{owners[0]}.yaml"
        return dataclasses.replace(problem, suggestion=hint)

    def _split(self, split: Mapping[str, Any]) -> None:
        at = ("data", "split")
        shares = [split.get(k) for k in ("validation", "test")]
        if all(isinstance(s, float | int) for s in shares) and sum(shares) >= 1:  # type: ignore[arg-type]
            self.draft.say(at, f"validation and test leave nothing to train on, they sum to {sum(shares):g}")  # type: ignore[arg-type]
        if split.get("strategy") in ("time", "group") and not split.get("column"):
            self.draft.say((*at, "column"), f"missing mandatory value, strategy {split['strategy']!r} needs a column")

    def _metric(self, at: Path_, name: Any, *, key: bool = False, more: Sequence[str] = ()) -> None:
        data = self.values.get("data")
        task = data.get("task") if isinstance(data, Mapping) else None
        if not isinstance(name, str) or name == "???":
            return
        fitting = names(task) if task in ("binary", "multiclass", "regression") else tuple(METRICS)
        if name not in METRICS:
            self.draft.say(at, f"unknown metric {name!r}", did_you_mean(name, (*fitting, *more)), key=key)
        elif name not in fitting:
            hint = f"expected one of: {', '.join(fitting)}"
            self.draft.say(at, f"metric {name!r} means nothing for task {task!r}", hint, key=key)

    def _objectives(self, tuner: Mapping[str, Any]) -> None:
        at, declared = ("tuner", "objectives"), tuner.get("objectives")
        objectives = declared if isinstance(declared, Mapping) else {}
        reported = self._reported() if objectives else ()
        for name, mode in objectives.items():
            if name == self.values.get("metric"):
                self.draft.say((*at, name), "it is the metric, which is an objective already", "take it out", key=True)
            elif not isinstance(name, str) or name in METRICS or (reported is not None and name not in reported):
                self._metric((*at, str(name)), str(name), key=True, more=reported or ())
            right = METRICS[name].mode if name in METRICS else "min" if name == SIZE else mode
            if mode in ("max", "min") and mode != right:
                self.draft.say((*at, name), f"{name} is the better the {WAYS[mode]}", f"write {right}")
        self._refused(objectives)
        if tuner.get("tolerance") and not objectives:
            hint = "name one in tuner.objectives, or take it out"
            self.draft.say(("tuner", "tolerance"), "there is no further objective to give up the metric for", hint)

    def _reported(self) -> Sequence[str] | None:
        """The scores beside the metrics, which the trainer has of its own; None where only a fit can tell."""
        choice = self.choice("trainer")
        if choice is None or self.wrong.get("trainer", True):
            return None
        trainer = self.presets.plugins.build("trainer", choice)
        found = trainer.reports() if hasattr(trainer, "reports") else ()
        return None if found is None else (*found, SIZE)

    def _refused(self, objectives: Mapping[str, Any]) -> None:
        """What the tuner itself says of a search for these."""
        metric, choice = self.values.get("metric"), self.choice("tuner")
        if not isinstance(metric, str) or metric not in METRICS or choice is None or self.wrong.get("tuner", True):
            return
        tuner = self.presets.plugins.build("tuner", choice)
        changes = self._legs(tuner)
        goal = Goal(metric=metric, mode=METRICS[metric].mode, seed=0, objectives=objectives, changes=changes)
        for option, why in tuner.refuses(goal).items() if hasattr(tuner, "refuses") else ():
            self.draft.say(("tuner", *option.split(".")), why)

    def _legs(self, built: Any) -> tuple[str, ...]:
        """What may change on the way of a trial; tells what stands against trials that go on from one another."""
        tuner, trainer = self.values["tuner"], self.choice("trainer")
        option = built.legs() if hasattr(built, "legs") else ""
        if not option or trainer is None:
            return ()
        for path, message, hint in wrong_legs(self.presets, trainer, option, tuner):
            self.draft.say(("tuner", *path), message, hint)
        space = tuner.get("space")
        return changeable(space if isinstance(space, Mapping) else (), continues(self.presets, trainer.plugin) or ())

    def _gang(self) -> None:
        """Refuses several workers a trial where one process alone can make the model."""
        tuner, trainer = self.values.get("tuner"), self.choice("trainer")
        resources = tuner.get("resources") if isinstance(tuner, Mapping) else None
        workers = resources.get("workers") if isinstance(resources, Mapping) else None
        if not isinstance(workers, int) or workers < 2:
            return
        at = ("tuner", "resources", "workers")
        if trainer and not self._gangs(trainer.plugin):
            can = [o.name for o in self.presets.plugins.all() if o.kind == "trainer" and getattr(o.cls, "gangs", False)]
            hint = (
                f"use one worker, or a trainer that fits in several processes: {', '.join(can) or 'none is installed'}"
            )
            self.draft.say(at, f"trainer {trainer.plugin!r} fits in one process, got {workers} workers", hint)
        if isinstance(tuner, Mapping) and tuner.get("retrain_best") is True:
            hint = "set it to false: the model of the best trial is kept"
            self.draft.say(("tuner", "retrain_best"), f"one process alone would fit again what {workers} found", hint)

    def _gangs(self, name: str) -> bool:
        try:
            return bool(getattr(self.presets.plugins.offer("trainer", name).cls, "gangs", False))
        except PluginError:  # told where the trainer is checked
            return True

    def _gate(self) -> None:
        seen: dict[tuple[Any, ...], int] = {}
        for i, rule in enumerate(self.values.get("gate") or ()) if isinstance(self.values.get("gate"), list) else ():
            at = ("gate", str(i))
            if not isinstance(rule, Mapping):
                continue
            self._metric((*at, "metric"), rule.get("metric"))
            bounds = [k for k in ("at_least", "at_most") if rule.get(k) is not None]
            if not bounds:
                self.draft.say(at, "a rule needs a bound", "add at_least or at_most")
            low, high = rule.get("at_least"), rule.get("at_most")
            if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
                self.draft.say(at, f"nothing can be at least {low} and at most {high}")
            for bound in bounds:
                same = (rule.get("metric"), rule.get("versus", ""), rule.get("slice", ""), bound)
                if seen.setdefault(same, i) != i:
                    self.draft.say(at, f"the same rule is there twice, first as gate.{seen[same]}")

    def _report(self, problems: list[Problem], prefix: Path_) -> None:
        for p in problems:
            path = (*prefix, *(k for k in p.key.split(".") if k))
            unknown = p.message == "unknown option"
            message = "unknown key" if unknown and not prefix else p.message
            self.draft.say(path, secrets.masked(message, self.draft.values), p.suggestion, key=unknown)


def _resolved(draft: Draft) -> dict[str, Any]:
    """The values with the environment in them; void ones are left out."""
    found: dict[str, Any] = {}
    for key, value in draft.values.items():
        found[key] = _without(draft, value, (key,))
    return {k: v for k, v in found.items() if v is not _GONE}


_GONE: Any = object()


def _without(draft: Draft, value: Any, path: Path_) -> Any:
    if path in draft.void or value == "???":
        return _GONE
    if isinstance(value, Mapping):
        inner = {k: _without(draft, v, (*path, str(k))) for k, v in value.items()}
        return {k: v for k, v in inner.items() if v is not _GONE}
    if isinstance(value, list):
        return [v for v in _each(draft, value, path) if v is not _GONE]
    return secrets.resolve(value)


def _each(draft: Draft, value: list[Any], path: Path_) -> Iterator[Any]:
    for i, inner in enumerate(value):
        yield _without(draft, inner, (*path, str(i)))
