"""The endpoint's plain JSON side, over real HTTP."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from mlops_core.bundle import open_bundle
from mlops_core.contracts import Route, Serving
from mlops_core.errors import ServingError
from mlops_core.serving import App, create_app
from mlops_core.serving.models import Table
from mlops_core.serving.rows import Reader

Servings = Callable[..., Serving]
ROW = {"age": 30, "income": 1000.0, "home": "rent", "married": True, "since": "2020-01-01"}


@pytest.fixture
def app(tiny_serving: Servings) -> Iterator[App]:
    app = create_app(tiny_serving(max_rows=100, max_bytes=100_000))
    yield app
    app.close()


@pytest.fixture
def client(app: App, http: Callable[[Any], httpx.Client]) -> httpx.Client:
    return http(app)


def probabilities(answer: httpx.Response) -> list[float]:
    return [p["probability"]["good"] for p in answer.json()["predictions"]]


def test_rows_columns_and_one_row_get_the_models_own_answer(client: httpx.Client, app: App) -> None:
    bundle = open_bundle(app.serving.routes[0].bundle)
    columns = {
        "age": np.array([30.0, np.nan]),
        "income": np.array([1000.0, 5.0]),
        "home": np.array(["rent", None], object),
        "married": np.array([1.0, np.nan]),
        "since": np.array(["2020-01-01", "NaT"], "datetime64[us]"),
    }
    wanted = bundle.predict(columns)["probability"][:, 1].tolist()
    both = client.post("/predict", json={"rows": [ROW, {"income": 5}]})
    listed = {"income": [1000, 5], "age": [30, None], "home": ["rent", None], "married": [True, None]}
    by_column = client.post("/predict", json={"columns": {**listed, "since": ["2020-01-01T00:00:00Z", None]}})
    assert probabilities(both) == wanted == probabilities(by_column)
    one = client.post("/predict", json=ROW).json()
    assert one["predictions"][0]["probability"]["good"] == pytest.approx(wanted[0], abs=1e-7)
    assert one["version"] == 1 and one["predictions"][0]["prediction"] in ("bad", "good")


def test_times_with_offsets_are_one_moment(client: httpx.Client) -> None:
    times = ("2020-01-01T12:00:00Z", "2020-01-01T14:00:00+02:00", "2020-01-01T12:00:00")
    answer = client.post("/predict", json={"rows": [{**ROW, "since": t} for t in times]})
    assert len(set(probabilities(answer))) == 1


def test_ids_sort_by_time_and_callers_may_bring_their_own(client: httpx.Client) -> None:
    ids = [client.post("/predict", json=ROW).json()["id"] for _ in range(3)]
    assert all(uuid.UUID(i).version == 7 for i in ids) and len(set(ids)) == 3
    assert ids[0][:8] <= ids[2][:8]
    mine = client.post("/predict", json=ROW, headers={"x-request-id": "order-17"})
    assert mine.json()["id"] == "order-17" == mine.headers["x-request-id"]


def test_unseen_categories_are_answered_and_counted(client: httpx.Client) -> None:
    assert client.post("/predict", json={**ROW, "home": "boat"}).status_code == 200
    assert client.get("/status").json()["unseen"] == 1


def test_every_fault_is_told_with_row_and_column(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"rows": [ROW, {"incom": 1}, {**ROW, "age": "x", "home": 7}]})
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["errors"] == [
        {"row": 1, "column": "incom", "message": "unknown column; did you mean 'income'?"},
        {"row": 1, "column": "income", "message": "is missing"},
        {"row": 2, "column": "age", "message": "expected a whole number, got text 'x'"},
        {"row": 2, "column": "home", "message": "expected text, got 7"},
    ]
    assert problem["detail"] == "row 1, column 'incom': unknown column; did you mean 'income'? (and 3 more)"
    assert problem["title"] and problem["type"] == "about:blank" and problem["status"] == 422


def test_many_faults_are_told_in_part(client: httpx.Client) -> None:
    problem = client.post("/predict", json={"rows": [{"income": "x"}] * 90}).json()
    assert len(problem["errors"]) == 20 and problem["detail"].endswith("(and 89 more)")


def test_values_of_pii_columns_are_not_shown(tiny_serving: Servings) -> None:
    signature = open_bundle(tiny_serving().routes[0].bundle).signature
    secret = tuple(dataclasses.replace(c, roles=("feature", "pii")) for c in signature.inputs)
    cells = Reader(dataclasses.replace(signature, inputs=secret)).cells
    assert [c.fault("Jane Doe") for c in cells[:1]] == ["expected a whole number, got text"]


def test_pages_are_whole_in_themselves(client: httpx.Client) -> None:
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
        assert "credit" in page.text and "src=" not in page.text and "http" not in page.text.replace("http-equiv", "")
    assert client.get("/healthz").json() == {"live": True}
    assert client.get("/readyz").json() == {"ready": True}
    head = client.head("/healthz")
    assert head.status_code == 200 and head.content == b"" and head.headers["content-length"] == "13"


def test_the_example_of_the_page_is_answered(client: httpx.Client) -> None:
    row = client.get("/openapi.json").json()["components"]["schemas"]["Row"]["example"]
    assert client.post("/predict", json=row).status_code == 200


def test_not_ready_while_draining(client: httpx.Client, app: App) -> None:
    app.draining = True
    assert client.get("/readyz").status_code == 503
    assert client.post("/predict", json=ROW).status_code == 200


def test_chunked_bodies_are_limited_too(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 10_000

    answer = client.post("/predict", content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "100000 bytes" in answer.json()["detail"]


def test_large_requests_do_not_hold_up_small_ones(tiny_serving: Servings, http: Callable[[Any], httpx.Client]) -> None:
    app = create_app(tiny_serving(max_rows=200_000))
    client = http(app)
    large = json.dumps({"rows": [ROW] * 30_000}).encode()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.post, "/predict", content=large, headers={"content-type": "application/json"})
        small = 0
        while not waiting.done():
            assert client.post("/predict", json=ROW).status_code == 200
            small += 1
        assert len(waiting.result().json()["predictions"]) == 30_000
    assert small > 5
    app.close()


def test_root_path_of_a_mounting_host_is_left_off(app: App) -> None:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app, root_path="/credit")
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/credit/healthz")

    import asyncio

    assert asyncio.run(call()).status_code == 200


def test_weights_share_the_traffic(tiny_serving: Servings, http: Callable[[Any], httpx.Client]) -> None:
    app = create_app(tiny_serving({1: 80.0, 2: 20.0}))
    client = http(app)
    versions = [client.post("/predict", json=ROW).json()["version"] for _ in range(300)]
    assert 30 <= versions.count(2) <= 95
    assert client.get("/status").json()["by_version"] == {"1": versions.count(1), "2": versions.count(2)}
    app.close()


def test_choice_follows_the_draw_and_roles(tiny_serving: Servings) -> None:
    app = create_app(tiny_serving({1: 80.0, 2: 20.0}))
    table = app._table
    assert [table.choose(lambda p=p: p).version for p in (0.0, 0.79, 0.81, 0.9999999)] == [1, 1, 2, 2]
    shadow = [app.serving.routes[0], dataclasses.replace(app.serving.routes[1], role="shadow")]
    shadow[0] = dataclasses.replace(shadow[0], weight=100.0)
    quiet = Table(dataclasses.replace(app.serving, routes=tuple(shadow)), table.loaded, table.guests)
    assert quiet.choose(lambda: 0.999).version == 1
    assert quiet.version("2").version == 2
    app.close()


def test_versions_change_under_load_without_a_failed_request(
    tiny_serving: Servings, http: Callable[[Any], httpx.Client]
) -> None:
    one, two = tiny_serving({1: 100.0}), tiny_serving({2: 100.0})
    app = create_app(one)
    client, over = http(app), threading.Event()

    def hammer() -> set[tuple[int, int, float]]:
        seen = set()
        while not over.is_set():
            answer = client.post("/predict", json=ROW)
            seen.add((answer.status_code, answer.json()["version"], probabilities(answer)[0]))
        return seen

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = [pool.submit(hammer) for _ in range(8)]
        for serving in [two, one] * 5:
            app.apply(serving)
        over.set()
        seen = set().union(*(r.result() for r in running))
    assert {(status, version) for status, version, _ in seen} == {(200, 1), (200, 2)}
    assert len(seen) == 2  # every answer is the one of the version that it names
    app.close()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda r: {"sha256": "0" * 64}, "is not the one expected: its digest is "),
        (lambda r: {"bundle": r.bundle / "no"}, "there is no bundle at "),
        (lambda r: {"weight": 50.0}, "weights of the stable and candidate routes sum to 50, expected 100"),
        (lambda r: {"weight": -1.0}, "weights of the stable and candidate routes sum to -1, expected 100"),
    ],
)
def test_what_cannot_be_served_is_refused_and_changes_nothing(
    app: App, client: httpx.Client, spoil: Callable[[Route], dict[str, Any]], reason: str
) -> None:
    before = app.serving
    route = dataclasses.replace(before.routes[0], version=2, **{"weight": 100.0, **spoil(before.routes[0])})
    with pytest.raises(ServingError) as caught:
        app.apply(dataclasses.replace(before, routes=(route,)))
    assert reason in str(caught.value)
    assert app.serving == before and client.post("/predict", json=ROW).json()["version"] == 1


def test_a_model_that_answers_otherwise_than_at_training_is_refused(
    tiny_serving: Servings, tiny_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    import shutil

    from mlops_core.bundle import seal

    one, two = open_bundle(tiny_bundle(1)), open_bundle(tiny_bundle(2))
    inputs, answers = one.samples or ({}, {})
    swapped = seal(
        tmp_path / "bundles" / "v2-model",
        tmp_path / "swapped",
        signature=two.signature,
        trainer=two_trainer(),
        lineage={},
        profile=None,
        samples={**inputs, **answers},
    )
    route = Route(version=3, bundle=swapped, sha256=open_bundle(swapped).sha256)
    with pytest.raises(ServingError, match="version 3 of 'credit' cannot be served: smoke set: 3 of 3 answers differ"):
        create_app(dataclasses.replace(tiny_serving(), routes=(route,)))
    shutil.rmtree(swapped)


def two_trainer() -> Any:
    from mlops_core.contracts import Choice

    return Choice(plugin="tiny")


def test_an_unexpected_error_is_a_problem_without_a_stack(
    app: App, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(columns: object) -> object:
        raise RuntimeError("secret of /home/me")

    monkeypatch.setitem(app._table.first.bundle.__dict__, "_predictor", explode)
    answer = client.post("/predict", json=ROW)
    assert answer.status_code == 500
    assert answer.json()["detail"] == "the request failed here; the endpoint's log says why"
    assert "secret" not in answer.text and "secret of /home/me" in caplog.text
    monkeypatch.undo()
    assert client.post("/predict", json=ROW).status_code == 200


def test_answers_that_are_not_finite_are_no_answers(
    app: App, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def hollow(columns: object) -> dict[str, object]:
        return {"prediction": np.array(["bad"], object), "probability": np.array([[np.nan, np.nan]])}

    monkeypatch.setitem(app._table.first.bundle.__dict__, "_predictor", hollow)
    assert client.post("/predict", json=ROW).status_code == 500
    assert "version 1 gave no finite answer for 1 rows, first row 0" in caplog.text


def test_a_prediction_takes_as_many_threads_as_were_declared(tiny_serving: Servings) -> None:
    create_app(tiny_serving()).close()  # what is started once in a process is no thread of a prediction
    counts = []
    for threads in (1, 3):
        before = psutil.Process().num_threads()
        app = create_app(tiny_serving(threads=threads))
        counts.append(psutil.Process().num_threads() - before)
        app.close()
    assert counts[1] - counts[0] == 2
