"""Requests that arrive together, predicted as one call."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from mlops_core.contracts import Columns, Serving
from mlops_core.errors import ServingError
from mlops_core.serving import App, create_app
from mlops_core.serving.batching import Batching, Turns
from mlops_core.serving.bounds import refuse_batching
from mlops_core.serving.rows import Batch

ROW = {"age": 30, "income": 1000.0, "home": "rent", "married": True, "since": "2020-01-01"}


class Doubles:
    """A model that counts its calls; it refuses what is below zero, and all that comes with it."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def predict(self, columns: Columns) -> Columns:
        self.calls.append(len(columns["x"]))
        if (columns["x"] < 0).any():
            raise ServingError("below zero")
        return {"prediction": 2 * columns["x"]}


def ask(batching: Batching, model: Any, requests: list[list[float]]) -> list[Any]:
    async def all_at_once() -> list[Any]:
        batches = [Batch(columns={"x": np.array(r, float)}, rows=len(r), unseen=0) for r in requests]
        return await asyncio.gather(*(batching.predict(model, b) for b in batches), return_exceptions=True)

    return asyncio.run(all_at_once())


def test_each_gets_its_own_rows_back() -> None:
    model = Doubles()
    requests = [[1.0], [2.0, 3.0], [4.0]]
    answers = ask(Batching(32, 0.01), model, requests)
    assert [a["prediction"].tolist() for a in answers] == [[2.0], [4.0, 6.0], [8.0]]
    assert model.calls == [4]


def test_a_full_batch_does_not_wait() -> None:
    model = Doubles()
    began = time.monotonic()
    answers = ask(Batching(4, 60.0), model, [[float(i)] for i in range(8)])
    assert time.monotonic() - began < 30
    assert len(answers) == 8 and model.calls == [4, 4]


def test_an_error_stays_with_its_own_request() -> None:
    answers = ask(Batching(32, 0.01), Doubles(), [[1.0], [-1.0], [2.0]])
    assert answers[0]["prediction"].tolist() == [2.0] and answers[2]["prediction"].tolist() == [4.0]
    assert isinstance(answers[1], ServingError)


class Panic(BaseException):
    """What polars and other libraries in Rust raise where they fail: no Exception."""


@pytest.mark.parametrize(("raised", "seen"), [(Panic(), Panic), (StopIteration(), RuntimeError)])
def test_who_waits_hears_of_every_error(raised: BaseException, seen: type[BaseException]) -> None:
    class Fails(Doubles):
        def predict(self, columns: Columns) -> Columns:
            raise raised

    async def soon() -> list[Any]:
        batch = Batch(columns={"x": np.zeros(1)}, rows=1, unseen=0)
        crowd = asyncio.gather(*(gathered.predict(model, batch) for _ in range(3)), return_exceptions=True)
        return await asyncio.wait_for(crowd, 30)

    model: Any = Fails()
    gathered = Turns()
    assert [type(error) for error in asyncio.run(soon())] == [seen] * 3


def test_a_turn_of_the_loop_that_follows_a_crowded_one_is_answered_as_one() -> None:
    async def turns(*counts: int) -> list[list[int]]:
        found = []
        for count in counts:
            model.calls.clear()
            await asyncio.gather(*(one(i) for i in range(count)))
            found.append(list(model.calls))
        return found

    async def one(value: int) -> None:
        batch = Batch(columns={"x": np.array([value], float)}, rows=1, unseen=0)
        answer = await gathered.predict(model, batch) if gathered.gathers() else model.predict(batch.columns)
        assert answer["prediction"].tolist() == [2 * value]

    model: Any = Doubles()
    gathered = Turns(size=5)
    assert asyncio.run(turns(3, 3, 1, 1, 12, 12, 1)) == [[1, 1, 1], [3], [1], [1], [1] * 12, [5, 5, 2], [1]]


def test_a_caller_who_leaves_a_crowd_takes_nobody_along() -> None:
    async def two() -> Any:
        batches = [Batch(columns={"x": np.array([v])}, rows=1, unseen=0) for v in (1.0, 2.0)]
        leaves, stays = [asyncio.create_task(gathered.predict(model, b)) for b in batches]
        await asyncio.sleep(0)
        leaves.cancel()
        return await stays

    model: Any = Doubles()
    gathered = Turns()
    assert asyncio.run(two())["prediction"].tolist() == [4.0] and model.calls == [1]


@pytest.mark.parametrize(
    "wrong",
    [{}, {"size": 0, "wait": 0.1}, {"size": 2.5, "wait": 0.1}, {"size": 2, "wait": 9}, {"size": 2, "weight": 1}],
)
def test_what_is_no_batching_is_told(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"for example \{size: 32, wait: 0.002\}"):
        refuse_batching(wrong)


@pytest.fixture(params=["declared", "by turns"])
def app(request: Any, tiny_serving: Callable[..., Serving]) -> Iterator[App]:
    declared = {"batching": {"size": 8, "wait": 0.005}} if request.param == "declared" else {}
    app = create_app(tiny_serving(**declared))
    yield app
    app.close()


def test_callers_get_what_they_would_get_alone(app: App, http: Callable[[Any], httpx.Client]) -> None:
    client = http(app)
    rows = [{**ROW, "income": 100.0 * i} for i in range(60)]
    alone = client.post("/predict", json={"rows": rows}).json()["predictions"]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda row: client.post("/predict", json=row), rows))
        wrong = list(pool.map(lambda _: client.post("/predict", json={"income": "much"}).status_code, range(5)))
    for answer, wanted in zip(answers, alone, strict=True):
        [given] = answer.json()["predictions"]
        assert given["prediction"] == wanted["prediction"]
        assert given["probability"]["good"] == pytest.approx(wanted["probability"]["good"], abs=1e-6)
    assert wrong == [422] * 5
    assert app.status()["rows"] == 120 and app.status()["refused"] == 5


def test_what_it_costs_and_brings(tiny_serving: Callable[..., Serving]) -> None:
    model = create_app(tiny_serving())
    loaded = model._table.first
    batch = loaded.reader.body(ROW, 10)
    found = {}
    for name, size in (("each alone", 1), ("32 together", 32)):
        took = []
        for _ in range(5):
            began = time.process_time()
            for _ in range(10):
                asyncio.run(_many(Batching(size, 0.001), loaded, batch, 64))
            took.append((time.process_time() - began) / 640 * 1e6)
        found[name] = statistics.median(took)
    model.close()
    print("\n" + ", ".join(f"{name}: {us:.0f} us of CPU a request" for name, us in found.items()))
    assert found["32 together"] < found["each alone"]


async def _many(batching: Batching, model: Any, batch: Batch, count: int) -> None:
    await asyncio.gather(*(batching.predict(model, batch) for _ in range(count)))
