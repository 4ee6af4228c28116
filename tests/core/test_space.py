"""Search spaces in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core.contracts import Distribution, plain, restore
from mlops_core.grid import grid_points, grid_size
from mlops_core.space import changeable, edges, holds, is_distribution, parents_first, parse, spelled

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


def test_conditions() -> None:
    value = {"uniform": [0.8, 0.99], "when": {"trainer.optimizer": "sgd", "trainer.epochs": [1, 2]}}
    found = parse(value)
    when = {"trainer.optimizer": ("sgd",), "trainer.epochs": (1, 2)}
    assert found == Distribution(kind="uniform", args=(0.8, 0.99), when=when)
    assert restore(Distribution, plain(found)) == found
    assert is_distribution(value)
    assert not is_distribution({"when": {"uniform": [0, 1]}, "other": [1]})
    assert spelled(found) == "uniform(0.8, 0.99) when trainer.epochs is 1 or 2 and trainer.optimizer is 'sgd'"
    assert spelled(parse("uniform(0.8, 0.99)")) == "uniform(0.8, 0.99)"
    assert holds(found, {"trainer.optimizer": "sgd", "trainer.epochs": 1})
    assert not holds(found, {"trainer.optimizer": "sgd", "trainer.epochs": True})
    assert not holds(found, {"trainer.epochs": 1})
    space = {"a": parse({"choice": [1], "when": {"b": 2}}), "c": parse([1]), "b": parse([1, 2])}
    assert parents_first(space) == ["b", "a", "c"]


def test_a_grid_under_conditions_repeats_no_point() -> None:
    space = {
        "momentum": parse({"uniform": [0, 1], "when": {"optimizer": "sgd"}}),
        "nesterov": parse({"choice": [True, False], "when": {"optimizer": ["sgd", "asgd"]}}),
        "optimizer": parse(["adam", "sgd"]),
        "warm": parse({"choice": [3, 4], "when": {"nesterov": True}}),
        "lr": parse([1, 2]),
    }
    points = grid_points(space, 3)
    keys = [json.dumps(p, sort_keys=True) for p in points]
    assert len(keys) == len(set(keys)) == grid_size(space, 3) == 2 + 2 * (3 * 2 + 3)
    assert {"optimizer": "adam", "lr": 1} in points
    assert {"momentum": 0.5, "nesterov": True, "optimizer": "sgd", "warm": 4, "lr": 2} in points
    assert [list(p) for p in points[-1:]] == [["momentum", "nesterov", "optimizer", "lr"]]
    some = grid_points(space, 3, limit=7, seed=1)
    assert len(some) == 7 and all(p in points for p in some)


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


def test_what_changes_on_the_way_is_named_by_itself_or_by_what_it_is_below() -> None:
    names = ["trainer.lr", "trainer.lr_decay", "trainer.model.dropout", "trainer.model.hidden", "trainer.own.a.b"]
    assert changeable(names, ("lr", "model.dropout", "own")) == (names[0], names[2], names[4])
    assert changeable(names, ()) == ()
