"""Errors: one tree, one string, whole across processes; names have a nearest choice."""

from __future__ import annotations

import inspect
import pickle

import pytest

from mlops_core import errors
from mlops_core.errors import DeclarationError, MlopsError, Problem, did_you_mean, nearest

TREE = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]


def test_the_tree_is_drawn_in_the_docstring() -> None:
    drawn = errors.__doc__ or ""
    for cls in TREE:
        assert cls.__name__ in drawn
        assert issubclass(cls, MlopsError)


def test_exit_codes_are_the_documented_ones() -> None:
    codes = {cls.__name__: cls.exit_code for cls in TREE}
    three = {"UsageError", "DeclarationError", "PluginError"}
    assert {name for name, code in codes.items() if code == 3} == three
    assert codes["Rejected"] == 4
    assert {code for name, code in codes.items() if name not in {*three, "Rejected"}} == {1}


@pytest.mark.parametrize("cls", [c for c in TREE if c is not DeclarationError])
def test_errors_cross_processes_unharmed(cls: type[MlopsError]) -> None:
    again = pickle.loads(pickle.dumps(cls("conf/config.yaml:3: no such file")))
    assert type(again) is cls
    assert (str(again), again.message) == ("conf/config.yaml:3: no such file", "conf/config.yaml:3: no such file")


def test_a_declaration_error_holds_every_problem() -> None:
    first = Problem(
        place="conf/config.yaml:3:5", key="trainer.lr", message="expected number, got 'x'", excerpt="  3 | lr: x"
    )
    second = Problem(place="command line", key="", message="bad override", suggestion="did you mean 'trainer.lr'?")
    error = DeclarationError.of([first, second])
    assert str(error).splitlines() == [
        "2 problems in the declaration",
        "conf/config.yaml:3:5: trainer.lr: expected number, got 'x'",
        "  3 | lr: x",
        "command line: bad override; did you mean 'trainer.lr'?",
    ]
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == (first, second)
    assert str(again) == str(error)
    assert str(DeclarationError.of([first])).startswith("1 problem in the declaration\n")


@pytest.mark.parametrize(
    ("name", "choices", "found"),
    [
        ("lightnig", ["lightning", "sklearn"], "lightning"),
        ("LIGHTNING", ["lightning"], "lightning"),
        ("zzz", ["lightning"], ""),
        ("lr", ["trainer.lr", "trainer.model.dropout"], "trainer.lr"),
        ("trainer.lrr", ["trainer.lr", "tuner.lr2"], "trainer.lr"),
        ("a", [], ""),
    ],
)
def test_nearest(name: str, choices: list[str], found: str) -> None:
    assert nearest(name, choices) == found


def test_did_you_mean() -> None:
    assert did_you_mean("epoch", ["epochs", "lr"]) == "did you mean 'epochs'?"
    assert did_you_mean("zzz", ["b", "a"]) == "expected one of: a, b"
    assert did_you_mean("zzz", []) == "there are none"
    many = [f"option{i}" for i in range(20)]
    told = did_you_mean("zzz", many, limit=3)
    assert told == "expected one of: option0, option1, option10, ... (20 in all)"
