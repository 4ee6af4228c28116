"""Answers are spelled as `orjson` spells an object for each row."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from mlops_core.serving.spelling import KEPT, Speller

CLASSES = (
    ("bad", "good"),
    ("0", "1"),
    ("only",),
    ('say "x"', "back\\slash", "ä", "", "a,b],[c"),
    tuple(f"c{i}" for i in range(12)),
)


def objects(values: Any, shares: Any, classes: tuple[str, ...]) -> bytes:
    rows = zip(values.tolist(), shares.tolist(), strict=True)
    return orjson.dumps([{"prediction": v, "probability": dict(zip(classes, p, strict=True))} for v, p in rows])


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("rows", [1, 2, 65])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("label", [str, len, bool])
def test_classes_and_their_shares(classes: tuple[str, ...], rows: int, dtype: Any, label: Any) -> None:
    shares = np.random.default_rng(rows).dirichlet(np.ones(len(classes)), rows).astype(dtype)
    shares[0] = 0
    labels = np.empty(len(classes), object)
    labels[:] = [label(c) for c in classes]
    values = labels[shares.argmax(1)]
    speller = Speller(classes)
    for given in (shares, np.asfortranarray(shares)):
        assert speller.rows({"prediction": values, "probability": given}) == objects(values, given, classes)


@pytest.mark.parametrize("values", [[1.5, -0.0, 1e300], [1, 2], ["a", "b"], [[1.0, 2.0], [3.0, 4.0]]])
def test_values_alone(values: list[Any]) -> None:
    given = np.array(values, object if isinstance(values[0], str) else None)
    assert orjson.loads(Speller(()).rows({"prediction": given})) == [{"prediction": v} for v in values]


def test_what_a_model_of_somebody_else_may_predict() -> None:
    """More different values than are remembered, and shares that are not one for each class."""
    values, shares = np.arange(2 * KEPT + 3), np.ones((2 * KEPT + 3, 1))
    assert Speller(("a",)).rows({"prediction": values, "probability": shares}) == objects(values, shares, ("a",))
    for wrong in (np.ones((2, 3)), np.ones((3, 2)), np.ones(2)):
        with pytest.raises(ValueError, match="shape"):
            Speller(("a", "b")).rows({"prediction": np.array(["a", "b"]), "probability": wrong})
