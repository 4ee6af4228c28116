"""Plain data in, a contract out, with every problem at once: `Problem.key` is the dotted path in the contract."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast, get_args

from mlops_core.contracts import ROLES, ColumnKind
from mlops_core.errors import Problem, did_you_mean
from mlops_core.validation.contract import Action, ColumnRule, Contract, Outliers, Rule
from mlops_core.validation.dtypes import DTYPES

TOP = ("columns", "rules", "rows", "freshness", "extra_columns", "on_invalid", "max_rejected", "description")
COLUMN = (
    "dtype", "kind", "role", "nullable", "coerce", "finite", "unique", "range", "in", "regex", "length", "missing",
    "outliers", "positive", "description",
)  # fmt: skip
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SYNONYMS = {
    "int": "int64", "integer": "int64", "float": "float64", "double": "float64", "number": "float64",
    "str": "string", "text": "string", "object": "string", "category": "string", "categorical": "string",
    "bool": "boolean", "timestamp": "datetime",
}  # fmt: skip
_LIMITS = {"robust_z": 6.0, "iqr": 3.0}


def read_contract(data: Mapping[str, Any]) -> tuple[Contract, list[Problem]]:
    """The contract that `data` says, as far as it can be read, and everything wrong with its form."""
    reader = _Reader()
    top = reader.mapping(data, "", TOP)
    rows = reader.mapping(top.get("rows"), "rows", ("at_least", "change"))
    fresh = reader.mapping(top.get("freshness"), "freshness", ("column", "within"))
    if fresh:
        for key in {"column", "within"} - set(fresh):
            reader.bad(f"freshness.{key}", "missing mandatory value")
    contract = Contract(
        columns=_columns(reader, top.get("columns")),
        rules=tuple(_rules(reader, top.get("rules"))),
        at_least=reader.whole(rows.get("at_least"), "rows.at_least", 1),
        change=reader.number(rows.get("change"), "rows.change", None, 0, math.inf),
        fresh_column=reader.text(fresh.get("column"), "freshness.column"),
        fresh_seconds=reader.duration(fresh.get("within"), "freshness.within"),
        extra=reader.choice(top.get("extra_columns"), "extra_columns", ("allow", "ignore", "refuse")) or "allow",
        on_invalid=reader.choice(top.get("on_invalid"), "on_invalid", ("quarantine", "fail")) or "quarantine",
        max_rejected=reader.number(top.get("max_rejected"), "max_rejected", 0.05, 0, 1),
    )
    return contract, reader.problems


def _columns(reader: _Reader, data: Any) -> dict[str, ColumnRule]:
    if data is not None and not isinstance(data, Mapping):
        reader.bad("columns", f"expected a mapping of column names, got {_shown(data)}")
        return {}
    return {str(name): _column(reader, str(name), rule) for name, rule in (data or {}).items()}


def _column(reader: _Reader, name: str, data: Any) -> ColumnRule:
    at = f"columns.{name}"
    rule = reader.mapping(data, at, COLUMN)
    low, high = reader.pair(rule.get("range"), f"{at}.range")
    short, long = (_length(reader, v, f"{at}.length") for v in reader.pair(rule.get("length"), f"{at}.length"))
    missing = reader.mapping(rule.get("missing"), f"{at}.missing", ("at_most",))
    values = reader.items(rule.get("in"), f"{at}.in")
    if "in" in rule and rule["in"] is not None and not values and isinstance(rule["in"], list | tuple):
        reader.bad(f"{at}.in", "an empty list allows no value")
    roles = _roles(reader, rule.get("role"), f"{at}.role")
    weighs = "weight" in roles
    if weighs:
        _of_weight(reader, rule, low, at)
    return ColumnRule(
        name=name,
        dtype=_dtype(reader, rule.get("dtype"), f"{at}.dtype"),
        kind=reader.choice(rule.get("kind"), f"{at}.kind", get_args(ColumnKind)),
        roles=roles,
        nullable=reader.flag(rule.get("nullable"), f"{at}.nullable", not weighs),
        coerce=reader.flag(rule.get("coerce"), f"{at}.coerce", False),
        finite=reader.flag(rule.get("finite"), f"{at}.finite", True),
        unique=reader.flag(rule.get("unique"), f"{at}.unique", False),
        low=0 if weighs and low is None else low,
        high=high,
        values=values,
        regex=reader.text(rule.get("regex"), f"{at}.regex"),
        shortest=short,
        longest=long,
        missing=reader.number(missing.get("at_most"), f"{at}.missing.at_most", None, 0, 1),
        outliers=_outliers(reader, rule.get("outliers"), f"{at}.outliers"),
        positive=_label(rule.get("positive")),
    )


def _of_weight(reader: _Reader, rule: Mapping[str, Any], low: Any, at: str) -> None:
    """Nothing may be allowed that no trainer can weigh a row by."""
    if rule.get("nullable") is True:
        reader.bad(f"{at}.nullable", "a weight may not be missing", "leave this out: a row without one is rejected")
    if rule.get("finite") is False:
        reader.bad(f"{at}.finite", "a weight may not be infinite", "leave this out: such a row is rejected")
    if isinstance(low, int | float) and low < 0:
        reader.bad(f"{at}.range", f"a weight is at least 0, got {low}")


def _dtype(reader: _Reader, value: Any, at: str) -> str:
    meant = _SYNONYMS.get(str(value).lower(), "")
    if not meant:
        return str(reader.choice(value, at, DTYPES))
    reader.bad(at, f"unknown value {_shown(value)}", f"did you mean {meant!r}?")
    return ""


def _label(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _length(reader: _Reader, value: Any, at: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    reader.bad(at, f"expected whole numbers of at least 0, got {_shown(value)}")
    return None


def _roles(reader: _Reader, data: Any, at: str) -> tuple[Any, ...]:
    names = (data,) if isinstance(data, str) else reader.items(data, at)
    for name in names:
        if name not in ROLES:
            reader.bad(at, f"unknown role {_shown(name)}", did_you_mean(str(name), ROLES))
    return tuple(n for n in names if n in ROLES)


def _outliers(reader: _Reader, data: Any, at: str) -> Outliers | None:
    if data is None:
        return None
    found = reader.mapping(data, at, ("method", "limit", "action"))
    method: Any = reader.choice(found.get("method"), f"{at}.method", tuple(_LIMITS)) or "robust_z"
    return Outliers(
        method=method,
        limit=reader.number(found.get("limit"), f"{at}.limit", _LIMITS[method], 0, math.inf),
        action=reader.choice(found.get("action"), f"{at}.action", ("warn", "reject")) or "warn",
    )


def _rules(reader: _Reader, data: Any) -> Iterable[Rule]:
    seen: set[str] = set()
    for i, item in enumerate(reader.items(data, "rules")):
        rule = reader.mapping(item, f"rules.{i}", ("name", "sql", "action", "description"))
        name, sql = reader.text(rule.get("name"), f"rules.{i}.name"), reader.text(rule.get("sql"), f"rules.{i}.sql")
        for key, value in (("name", name), ("sql", sql)):
            if not value and rule.get(key) is None:
                reader.bad(f"rules.{i}.{key}", "missing mandatory value")
        if name in seen:
            reader.bad(f"rules.{i}.name", f"two rules are named {name!r}")
        seen.add(name)
        action: Any = reader.choice(rule.get("action"), f"rules.{i}.action", get_args(Action)) or "reject"
        if sql:
            yield Rule(name=name or f"rule {i}", sql=sql, action=action)


class _Reader:
    """Reads values of an expected form; what has another form is noted, and read as absent."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def bad(self, key: str, message: str, suggestion: str = "") -> None:
        self.problems.append(Problem(place="", key=key, message=message, suggestion=suggestion))

    def mapping(self, value: Any, at: str, known: tuple[str, ...]) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.bad(at, f"expected a mapping of {', '.join(known)}, got {_shown(value)}")
            return {}
        for key in value:
            if key not in known:
                self.bad(f"{at}.{key}".lstrip("."), "unknown key", did_you_mean(str(key), known, limit=20))
        return value

    def items(self, value: Any, at: str) -> tuple[Any, ...]:
        if value is None:
            return ()
        if isinstance(value, list | tuple):
            return tuple(value)
        self.bad(at, f"expected a list, got {_shown(value)}")
        return ()

    def pair(self, value: Any, at: str) -> tuple[Any, Any]:
        if value is None:
            return None, None
        if not isinstance(value, list | tuple) or len(value) != 2:
            self.bad(at, f"expected [lowest, highest] with null for an open end, got {_shown(value)}")
            return None, None
        low, high = value
        try:
            if low is not None and high is not None and low > high:
                self.bad(at, f"the lowest value {low} is above the highest {high}")
        except TypeError:
            self.bad(at, f"{_shown(low)} and {_shown(high)} cannot be compared")
            return None, None
        return low, high

    def text(self, value: Any, at: str) -> str:
        if value is not None and not isinstance(value, str):
            self.bad(at, f"expected text, got {_shown(value)}")
            return ""
        return value or ""

    def flag(self, value: Any, at: str, default: bool) -> bool:
        if value is not None and not isinstance(value, bool):
            self.bad(at, f"expected true or false, got {_shown(value)}")
        return value if isinstance(value, bool) else default

    def choice(self, value: Any, at: str, known: tuple[str, ...]) -> Any:
        if value is not None and value not in known:
            self.bad(at, f"unknown value {_shown(value)}", did_you_mean(str(value), known, limit=20))
            return ""
        return value or ""

    def whole(self, value: Any, at: str, default: int) -> int:
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.bad(at, f"expected a whole number of at least 0, got {_shown(value)}")
            return default
        return value

    def number(self, value: Any, at: str, default: Any, low: float, high: float) -> Any:
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            bounds = f"from {low} to {high}" if high < math.inf else f"of at least {low}"
            self.bad(at, f"expected a number {bounds}, got {_shown(value)}")
            return default
        return float(value)

    def duration(self, value: Any, at: str) -> float:
        if value is None:
            return 0.0
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", value) if isinstance(value, str) else None
        if not found:
            self.bad(at, f"expected a duration such as 30m, 12h, 7d or 2w, got {_shown(value)}")
            return 0.0
        return float(found[1]) * _SECONDS[cast(str, found[2])]


def _shown(value: Any) -> str:
    return "a mapping" if isinstance(value, Mapping) else f"{value!r}"
