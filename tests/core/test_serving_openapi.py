"""The OpenAPI document is true: schemathesis generates right and wrong requests from it, and finds no 500, no
undocumented status, and no answer of another shape than written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from mlops_core.contracts import Serving
from mlops_core.serving import create_app

MAX_BYTES = 20_000


@pytest.fixture(scope="module")
def endpoint(module_serving: Callable[..., Serving], module_http: Callable[[Any], httpx.Client]) -> Iterator[str]:
    app = create_app(module_serving({1: 50.0, 2: 50.0}, max_bytes=MAX_BYTES))
    yield str(module_http(app).base_url)
    assert app.status()["failed"] == 0 and app.status()["requests"] > 0
    app.close()


PATHS = (
    "POST /predict",
    "POST /v2/models/credit/infer",
    "POST /v2/models/credit/versions/{version}/infer",
    "POST /v2/models/credit/feedback",
    "GET /v2/models/credit/versions/{version}",
    "GET /v2/models/credit/versions/{version}/ready",
    "GET /v2/models/credit",
    "GET /v2/models/credit/ready",
    "GET /v2",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /healthz",
    "GET /readyz",
    "GET /status",
    "GET /metrics",
)


@pytest.fixture(scope="module")
def operations(endpoint: str) -> dict[str, Any]:
    rejecting = {"expected-statuses": ["400", "404", "405", "413", "415", "422"]}
    config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": rejecting}})
    document = schemathesis.openapi.from_url(f"{endpoint}/openapi.json", config=config)
    found = [result.ok() for result in document.get_all_operations()]
    return {operation.label: operation for operation in found}


def test_every_operation_is_tried(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(PATHS)


RIGHT = [pytest.param(path, GenerationMode.POSITIVE, id=f"{path}, right") for path in PATHS]
WRONG = [pytest.param(path, GenerationMode.NEGATIVE, id=f"{path}, wrong") for path in PATHS if path.startswith("POST")]


@pytest.mark.parametrize(("label", "mode"), RIGHT + WRONG)
def test_answers_are_as_documented(label: str, mode: GenerationMode, operations: dict[str, Any]) -> None:
    operation = operations[label]
    count = 40 if label.startswith("POST") else 3

    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers(case: Any) -> None:
        # A schema cannot say that all columns have as many values, or that a tensor's data fit its shape.
        reply = case.call()
        if reply.status_code == 413:
            assert int(reply.request.headers["content-length"]) > MAX_BYTES
        case.validate_response(reply, excluded_checks=[CHECKS.get_one("positive_data_acceptance")])

    answers()
