"""What `mlops status` tells of the versions that answer, out of the endpoint's metrics."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from mlops_core.contracts import Endpoint, Route, Serving
from mlops_core.flow import counting
from mlops_core.serving import create_app
from mlops_core.serving.exposition import expose
from mlops_core.serving.telemetry import BOUNDS, Telemetry

LOG = {"waiting": 0, "error": "", "written_at": "", "labels_error": ""}
NOTHING = ({"guests": {}, "log": {"written": 0, "dropped": 0, "labels": 0}}, {"guests": {}, "log": LOG})


def route(version: int, role: str, arm: str = "") -> Route:
    return Route(version=version, bundle=Path("b"), sha256="0", role=role, arm=arm)  # type: ignore[arg-type]


def read(telemetry: Telemetry) -> dict[tuple[int, str], counting.Counted]:
    found = counting.read(expose(telemetry.whole(), "credit", "1", []).decode())
    return {(c.version, c.role): c for c in found}


def test_versions_are_told_with_errors_and_latencies() -> None:
    telemetry = Telemetry(lambda: NOTHING)
    for i in range(100):
        telemetry.answered(route(1, "stable", 'a "}" b' * (i % 2)), 3, 0, 0.0015 if i < 98 else 0.3)
    telemetry.unanswered(route(1, "stable"), "timeout")
    telemetry.unanswered(route(1, "stable", "b"), "RuntimeError")
    telemetry.answered(route(12, "candidate"), 1, 0, 60.0)
    telemetry.unanswered(route(12, "shadow"), "busy")
    found = read(telemetry)
    assert list(found) == [(1, "stable"), (12, "candidate"), (12, "shadow")]
    stable, candidate, shadow = found.values()
    assert (stable.answered, stable.errors) == (100, 2)
    assert stable.median and 0.001 < stable.median <= 0.002 and stable.p99 and 0.2 < stable.p99 <= 0.5
    assert (candidate.median, candidate.p99) == (BOUNDS[-1], BOUNDS[-1]), "above the last bound it is that"
    assert (shadow.answered, shadow.errors, shadow.median, shadow.p99) == (0, 1, None, None)
    assert counting.read("") == () and read(Telemetry(lambda: NOTHING)) == {}


def test_an_application_tells_what_it_answered(
    tiny_serving: Callable[..., Serving], http: Callable[..., httpx.Client]
) -> None:
    app = create_app(tiny_serving())
    try:
        client = http(app)
        for _ in range(3):
            assert client.post("/predict", json={"income": 1000.0}).status_code == 200
        assert [(c.version, c.answered) for c in counting.read(client.get("/metrics").text)] == [(1, 3)]
    finally:
        app.close()


def test_who_does_not_tell_in_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "PATIENCE", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    endpoint = Endpoint(name="credit", deployer="http", url=url, versions=(1,))
    assert counting.counted(endpoint) is None
    silent.close()
    assert counting.counted(endpoint) is None, "one that is gone"


@pytest.mark.parametrize("said", [b"", b'HTTP/1.1 200 OK\r\n\r\nmlops_requests_total{outcome="answered"} 1\n'])
def test_who_hangs_up_or_is_somebody_else_is_left_out(said: bytes) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with listening.accept()[0] as caller:
            caller.recv(65536)
            caller.sendall(said)

    thread = threading.Thread(target=answer)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    assert counting.counted(Endpoint(name="credit", deployer="http", url=url, versions=(1,))) is None
    thread.join()
    listening.close()
