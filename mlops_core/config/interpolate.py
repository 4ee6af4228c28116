"""Interpolations: `${key}` within the declaration, `${oc.env:NAME}` from the environment; each fault told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlops_core.config import secrets
from mlops_core.config.documents import Path_
from mlops_core.config.draft import Draft, at, leaves, put, real
from mlops_core.errors import did_you_mean, nearest

RESOLVERS = ("oc.env", "oc.decode", "oc.create", "oc.select", "oc.dict.keys", "oc.dict.values", "now")


def interpolate(draft: Draft) -> None:
    """Resolves all but the environment, which stays as tokens."""
    from omegaconf import OmegaConf

    values = secrets.hide(draft.values)
    found: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(values), resolve=False)  # type: ignore[assignment]
    config = OmegaConf.create(values)
    for path, text in list(_texts(values)):
        if "${" in text and path not in draft.void:
            _one(draft, config, found, path)
    draft.values = found
    for path, text in _texts(found):
        _set(draft, path, text)


def _texts(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """Every text with its path, those in lists of plain values too."""
    if isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _texts(inner, (*path, str(key)))
    elif isinstance(value, str):
        yield path, value


def _one(draft: Draft, config: Any, found: dict[str, Any], path: Path_) -> None:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        value: Any = config
        for i, part in enumerate(path):
            value = value[real(at(found, path[:i]), part)]
        put(found, path, OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)
        draft.computed(path)
    except OmegaConfBaseException as error:
        draft.say(path, *_words(str(error), draft))
        draft.void.add(path)


def _words(error: str, draft: Draft) -> tuple[str, str]:
    missing = re.search(r"Interpolation key '(.+?)' not found|Error resolving key '(.+?)'", error)
    if missing:
        key = missing[1] or missing[2]
        known = [".".join(p) for p, _ in leaves(draft.values)]
        near = nearest(key, known)
        return f"the interpolation '${{{key}}}' leads nowhere", f"did you mean '${{{near}}}'?" if near else ""
    if "Recursive interpolation" in error:
        return "the interpolation goes round in a circle", ""
    resolver = re.search(r"Unsupported interpolation type (\S+)", error)
    if resolver:
        return f"unknown resolver {resolver[1]!r}", did_you_mean(resolver[1], RESOLVERS)
    return f"the interpolation cannot be resolved: {error.splitlines()[0]}", ""


def _set(draft: Draft, path: Path_, text: str) -> None:
    for name in secrets.unset(text):
        hint = f"set it, or give a default: ${{oc.env:{name},DEFAULT}}"
        draft.say(path, f"the environment variable {name} is not set", hint)
        draft.void.add(path)
