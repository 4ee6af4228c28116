"""Reading in blocks, or straight from the JSON, gives what reading column by column gives, and says the same of what
is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlops_core.contracts import Column, Signature
from mlops_core.serving.cells import ABSENT, CELLS
from mlops_core.serving.decoding import Decoder
from mlops_core.serving.problems import Refused
from mlops_core.serving.requests import parse
from mlops_core.serving.rows import Batch, Reader

INPUTS = (
    Column(name="age", kind="number", dtype="int64"),
    Column(name="home", kind="category", dtype="string", categories=("rent", "own")),
    Column(name="income", kind="number", dtype="float64", nullable=False),
    Column(name="married", kind="boolean", dtype="boolean"),
    Column(name="grade", kind="category", dtype="int64", categories=("1", "2")),
    Column(name="note", kind="text", dtype="string", nullable=False),
    Column(name="since", kind="time", dtype="datetime"),
    Column(name="loud", kind="boolean", dtype="boolean", nullable=False),
    Column(name="image", kind="array", dtype="array", shape=(2,)),
)
READER = Reader(Signature(inputs=INPUTS, task="regression", target="y"))
GOOD: dict[str, list[Any]] = {
    "age": [30, 31.0, 2**62],
    "home": ["rent", "own", "boat"],
    "income": [1000, 2.5, -1e38],
    "married": [True, False],
    "grade": [1, "2", 7],
    "note": ["", "ä"],
    "since": ["2020-01-01", "2020-01-01T12:00:00.25+02:00"],
    "loud": [True, False],
    "image": [[1, 2.5], [3, 4]],
}
BAD: dict[str, list[Any]] = {
    "age": [1.5, 2**62 + 1, True, "3"],
    "home": [3, True, []],
    "income": [None, 1e39, "x", True, {}],
    "married": [1, "true"],
    "grade": [1.5, False],
    "note": [None, 3],
    "since": ["soon", 3],
    "loud": [None, 0],
    "image": [[1], [1, 1e39], "x", None],
}


def drawn(dice: random.Random, harm: float) -> list[dict[str, Any]]:
    rows = []
    for _ in range(dice.randint(1, 6)):
        row = {c.name: dice.choice(GOOD[c.name]) for c in INPUTS}
        for c in INPUTS:
            if c.nullable and c.kind != "array" and dice.random() < 0.2:
                row[c.name] = None
            if dice.random() < harm:
                row[c.name] = dice.choice(BAD[c.name])
            if dice.random() < harm / 2:
                del row[c.name]
        rows.append(row)
    return rows


def plainly(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], list[Any]]:
    columns, faults = {}, []
    for column in INPUTS:
        cell, values = CELLS[column.kind](column), [row.get(column.name, ABSENT) for row in rows]
        found = cell.faults(values)
        faults += found
        if not found:
            columns[column.name] = cell.read(values)
    return columns, sorted(faults, key=lambda f: f[0])


def parsed(data: bytes) -> Batch:
    return READER.body(parse(data), 100)


def straight(data: bytes) -> Batch:
    return READER.read(data, 100)


@pytest.mark.parametrize("read", [parsed, straight])
@pytest.mark.parametrize("harm", [0.0, 0.02, 0.3])
def test_blocks_read_as_columns_do(harm: float, read: Callable[[bytes], Batch]) -> None:
    dice = random.Random(harm)
    good = bad = 0
    for _ in range(150):
        rows = drawn(dice, harm)
        columns, faults = plainly(rows)
        try:
            found = read(json.dumps({"rows": rows}).encode())
        except Refused as refused:
            assert refused.faults == faults and faults
            bad += 1
            continue
        good += 1
        assert not faults and found.columns.keys() == columns.keys()
        for name, values in columns.items():
            np.testing.assert_array_equal(found.columns[name], values, strict=True)
        known = {"home": ("rent", "own", None, ABSENT), "grade": (1, "1", "2", None, ABSENT)}
        assert found.unseen == sum(row.get(n, ABSENT) not in values for n, values in known.items() for row in rows)
    assert good > 0 if harm < 0.3 else bad > 100


def outcome(read: Callable[[bytes], Batch], data: bytes) -> Any:
    try:
        found = read(data)
    except Refused as refused:
        return refused.body()
    return found.rows, found.unseen, {name: (v.dtype, repr(v.tolist())) for name, v in found.columns.items()}


ROW = {name: values[0] for name, values in GOOD.items()}
TEXT = json.dumps({"rows": [ROW, ROW]})


def with_note(note: bytes) -> bytes:
    return TEXT.encode().replace(b'"note": ""', b'"note": ' + note)


@given(st.lists(st.tuples(st.integers(0, len(TEXT)), st.binary(max_size=3), st.integers(0, 4)), max_size=3))
@settings(max_examples=1500, deadline=None)
@example([])
def test_straight_from_any_bytes_as_from_what_they_parse_to(changes: list[tuple[int, bytes, int]]) -> None:
    data = TEXT.encode()
    for at, put, cut in changes:
        data = data[:at] + put + data[at + cut :]
    assert outcome(straight, data) == outcome(parsed, data)


@pytest.mark.parametrize(
    "data",
    [
        with_note(rb'"\ud800"'),
        with_note(rb'"\ud83d\ude00\u0000"'),
        with_note(b'"\x00"'),
        with_note(b'"a\tb"'),
        with_note(b'"\xff\xfe"'),
        with_note(b'"\xed\xa0\x80"'),
        with_note(b'"a", "note": "b"'),
        with_note(b'"a", "not\\u0065": "b"'),
        with_note(b"NaN"),
        TEXT.replace("1000", "1e999").encode(),
        TEXT.replace("1000", "1" + 400 * "0").encode(),
        TEXT.replace("1000", "1e-999").encode(),
        TEXT.replace("1000", "-0").encode(),
        TEXT.replace("1000", "0.1e1").encode(),
        TEXT.replace("1000", "01").encode(),
        TEXT.replace("30", "4611686018427387905").encode(),
        TEXT.replace('"grade": 1', '"grade": 9223372036854775807').encode(),
        TEXT.replace('"grade": 1', '"grade": 18446744073709551615').encode(),
        TEXT.replace('"grade": 1', '"grade": 18446744073709551616').encode(),
        TEXT.replace("30", "9007199254740993").encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode() + b" x",
        TEXT.encode() + b" \n",
        b'{"rows": [' + b"[" * 5000 + b"]" * 5000 + b"]}",
        b'{"rows": []}',
        b'{"rows": null}',
        TEXT.replace("]}", '], "rows": []}').encode(),
        json.dumps({"rows": [ROW] * 101}).encode(),
        json.dumps({"columns": {name: [value] for name, value in ROW.items()}}).encode(),
        json.dumps(ROW).encode(),
        b"",
    ],
)
def test_straight_from_odd_bytes(data: bytes) -> None:
    assert outcome(straight, data) == outcome(parsed, data)


@pytest.mark.parametrize("name", ['say "x"', "back\\slash", "rows", "class", "ä", "a b", "column0", "__init__"])
def test_columns_of_any_name(name: str) -> None:
    reader = Reader(
        Signature(inputs=(Column(name=name, kind="number", dtype="float64"),), task="regression", target="y")
    )
    for rows in ([{name: 1}, {}], [{name: 1, "other": 2}], [{name: True}]):
        data = json.dumps({"rows": rows}).encode()
        assert outcome(lambda d: reader.read(d, 9), data) == outcome(lambda d: reader.body(parse(d), 9), data)


def arrays(**more: Any) -> dict[str, Any]:
    given = {
        "age": np.array([30, 2**62], np.int64),
        "income": np.array([1, 2.5], np.float32),
        "married": np.array([True, False]),
        "note": ["a", "b"],
        "loud": np.array([True, True]),
        "image": np.ones((2, 2), np.float64),
    }
    return given | more


def test_columns_as_arrays() -> None:
    found = READER.columns(arrays(), 10).columns
    assert found["age"].tolist() == [30.0, 2.0**62] and found["income"].tolist() == [1.0, 2.5]
    assert found["married"].tolist() == [1.0, 0.0] and found["image"].dtype == np.float32
    assert found["home"].tolist() == [None, None] and np.isnat(found["since"]).all()
    missing = READER.columns(arrays(age=np.array([np.nan, 3.0])), 10).columns
    assert np.isnan(missing["age"][0]) and missing["age"][1] == 3.0


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"age": np.array([1.5, 2.0])}, (0, "age", "expected a whole number, got 1.5")),
        ({"age": np.array([1, 2**62 + 1])}, (1, "age", "is too large a number")),
        ({"age": np.array([True, False])}, (0, "age", "expected a whole number, got true")),
        ({"income": np.array([np.nan, 1.0])}, (0, "income", "must not be null")),
        ({"income": np.array([1.0, np.inf])}, (1, "income", "is too large a number")),
        ({"married": np.array([0, 1])}, (0, "married", "expected true or false, got 0")),
        ({"image": np.array([[1, np.nan], [1, 2]])}, (0, "image", "holds NaN")),
        ({"image": np.array([[1, 2], [1, np.inf]])}, (1, "image", "holds too large a number")),
    ],
)
def test_arrays_that_do_not_fit(wrong: dict[str, Any], fault: Any) -> None:
    with pytest.raises(Refused) as caught:
        READER.columns(arrays(**wrong), 10)
    assert caught.value.faults[0] == fault


def test_rows_are_decoded_into_their_types() -> None:
    decoder = Decoder([CELLS[c.kind](c) for c in INPUTS[:4]])
    row = {"married": True, "income": 1000, "home": "rent"}
    assert decoder.rows(json.dumps({"rows": [row]}).encode()) == [(None, "rent", 1000.0, True)]
    assert decoder.rows(json.dumps({"rows": [row | {"other": 1}]}).encode()) is None
    assert decoder.rows(json.dumps({"rows": [{"married": True}]}).encode()) is None
