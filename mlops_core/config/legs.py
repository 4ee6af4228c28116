"""A search whose trials go on from one another, against the trainer and the space: told before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlops_core.config.presets import Presets
from mlops_core.contracts import Choice
from mlops_core.errors import PluginError
from mlops_core.space import WHEN, changeable

Wrong = tuple[tuple[str, ...], str, str]


def continues(presets: Presets, trainer: str) -> Sequence[str] | None:
    """The options with which fits of this trainer go on; None where there is no such trainer."""
    try:
        return tuple(getattr(presets.plugins.offer("trainer", trainer).cls, "continues", ()))
    except PluginError:  # told where the trainer is checked
        return None


def wrong_legs(presets: Presets, trainer: Choice, option: str, tuner: Mapping[str, Any]) -> Iterator[Wrong]:
    """What stands against it: where below `tuner`, why, and what to do. `option` is that which asks for it."""
    value, able = tuner.get(option), continues(presets, trainer.plugin)
    if able is None:
        return
    if tuner.get("retrain_best") is True:
        hint = "set it to false: the model of the best trial is kept"
        yield ("retrain_best",), f"{option} {value!r} finds a model and no parameters that a fit could begin with", hint
    if not able:
        others = [o.name for o in presets.plugins.all() if o.kind == "trainer" and hasattr(o.cls, "continues")]
        hint = f"take another {option}, or a trainer that can: {', '.join(others) or 'none is installed'}"
        message = f"trainer {trainer.plugin!r} cannot go on from a checkpoint with other values, as {value!r} wants"
        yield (option,), message, hint
        return
    space = tuner.get("space")
    names = [str(n) for n in space] if isinstance(space, Mapping) else []
    found = changeable(names, able)
    if names and not found:
        could = ", ".join(f"trainer.{name}" for name in able)
        message = f"with none of these can a fit of trainer {trainer.plugin!r} go on from another's checkpoint"
        yield ("space",), message, f"{option} {value!r} needs one of: {could}"
    for name in names:
        told = space[name].get(WHEN) if isinstance(space, Mapping) and isinstance(space[name], Mapping) else None
        for other in told if isinstance(told, Mapping) else ():
            if other in found:
                message = f"{other} changes on the way, and {name} would come and go with it"
                yield ("space", name, WHEN, other), message, "take the condition out"
