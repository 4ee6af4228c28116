"""Building without pydantic gives exactly what pydantic gives, or leaves it to pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Lt, MaxLen, MinLen
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from mlops_core import plainly
from mlops_core.options import check_options, make


@dataclass(frozen=True)
class Inner:
    hidden: tuple[int, ...] = (8,)
    act: Literal["relu", "gelu"] = "relu"


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.1
    count: int = 3
    on: bool = False
    where: Path | None = None
    parts: list[str] = field(default_factory=list)
    free: Mapping[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Bounded:
    rate: Annotated[float, Ge(0), Lt(1)] = 0.0
    parts: Annotated[tuple[int, ...], MinLen(1), MaxLen(2)] = (1,)
    one: Literal[1] | Annotated[tuple[int, ...], MinLen(1)] = 1


@dataclass(frozen=True)
class Described:
    rate: Annotated[float, Field(ge=0)] = 0.0


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(-1, 1), st.sampled_from(["", "a", "relu", "1"]),
    st.lists(st.one_of(st.integers(0, 3), st.just("x")), max_size=2),
    st.dictionaries(st.sampled_from(["hidden", "act", "z"]), st.sampled_from([[1, 2], "gelu", 3]), max_size=2),
)  # fmt: skip
NAMES = st.sampled_from(["name", "rate", "count", "on", "where", "parts", "free", "inner", "other"])


@given(st.dictionaries(NAMES, VALUES))
def test_same_as_pydantic_or_left_to_it(options: dict[str, Any]) -> None:
    try:
        built = plainly.build(Outer, options)
    except plainly.NotPlain:
        return
    assert check_options(Outer, options) == []
    assert built == make(Outer, options)
    assert [type(v) for v in vars(built).values()] == [type(v) for v in vars(make(Outer, options)).values()]


def test_plain_options_do_not_need_pydantic() -> None:
    options = {"name": "a", "rate": 1, "where": "x/y", "parts": ["p"], "inner": {"hidden": [1, 2], "act": "gelu"}}
    assert plainly.build(Outer, options) == make(Outer, options)


@pytest.mark.parametrize("options", [{}, {"name": 1}, {"name": "a", "nme": 1}, {"name": "a", "count": True}])
def test_what_is_wrong_is_left_to_pydantic(options: dict[str, Any]) -> None:
    with pytest.raises(plainly.NotPlain):
        plainly.build(Outer, options)


BOUNDED = st.dictionaries(st.sampled_from(["rate", "parts", "one"]), VALUES)


@given(BOUNDED)
def test_bounds_are_held(options: dict[str, Any]) -> None:
    try:
        built = plainly.build(Bounded, options)
    except plainly.NotPlain:
        return
    assert built == make(Bounded, options)


def test_bounds_within_are_plain_and_others_are_left_to_pydantic() -> None:
    assert plainly.build(Bounded, {"rate": 0.5, "parts": [1, 2], "one": [3]}) == Bounded(0.5, (1, 2), (3,))
    for wrong in ({"rate": -1.0}, {"rate": 1.0}, {"parts": []}, {"parts": [1, 2, 3]}, {"one": 2}):
        with pytest.raises(plainly.NotPlain):
            plainly.build(Bounded, wrong)
    with pytest.raises(plainly.NotPlain):
        plainly.build(Described, {"rate": 1.0})
