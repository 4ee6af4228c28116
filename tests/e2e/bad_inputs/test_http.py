"""Bad requests against a real process: each with its exact answer, nothing logged, the endpoint unharmed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from mlops_local.deployer import HttpDeployer

from mlops_core.contracts import Serving
from mlops_core.windows import collect

GOOD = {"income": 1.0}
FORMS = 'send {"rows": [{...}]}, {"columns": {...}} or one row as an object'
INFER = "/v2/models/credit/infer"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def serving(module_serving: Callable[..., Serving]) -> Serving:
    return module_serving()


@pytest.fixture(scope="module")
def client(serving: Serving) -> Iterator[httpx.Client]:
    endpoint = HttpDeployer(auth="none", max_rows=100, max_bytes=50_000).apply(serving)
    with httpx.Client(base_url=endpoint.url, timeout=30, trust_env=False) as client:
        yield client
        assert client.post("/predict", json=GOOD, headers={"x-request-id": "alive"}).status_code == 200
    HttpDeployer().stop("credit", serving.state)
    window = collect(serving.log, serving.state / "windows", endpoint="credit")
    assert window is not None and window.rows == 1  # no bad request was logged
    assert "Traceback" not in (serving.state / "host.log").read_text()


def raw(text: str) -> dict[str, Any]:
    return {"content": text.encode(), "headers": JSON}


def rows(*given: Any) -> dict[str, Any]:
    return {"json": {"rows": list(given)}}


CASES: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "empty body": ("/predict", raw(""), 400, "the body is empty; send JSON"),
    "malformed": (
        "/predict",
        raw('{"income": 1'),
        400,
        "the body is no JSON from line 1, column 13 on",
    ),
    "not a number": (
        "/predict",
        raw('{"income": NaN}'),
        400,
        "the body is no JSON from line 1, column 12 on; NaN and Infinity are no JSON, send null for a missing value",
    ),
    "minus infinity": (
        "/predict",
        raw('{"income": -Infinity}'),
        400,
        "the body is no JSON from line 1, column 13 on; NaN and Infinity are no JSON, send null for a missing value",
    ),
    "beyond doubles": (
        "/predict",
        raw('{"income": 1e999}'),
        400,
        "the body is no JSON from line 1, column 12 on",
    ),
    "deep nesting": ("/predict", raw("[" * 20_000), 400, "the body is no JSON from line 1, column 1026 on"),
    "not UTF-8": (
        "/predict",
        {"content": b'{"home": "\xff"}', "headers": JSON},
        400,
        "the body is no JSON from line 1, column 1 on",
    ),
    "a list": ("/predict", {"json": [GOOD]}, 422, f"the body is a list; {FORMS}"),
    "a number": ("/predict", {"json": 7}, 422, f"the body is a number; {FORMS}"),
    "null": ("/predict", raw("null"), 422, f"the body is null; {FORMS}"),
    "empty object": ("/predict", {"json": {}}, 422, f"the body is an empty object; {FORMS}"),
    "no rows": ("/predict", rows(), 422, "there are no rows; send at least one"),
    "no columns": ("/predict", {"json": {"columns": {}}}, 422, "there are no rows; send at least one"),
    "rows an object": ("/predict", {"json": {"rows": GOOD}}, 422, "'rows' is an object, expected a list of rows"),
    "columns a list": ("/predict", {"json": {"columns": []}}, 422, "'columns' is a list, expected an object of lists"),
    "rows and more": (
        "/predict",
        {"json": {"rows": [GOOD], "id": "x"}},
        422,
        "column 'id': does not belong beside 'rows'",
    ),
    "a row that is none": ("/predict", rows(GOOD, 3), 422, "row 1: expected a row as an object, got a number"),
    "unknown column": (
        "/predict",
        rows({**GOOD, "hone": "rent"}),
        422,
        "row 0, column 'hone': unknown column; did you mean 'home'?",
    ),
    "nothing near": (
        "/predict",
        rows({**GOOD, "x": 1}),
        422,
        "row 0, column 'x': unknown column; expected one of: age, home, income, married, since",
    ),
    "the target": (
        "/predict",
        rows({**GOOD, "status": "good"}),
        422,
        "row 0, column 'status': is what the model predicts; leave it out",
    ),
    "missing column": ("/predict", rows({"age": 3}), 422, "row 0, column 'income': is missing"),
    "null in a row": ("/predict", rows({"income": None}), 422, "row 0, column 'income': must not be null"),
    "text for a number": (
        "/predict",
        rows(GOOD, {"income": "12"}),
        422,
        "row 1, column 'income': expected a number, got text '12'",
    ),
    "boolean for a number": (
        "/predict",
        rows({"income": True}),
        422,
        "row 0, column 'income': expected a number, got true",
    ),
    "list for a number": (
        "/predict",
        rows({"income": [1]}),
        422,
        "row 0, column 'income': expected a number, got a list",
    ),
    "fraction for a count": (
        "/predict",
        rows({**GOOD, "age": 3.5}),
        422,
        "row 0, column 'age': expected a whole number, got 3.5",
    ),
    "huge number": ("/predict", rows({"income": 1e300}), 422, "row 0, column 'income': is too large a number"),
    "count over the bound by one": (
        "/predict",
        rows({**GOOD, "age": 2**62 + 1}),
        422,
        "row 0, column 'age': is too large a number",
    ),
    "huge count": ("/predict", rows({**GOOD, "age": 10**30}), 422, "row 0, column 'age': is too large a number"),
    "number for text": ("/predict", rows({**GOOD, "home": 1}), 422, "row 0, column 'home': expected text, got 1"),
    "text for a boolean": (
        "/predict",
        rows({**GOOD, "married": "yes"}),
        422,
        "row 0, column 'married': expected true or false, got text 'yes'",
    ),
    "no time": (
        "/predict",
        rows({**GOOD, "since": "yesterday"}),
        422,
        "row 0, column 'since': expected a date or time in ISO 8601 (2026-01-31 or 2026-01-31T12:00:00Z), "
        "got text 'yesterday'",
    ),
    "no such day": (
        "/predict",
        rows({**GOOD, "since": "2026-02-30"}),
        422,
        "row 0, column 'since': expected a date or time in ISO 8601 (2026-01-31 or 2026-01-31T12:00:00Z), "
        "got text '2026-02-30'",
    ),
    "a number as time": (
        "/predict",
        rows({**GOOD, "since": 0}),
        422,
        "row 0, column 'since': expected a date or time in ISO 8601 (2026-01-31 or 2026-01-31T12:00:00Z), got 0",
    ),
    "long text": (
        "/predict",
        rows({"income": "z" * 5000}),
        422,
        f"row 0, column 'income': expected a number, got text '{'z' * 40}...'",
    ),
    "uneven columns": (
        "/predict",
        {"json": {"columns": {"income": [1, 2], "age": [1]}}},
        422,
        "column 'age': has 1 values, others have 2",
    ),
    "column no list": (
        "/predict",
        {"json": {"columns": {"income": 1}}},
        422,
        "column 'income': expected a list of values, got a number",
    ),
    "too many rows": (
        "/predict",
        rows(*[GOOD] * 101),
        413,
        "101 rows are more than the 100 that one request may hold; send several requests",
    ),
    "body too large": (
        "/predict",
        rows({"income": 1.0, "home": "z" * 60_000}),
        413,
        "the body is larger than the 50000 bytes that one request may have; send fewer rows at once",
    ),
    "ten megabytes": (
        "/predict",
        rows({"income": 1.0, "home": "z" * 10_000_000}),
        413,
        "the body is larger than the 50000 bytes that one request may have; send fewer rows at once",
    ),
    "a form": (
        "/predict",
        {"data": {"income": "1"}},
        415,
        "content type 'application/x-www-form-urlencoded' is not supported; send application/json",
    ),
    "compressed": (
        "/predict",
        {"content": b"x", "headers": {**JSON, "content-encoding": "gzip"}},
        415,
        "content encoding 'gzip' is not supported; send plain JSON",
    ),
    "binary tensors": (
        INFER,
        {"content": b"{}", "headers": {**JSON, "inference-header-content-length": "3"}},
        400,
        "inference-header-content-length is '3', the body has 2 bytes",
    ),
    "bad id": (
        "/predict",
        {"json": GOOD, "headers": {"x-request-id": "a b"}},
        400,
        "the request id must be 1 to 128 letters, digits or any of . _ : -",
    ),
    "unknown path": ("/predictt", {"json": GOOD}, 404, "there is nothing at '/predictt'; /docs tells what there is"),
    "unknown model": (
        "/v2/models/credits/infer",
        {"json": {}},
        404,
        "there is no model 'credits' here; this is 'credit'",
    ),
    "unknown version": (
        "/v2/models/credit/versions/9/infer",
        {"json": {}},
        404,
        "model 'credit' has no version '9' here; there is 1",
    ),
    "version no number": (
        "/v2/models/credit/versions/last/infer",
        {"json": {}},
        404,
        "model 'credit' has no version 'last' here; there is 1",
    ),
    "post to a page": ("/healthz", {"json": {}}, 405, "/healthz takes GET or HEAD, not POST"),
    "no tensors": (INFER, {"json": GOOD}, 422, 'the body has no list "inputs" of tensors'),
}


@pytest.mark.parametrize("name", CASES)
def test_answered_with_a_problem(name: str, client: httpx.Client) -> None:
    path, given, status, detail = CASES[name]
    answer = client.post(path, **given)
    problem = answer.json()
    assert answer.status_code == status == problem["status"]
    assert problem["detail"] == detail
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text and "/serving/" not in answer.text


def test_get_of_a_post(client: httpx.Client) -> None:
    answer = client.get("/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["detail"] == "/predict takes POST, not GET"


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: nine\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
    ids=["truncated", "truncated chunk", "bad length", "TLS", "bad version"],
)
def test_broken_connections_harm_nobody(sent: bytes, client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=10) as connection:
        connection.sendall(sent)
    time.sleep(0.05)
    before = client.get("/status").json()
    assert before["failed"] == 0 and client.get("/readyz").status_code == 200


def test_a_million_rows_are_refused_quickly(client: httpx.Client) -> None:
    body = b'{"rows": [' + b",".join([b'{"income":1}'] * 1_000_000) + b"]}"
    began = time.monotonic()
    try:
        answer = client.post("/predict", content=body, headers=JSON)
        assert answer.status_code == 413 and json.loads(answer.text)["status"] == 413
    except httpx.WriteError:
        pass  # far beyond the limit the connection is closed while the caller still sends
    assert time.monotonic() - began < 5
    assert client.get("/readyz").status_code == 200
