"""Records: frozen, JSON-able there and back, the same after it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_core import contracts
from mlops_core.contracts import (
    Artifact,
    Choice,
    Column,
    Dataset,
    Declaration,
    Distribution,
    Evaluation,
    GateRule,
    Model,
    ModelVersion,
    Profile,
    Route,
    Score,
    Serving,
    Split,
    Trial,
    Tuned,
    Verdict,
    plain,
    restore,
)

RECORDS = [c for _, c in inspect.getmembers(contracts, dataclasses.is_dataclass) if isinstance(c, type)]
ARTIFACT = Artifact(address="ab" * 16 + ".dir", sha256="cd" * 32, size=10, files=2)
MODEL = Model(
    artifact=ARTIFACT,
    path=Path("/p/bundles/x"),
    trainer=Choice(plugin="lightning", options={"lr": 0.1, "hidden": [64, 32]}),
    dataset="ef" * 32,
    params={"trainer.lr": 0.1},
    scores={"auroc": 0.9},
)
SCORE = Score(value=0.9, low=0.85, high=0.94, rows=400)
EXAMPLES: list[Any] = [
    MODEL,
    Dataset(
        name="credit",
        artifact=ARTIFACT,
        path=Path("data/x"),
        columns=(
            Column(name="age", kind="number", dtype="int64"),
            Column(name="pixels", kind="array", dtype="array", shape=(8, 8)),
            Column(name="home", kind="category", dtype="string", roles=("feature", "protected"), categories=("a", "b")),
        ),
        rows={"train": 3, "validation": 1, "test": 1},
        task="binary",
        target="status",
        classes=("bad", "good"),
        source={"plugin": "csv", "options": {"path": "a.csv"}, "fingerprint": {"a.csv": "12"}},
    ),
    ModelVersion(
        name="credit",
        number=3,
        model=MODEL,
        status="rejected",
        reasons=("auroc 0.7 is below 0.8",),
        evaluation=Evaluation(metrics={"auroc": SCORE}, slices={"sex=f": {"auroc": SCORE}}, rows=400),
        created="2026-01-01",
        code={"git": "abc"},
        config={"text": "name: credit"},
    ),
    Serving(
        name="credit",
        routes=(
            Route(version=1, bundle=Path("b"), sha256="s", weight=90.0),
            Route(version=2, bundle=Path("c"), sha256="t", weight=10.0, role="candidate"),
        ),
        state=Path("s"),
        log=Path("l"),
    ),
    Tuned(
        params={"lr": 0.1},
        scores={"auroc": 0.9},
        trials=(Trial(number=0, params={"lr": 0.1}, scores={}, state="failed", seconds=1.5, error="no"),),
    ),
    Verdict(monitor="drift", state="alarm", scores={"age": 9.0}, limits={"age": 4.0}, reasons=("age rose",)),
    Declaration(
        name="credit",
        seed=0,
        data=Choice(plugin="csv", options={"path": "a.csv"}),
        target="status",
        task="auto",
        contract={"columns": {}},
        split=Split(strategy="time", column="when"),
        trainer=Choice(plugin="sklearn"),
        metric="auroc",
        tuner=Choice(plugin="grid"),
        space={"trainer.lr": Distribution(kind="choice", args=((0.1, 0.2),))},
        gate=(GateRule(metric="auroc", at_least=0.8), GateRule(metric="auroc", versus="champion", at_least=-0.01)),
        observers=(Choice(plugin="diary", options={"path": "d"}),),
    ),
]  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_a_record_comes_back_from_json(example: Any) -> None:
    text = json.dumps(plain(example), allow_nan=False)
    again = restore(type(example), json.loads(text))
    assert type(again) is type(example)
    assert json.dumps(plain(again)) == text
    assert pickle.loads(pickle.dumps(example)) == example
    if not isinstance(example, Declaration):  # a tuple inside free-form values comes back as a list
        assert again == example


@pytest.mark.parametrize("cls", RECORDS, ids=lambda c: c.__name__)
def test_records_are_frozen_slotted_named_and_documented(cls: type) -> None:
    params = cls.__dataclass_params__  # type: ignore[attr-defined]
    assert params.frozen
    assert "__slots__" in vars(cls)
    assert all(f.kw_only for f in dataclasses.fields(cls))
    assert typing.get_type_hints(cls)


def test_a_record_of_a_newer_writer_can_be_read() -> None:
    assert restore(Choice, {"plugin": "csv", "options": {}, "colour": "new"}) == Choice(plugin="csv")
    assert restore(Route, {"version": 1, "bundle": "b", "sha256": "s"}).bundle == Path("b")


def test_plain_of_odd_values() -> None:
    assert plain({1: {3, 1, 2}, "p": Path("a/b"), "t": (1, (2,))}) == {"1": [1, 2, 3], "p": "a/b", "t": [1, [2]]}
    assert plain(Choice) is Choice  # a class is no record


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Profile, monitor=st.text(), rows=st.integers(0, 10**12), state=st.dictionaries(st.text(), JSON, max_size=4)
    )
)
def test_any_profile_comes_back(profile: Profile) -> None:
    assert restore(Profile, json.loads(json.dumps(plain(profile)))) == profile


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Column,
        name=st.text(),
        kind=st.sampled_from(typing.get_args(contracts.ColumnKind)),
        dtype=st.text(),
        roles=st.lists(st.sampled_from(contracts.ROLES), max_size=3).map(tuple),
        nullable=st.booleans(),
        categories=st.lists(st.text(), max_size=3).map(tuple),
        shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    )
)
def test_any_column_comes_back(column: Column) -> None:
    assert restore(Column, json.loads(json.dumps(plain(column)))) == column
