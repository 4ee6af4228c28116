"""Search spaces: words in YAML become engine-neutral distributions.

    trainer.lr: loguniform(1e-4, 1e-1)        a call
    trainer.lr: {loguniform: [1e-4, 1e-1]}    the same as a mapping
    trainer.layers: [1, 2, 4]                 a list is a choice

Hydra's sweep words mean what they mean there: interval(a, b), range(a, b, step), tag(log, interval(a, b)),
int(interval(a, b)). Inside {...} YAML ends a word at a comma, so a call needs quotes there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from mlops_core.contracts import Distribution
from mlops_core.errors import did_you_mean

Kind = Literal["choice", "grid", "uniform", "loguniform", "randint", "quniform"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_WANTED = {"uniform": "low, high", "loguniform": "low, high", "randint": "low, high", "quniform": "low, high, step"}
_TOKEN = re.compile(r"\s*(?:([()\[\],])|('[^']*'|\"[^\"]*\")|([^()\[\],'\"]+))")


def parse(value: Any) -> Distribution:
    """The distribution that `value` declares. Raises ValueError in words.

    A choice holds its values as one list: `Distribution(kind="choice", args=([1, 2],))`.

    >>> parse("loguniform(1e-4, 1e-1)").args
    (0.0001, 0.1)
    """
    if isinstance(value, str):
        return _called(value)
    if isinstance(value, Mapping):
        if len(value) != 1:
            raise ValueError(f"expected one distribution such as {{uniform: [0, 1]}}, got {dict(value)!r}")
        name, args = next(iter(value.items()))
        return _made(str(name), args if isinstance(args, Sequence) and not isinstance(args, str) else [args])
    if isinstance(value, Sequence):
        return _made("choice", value)
    raise ValueError(f"expected a distribution such as uniform(0, 1) or a list of choices, got {value!r}")


def is_distribution(value: Any) -> bool:
    """Whether `value` declares one dimension, rather than holding further keys."""
    return not isinstance(value, Mapping) or (len(value) == 1 and next(iter(value)) in (*KINDS, *_HYDRA))


def edges(found: Distribution) -> list[Any]:
    """The values that show whether all of a distribution fits: each choice, or the lowest and the highest."""
    if found.kind in ("choice", "grid"):
        return list(found.args[0])
    low, high = found.args[:2]
    if found.kind == "quniform":
        steps = multiples(found)
        return [at(found, steps[0]), at(found, steps[-1])]
    return [low, high - 1] if found.kind == "randint" else [low, high]


def multiples(found: Distribution) -> range:
    """How often the step goes into each value of a quniform."""
    low, high, step = found.args
    return range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)


def at(found: Distribution, times: int) -> float:
    """The value of a quniform at `times` its step: 0.3, not 0.30000000000000004."""
    value = times * found.args[2]
    return value if isinstance(value, int) else float(f"{value:.12g}")


def _called(text: str) -> Distribution:
    match = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", text, re.S)
    if match:
        return _call(match[1], _Reader(match[2]).items())
    if re.match(r"\s*\w+\s*\(", text):
        raise ValueError(f"{text!r} has no closing bracket; inside {{...}} quote it: '{text.strip()}, ...)'")
    raise ValueError(f"expected a distribution such as uniform(0, 1) or a list of choices, got {text!r}")


def _call(name: str, args: list[Any]) -> Distribution:
    one_list = name in ("choice", "grid") and len(args) == 1 and isinstance(args[0], list)
    return _made(name, args[0] if one_list else args)  # choice([1, 2]), as in Python


def _made(name: str, args: Sequence[Any]) -> Distribution:
    if name in _HYDRA:
        name, args = _HYDRA[name](list(args))
    if name not in KINDS:
        raise ValueError(f"unknown distribution {name!r}; {did_you_mean(name, KINDS)}")
    if name in ("choice", "grid"):
        return _values(name, list(args))
    return _numbers(name, list(args))


def _values(name: Any, args: list[Any]) -> Distribution:
    if not args:
        raise ValueError(f"{name} needs at least one value")
    return Distribution(kind=name, args=(args,))


def _numbers(name: Any, args: list[Any]) -> Distribution:
    wanted = _WANTED[name].split(", ")
    if len(args) != len(wanted) or not all(_number(a) for a in args):
        raise ValueError(f"{name} expects ({_WANTED[name]}) as numbers, got ({', '.join(map(str, args))})")
    low, high = args[:2]
    if not low < high:
        raise ValueError(f"{name} needs low < high, got low {low} and high {high}")
    if name == "loguniform" and low <= 0:
        raise ValueError(f"loguniform needs low > 0, got {low}")
    if name == "randint" and not all(isinstance(a, int) for a in args):
        raise ValueError(f"randint needs whole numbers, got {low} and {high}")
    if name == "quniform" and args[2] <= 0:
        raise ValueError(f"quniform needs step > 0, got {args[2]}")
    found = Distribution(kind=name, args=tuple(args))
    if name == "quniform" and not multiples(found):
        below, above = (f"{at(found, round_(low / args[2])):g}" for round_ in (math.floor, math.ceil))
        hint = f"write quniform({below}, {above}, {args[2]})"
        raise ValueError(f"quniform has no multiple of {args[2]} from {low} to {high}; {hint}")
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _interval(args: list[Any]) -> tuple[str, list[Any]]:
    return "uniform", args


def _range(args: list[Any]) -> tuple[str, list[Any]]:
    if not args or not all(isinstance(a, int) for a in args) or len(args) > 3:
        raise ValueError(f"range expects whole numbers (start, stop, step), got ({', '.join(map(str, args))})")
    return "choice", list(range(*args))


def _tag(args: list[Any]) -> tuple[str, list[Any]]:
    inner = args[-1] if args else None
    if not isinstance(inner, Distribution):
        raise ValueError("tag expects a distribution, such as tag(log, interval(1e-4, 1e-1))")
    return ("loguniform" if "log" in args[:-1] and inner.kind == "uniform" else inner.kind), list(inner.args)


def _int(args: list[Any]) -> tuple[str, list[Any]]:
    inner = args[0] if args else None
    if not isinstance(inner, Distribution) or inner.kind != "uniform":
        raise ValueError("int expects an interval, such as int(interval(1, 8))")
    return "randint", [int(inner.args[0]), int(inner.args[1]) + 1]


_HYDRA = {"interval": _interval, "range": _range, "tag": _tag, "int": _int}


class _Reader:
    """Reads 'a, 2, [3, 4], interval(0, 1)' into values; bare words are text."""

    def __init__(self, text: str) -> None:
        self.tokens = [(m[1] or "", m[2] or "", (m[3] or "").strip()) for m in _TOKEN.finditer(text)]
        self.at = 0

    def items(self, closing: str = "") -> list[Any]:
        found: list[Any] = []
        while self.at < len(self.tokens) and self.tokens[self.at][0] != (closing or None):
            found.append(self._item())
            if self.at < len(self.tokens) and self.tokens[self.at][0] == ",":
                self.at += 1
        if closing and self.at >= len(self.tokens):
            raise ValueError(f"a closing {closing!r} is missing")
        self.at += 1
        return found

    def _item(self) -> Any:
        mark, quoted, word = self.tokens[self.at]
        self.at += 1
        if mark == "[":
            return self.items("]")
        if mark:
            raise ValueError(f"a value is missing before {mark!r}")
        if quoted:
            return quoted[1:-1]
        if self.at < len(self.tokens) and self.tokens[self.at][0] == "(":
            self.at += 1
            return _call(word, self.items(")"))
        return scalar(word)


def scalar(word: str) -> Any:
    """A bare word as a number, true, false or null where it is one, else as text."""
    named = {"true": True, "false": False, "null": None}
    if word.lower() in named:
        return named[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
