"""Search spaces: words in YAML become engine-neutral distributions.

    trainer.lr: loguniform(1e-4, 1e-1)        a call
    trainer.lr: {loguniform: [1e-4, 1e-1]}    the same as a mapping
    trainer.layers: [1, 2, 4]                 a list is a choice
    trainer.momentum: {uniform: [0.8, 0.99], when: {trainer.optimizer: sgd}}
                                              only there where trainer.optimizer, a choice, is sgd; or a list of values

Hydra's sweep words mean what they mean there: interval(a, b), range(a, b, step), tag(log, interval(a, b)),
int(interval(a, b)). Inside {...} YAML ends a word at a comma, so a call needs quotes there.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from mlops_core.contracts import Distribution, Params, Space, plain
from mlops_core.errors import did_you_mean

Kind = Literal["choice", "grid", "uniform", "loguniform", "randint", "quniform"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WHEN = "when"
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
        kinds = {str(k): v for k, v in value.items() if k != WHEN}
        if len(kinds) != 1:
            raise ValueError(f"expected one distribution such as {{uniform: [0, 1]}}, got {dict(value)!r}")
        name, args = next(iter(kinds.items()))
        found = _made(name, args if isinstance(args, Sequence) and not isinstance(args, str) else [args])
        return dataclasses.replace(found, when=_conditions(value[WHEN])) if WHEN in value else found
    if isinstance(value, Sequence):
        return _made("choice", value)
    raise ValueError(f"expected a distribution such as uniform(0, 1) or a list of choices, got {value!r}")


def is_distribution(value: Any) -> bool:
    """Whether `value` declares one dimension, rather than holding further keys."""
    if not isinstance(value, Mapping):
        return True
    kinds = [k for k in value if k != WHEN]
    conditional = isinstance(value.get(WHEN), Mapping) and not is_distribution(value[WHEN])
    return len(kinds) == 1 and (conditional or kinds[0] in (*KINDS, *_HYDRA))


def spelled(found: Distribution) -> str:
    """A distribution in one line, the same for the same: uniform(0.8, 0.99) when trainer.optimizer is 'sgd'."""
    words = f"{found.kind}({', '.join(map(str, found.args))})"
    conditions = [f"{k} is {' or '.join(map(repr, v))}" for k, v in sorted(found.when.items())]
    return f"{words} when {' and '.join(conditions)}" if conditions else words


def holds(found: Distribution, params: Params) -> bool:
    """Whether a dimension is there beside these values of the others."""
    return all(name in params and has(values, params[name]) for name, values in found.when.items())


def has(values: Sequence[Any], value: Any) -> bool:
    """Whether `value` is one of `values`; true is not 1."""
    return any(plain(v) == plain(value) and isinstance(v, bool) == isinstance(value, bool) for v in values)


def parents_first(space: Space) -> list[str]:
    """The dimensions, each after those that its condition names; else in the order of the space."""
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        for other in space[name].when:
            visit(other)
        found.setdefault(name)

    for name in space:
        visit(name)
    return list(found)


def changeable(names: Iterable[str], continues: Sequence[str]) -> tuple[str, ...]:
    """Those of a space's dimensions that a trainer with these `continues` can take up on the way."""
    options = tuple(f"trainer.{option}" for option in continues)
    return tuple(n for n in names if any(n == o or n.startswith(f"{o}.") for o in options))


def wrong_conditions(space: Space) -> Iterator[tuple[str, str, str, str]]:
    """Each condition that cannot be: the dimension, the one that it names, what is wrong, and a hint."""
    able = [name for name, d in space.items() if d.kind in ("choice", "grid")]
    for name, found in space.items():
        for other, values in found.when.items():
            if other not in space:
                hint = did_you_mean(other, [a for a in able if a != name])
                yield name, other, "its condition names no dimension of the space", hint
            elif other not in able:
                message = f"its condition names a {space[other].kind}; only a choice or a grid can be one"
                yield name, other, message, did_you_mean(other, [a for a in able if a != name])
            elif way := _round(space, name, other):
                yield name, other, f"it hangs on itself: {' > '.join(way)}", "take one of these conditions out"
            else:
                known = space[other].args[0]
                for value in (v for v in values if not has(known, v)):
                    yield name, other, f"{other} is never {value!r}", did_you_mean(str(value), map(str, known))


def _round(space: Space, name: str, other: str, way: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The way from a dimension over `other` back to itself, or nothing."""
    if other == name:
        return (name, *way, name)
    if other in way or other not in space:
        return ()
    return next(filter(None, (_round(space, name, o, (*way, other)) for o in space[other].when)), ())


def _conditions(value: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"when expects conditions such as {{trainer.optimizer: sgd}}, got {value!r}")
    found = {str(k): tuple(v) if isinstance(v, list | tuple) else (v,) for k, v in value.items()}
    empty = next((k for k, v in found.items() if not v), None)
    if empty:
        raise ValueError(f"when needs at least one value of {empty}")
    return found


def edges(found: Distribution) -> list[Any]:
    """The values that show whether all of a distribution fits: each choice, or the lowest and the highest."""
    if found.kind in ("choice", "grid"):
        return list(found.args[0])
    low, high = found.args[:2]
    if found.kind == "quniform":
        steps = multiples(found)
        return [multiple(found, steps[0]), multiple(found, steps[-1])]
    return [low, high - 1] if found.kind == "randint" else [low, high]


def multiples(found: Distribution) -> range:
    """How often the step goes into each value of a quniform."""
    low, high, step = found.args
    return range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)


def multiple(found: Distribution, times: int) -> float:
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
        below, above = (f"{multiple(found, round_(low / args[2])):g}" for round_ in (math.floor, math.ceil))
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
