"""Values that come from the environment: used as they are, written down only as `${oc.env:NAME}`.

While a declaration is composed, a reference is a token of private characters, so that OmegaConf passes it on
unresolved through other interpolations. `Secret` is text that carries its reference along.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlops_core.contracts import Secret
from mlops_core.errors import Problem

OPEN, MIDDLE, CLOSE, NUMBER = "\ue000", "\ue001", "\ue002", "\ue003"
_TOKEN = re.compile(f"{OPEN}([^{OPEN}{MIDDLE}{CLOSE}]*)(?:{MIDDLE}([^{OPEN}{MIDDLE}{CLOSE}]*))?{CLOSE}({NUMBER})?")
_ENV, _DECODE = "${oc.env:", "${oc.decode:"
_LOOSE = re.compile(r"\$\{\s*(oc\.(?:env|decode))\s*:\s*")  # OmegaConf allows blanks there
_PEM = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\.\.\.|\Z)", re.S)


class Unset(LookupError):
    """An environment variable is asked for, is not set, and has no default."""


def hide(value: Any) -> Any:
    """`value` with each `${oc.env:NAME,default}` as a token."""
    return _map(value, _hidden)


def resolve(value: Any) -> Any:
    """`value` with each token as what the environment holds. Raises Unset."""
    return _map(value, _resolved)


def reference(value: Any) -> Any:
    """`value` with each token as it was written."""
    return _map(value, _referred)


def names(value: Any) -> set[str]:
    """The environment variables that tokens in `value` ask for."""
    return {m[1] for text in _texts(value) for m in _TOKEN.finditer(text)}


def unset(value: Any) -> list[str]:
    """Those of the environment variables that are neither set nor given a default."""
    found = {m[1] for text in _texts(value) for m in _TOKEN.finditer(text) if m[2] is None}
    return sorted(n for n in found if n not in os.environ)


def masked(text: str, value: Any) -> str:
    """`text` with everything that tokens in `value` stand for put back as it was written."""
    for token in {m[0] for t in _texts(value) for m in _TOKEN.finditer(t)}:
        name = _TOKEN.fullmatch(token)[1]  # type: ignore[index]
        found = os.environ.get(name, "")
        text = text.replace(found, reference(token)) if len(found) > 2 else text
    return text


def blind(problem: Problem) -> Problem:
    """The problem without what is in a private key that somebody wrote in clear."""
    changes = {f.name: _PEM.sub(r"\1 ... ", getattr(problem, f.name)) for f in dataclasses.fields(problem)}
    return dataclasses.replace(problem, **changes)


def _referred(text: str) -> str:
    return _inside_out(text, _written)


def _inside_out(text: str, change: Callable[[re.Match[str]], str]) -> str:
    """Replaces tokens, the innermost first: a default may hold another token."""
    count = 1
    while count:
        text, count = _TOKEN.subn(change, text)
    return text


def _hidden(text: str) -> str:
    found = _LOOSE.sub(r"${\1:", text)
    for start in (_DECODE + _ENV, _ENV):
        at = found.find(start)
        while at >= 0:
            end = _end(found, at)
            if end < 0:
                break
            found = found[:at] + _token(found[at + len(start) : end - 1], start != _ENV) + found[end:]
            at = found.find(start, at)
    return found


def _token(inner: str, number: bool) -> str:
    inner = inner.rstrip()[:-1] if number else inner
    name, comma, default = inner.partition(",")
    default = default.strip().strip("'\"") if comma else ""
    return OPEN + name.strip() + (MIDDLE + default if comma else "") + CLOSE + (NUMBER if number else "")


def _end(text: str, at: int) -> int:
    depth = 0
    for i in range(at, len(text)):
        if text.startswith("${", i):
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if depth == 0:
                return i + 1
    return -1


def _written(match: re.Match[str]) -> str:
    inner = f"{_ENV}{match[1]}{',' + match[2] if match[2] is not None else ''}}}"
    return f"{_DECODE}{inner}}}" if match[3] else inner


def _resolved(text: str) -> Any:
    if OPEN not in text:
        return text
    whole = _TOKEN.fullmatch(text)
    if whole and whole[3]:
        from mlops_core.space import scalar

        found = scalar(_looked_up(whole))
        return Secret(found, _referred(text)) if isinstance(found, str) else found
    return Secret(_inside_out(text, _looked_up), _referred(text))


def _looked_up(match: re.Match[str]) -> str:
    value = os.environ.get(match[1], match[2])
    if value is None:
        raise Unset(match[1])
    return "" if value == "null" and match[1] not in os.environ else value


def _map(value: Any, change: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _map(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [_map(v, change) for v in value]
    return change(value) if isinstance(value, str) else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for v in value.values():
            yield from _texts(v)
    elif isinstance(value, list):
        for v in value:
            yield from _texts(v)
    elif isinstance(value, str):
        yield value
