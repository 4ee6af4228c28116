"""Search spaces in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core.contracts import Distribution, plain, restore
from mlops_core.space import edges, is_distribution, parse

RIGHT: list[tuple[Any, str, tuple[Any, ...]]] = [
    ("loguniform(1e-4, 1e-1)", "loguniform", (1e-4, 1e-1)),
    ("uniform(0,0.5)", "uniform", (0, 0.5)),
    (" randint( 1 , 8 ) ", "randint", (1, 8)),
    ("quniform(16, 128, 16)", "quniform", (16, 128, 16)),
    ("choice(adam, 'sgd, slow', 3, true, null, [64, 32])", "choice", (["adam", "sgd, slow", 3, True, None, [64, 32]],)),
    ("choice([1, 2, 3])", "choice", ([1, 2, 3],)),
    ("grid(1, 2)", "grid", ([1, 2],)),
    ([1, [2, 3]], "choice", ([1, [2, 3]],)),
    ([[64, 64]], "choice", ([[64, 64]],)),
    ({"grid": [[64, 64]]}, "grid", ([[64, 64]],)),
    ({"uniform": [0, 1]}, "uniform", (0, 1)),
    ({"choice": ["a", "b"]}, "choice", (["a", "b"],)),
    ("interval(0, 1)", "uniform", (0, 1)),
    ("tag(log, interval(1e-4, 1e-1))", "loguniform", (1e-4, 1e-1)),
    ("int(interval(1, 8))", "randint", (1, 9)),
    ("range(1, 10, 3)", "choice", ([1, 4, 7],)),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kind", "args"), RIGHT)
def test_parse(value: Any, kind: Any, args: tuple[Any, ...]) -> None:
    found = parse(value)
    assert found == Distribution(kind=kind, args=args)
    assert restore(Distribution, plain(found)) == found
    assert is_distribution(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("unifrm(0, 1)", "unknown distribution 'unifrm'; did you mean 'uniform'?"),
        ("uniform(1, 0)", "uniform needs low < high, got low 1 and high 0"),
        ("uniform(0, x)", "uniform expects (low, high) as numbers, got (0, x)"),
        ("uniform(0)", "uniform expects (low, high) as numbers, got (0)"),
        ("uniform(0, inf)", "uniform expects (low, high) as numbers, got (0, inf)"),
        ("loguniform(0, 1)", "loguniform needs low > 0, got 0"),
        ("randint(0, 1.5)", "randint needs whole numbers, got 0 and 1.5"),
        ("quniform(0, 1, 0)", "quniform needs step > 0, got 0"),
        ("quniform(3, 4, 5)", "quniform has no multiple of 5 from 3 to 4; write quniform(0, 5, 5)"),
        ("choice()", "choice needs at least one value"),
        ("choice(1, [2)", "a closing ']' is missing"),
        ("choice(,)", "a value is missing before ','"),
        ("range(x)", "range expects whole numbers (start, stop, step), got (x)"),
        ("tag(log)", "tag expects a distribution, such as tag(log, interval(1e-4, 1e-1))"),
        ("int(3)", "int expects an interval, such as int(interval(1, 8))"),
        ("loguniform(1e-4", "'loguniform(1e-4' has no closing bracket; inside {...} quote it: 'loguniform(1e-4, ...)'"),
        ("adam", "expected a distribution such as uniform(0, 1) or a list of choices, got 'adam'"),
        (3, "expected a distribution such as uniform(0, 1) or a list of choices, got 3"),
        ({"a": [1], "b": [2]}, "expected one distribution such as {uniform: [0, 1]}, got {'a': [1], 'b': [2]}"),
        ({"unifrm": [0, 1]}, "unknown distribution 'unifrm'; did you mean 'uniform'?"),
        ([], "choice needs at least one value"),
    ],
)
def test_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(value)
    assert str(error.value) == message


def test_keys_below_are_no_distribution() -> None:
    assert not is_distribution({"lr": "uniform(0, 1)"})
    assert not is_distribution({"a": 1, "b": 2})


def test_edges() -> None:
    assert edges(parse("randint(1, 8)")) == [1, 7]
    assert edges(parse("loguniform(0.1, 1)")) == [0.1, 1]
    assert edges(parse(["a", "b"])) == ["a", "b"]
    assert edges(parse("quniform(0.1, 1, 0.3)")) == [0.3, 0.9]


@given(st.lists(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()), min_size=1))
def test_every_number_comes_back(values: list[Any]) -> None:
    words = ", ".join(str(v).lower() if isinstance(v, bool) else repr(v) for v in values)
    assert parse(f"choice({words})").args == (values,)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert str(error)
