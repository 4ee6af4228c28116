"""Deployer `http` with `grpc_port`: a real process that answers both protocols, keeps its port, and ends whole."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from endpoint_kit import answering
from mlops_local.deployer import HttpDeployer
from tritonclient.utils import InferenceServerException

from mlops_core.access import issue, write_keys
from mlops_core.contracts import Endpoint, Serving
from mlops_core.errors import ServingError
from mlops_core.serving import create_app

Servings = Callable[..., Serving]


@pytest.fixture
def deployer(tmp_path: Path) -> Iterator[HttpDeployer]:
    yield HttpDeployer(auth="none", grpc_port=0, startup_timeout=30)
    HttpDeployer().stop("credit", tmp_path / "serve")


def ask(endpoint: Endpoint, ssl: bool = False, root_certificates: str | None = None, **how: Any) -> str:
    """The version that answers."""
    income = tritonclient.grpc.InferInput("income", [1], "FP64")
    income.set_data_from_numpy(np.array([1000.0]))
    with tritonclient.grpc.InferenceServerClient(
        endpoint.details["grpc"], ssl=ssl, root_certificates=root_certificates
    ) as client:
        return str(client.infer("credit", [income], **how).get_response().model_version)


def test_answers_both_and_keeps_the_port(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    one, two = tiny_serving({1: 100.0}), tiny_serving({2: 100.0})
    endpoint = deployer.apply(one)
    assert endpoint.details["grpc"].startswith("127.0.0.1:") and ask(endpoint) == "1"
    assert deployer.apply(one) == endpoint
    changed = deployer.apply(two)
    assert (changed.pid, changed.details) == (endpoint.pid, endpoint.details) and ask(endpoint) == "2"
    assert deployer.stop("credit", one.state)
    with pytest.raises(InferenceServerException):
        ask(endpoint)
    again = deployer.apply(one)
    assert (again.details, again.url) == (endpoint.details, endpoint.url) and ask(again) == "1"
    without = dataclasses.replace(deployer, grpc_port=None).apply(one)
    assert without.pid != again.pid and "grpc" not in without.details
    assert "Traceback" not in (one.state / "host.log").read_text()


def test_a_taken_port_is_told(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServingError, match=rf"^gRPC cannot listen on 127.0.0.1:{port}: taken by process \d+"):
            dataclasses.replace(deployer, grpc_port=port).apply(serving)
    assert deployer.actual("credit", serving.state) is None
    assert ask(dataclasses.replace(deployer, grpc_port=port).apply(serving)) == "1"


def test_calls_under_way_are_answered_before_the_end(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving(max_rows=10_000)
    endpoint, seen, over = deployer.apply(serving), [], threading.Event()

    def hammer() -> None:
        """Ends at the first call that finds nobody; one that was cut off says something else."""
        rows = tritonclient.grpc.InferInput("income", [5000], "FP64")
        rows.set_data_from_numpy(np.ones(5000))
        with tritonclient.grpc.InferenceServerClient(endpoint.details["grpc"]) as client:
            while True:
                try:
                    seen.append(client.infer("credit", [rows]).as_numpy("probability").shape[0])
                except InferenceServerException as error:
                    seen.append(error.status())
                    return
                over.set()

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert over.wait(20)
    time.sleep(0.2)
    deployer.stop("credit", serving.state)
    for thread in threads:
        thread.join()
    assert [s for s in seen if s != 5000] == ["StatusCode.UNAVAILABLE"] * 3


SIZES, WRONG = [1, 3, 2, 1, 1, 4, 2, 2], 3  # rows of callers at once, and the one whose rows are refused
BATCHING = {"size": sum(SIZES), "wait": 1.0}


def crowd(address: str) -> list[Any]:
    """What callers at once get, each over a connection of its own; no two send the same income."""
    ready, found = threading.Barrier(len(SIZES)), list[Any]([None] * len(SIZES))

    def call(i: int) -> None:
        rows = tritonclient.grpc.InferInput("income", [SIZES[i]], "FP64")
        rows.set_data_from_numpy(np.full(SIZES[i], np.inf) if i == WRONG else np.arange(SIZES[i]) * 50.0 + 500 * i)
        with tritonclient.grpc.InferenceServerClient(address) as client:
            ready.wait(30)
            try:
                found[i] = client.infer("credit", [rows]).as_numpy("probability")
            except InferenceServerException as error:
                found[i] = error.status()

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(SIZES))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def same(found: list[Any], wanted: list[Any]) -> bool:
    """Each its own rows, and one refusal."""
    shares = [(f, w) for i, (f, w) in enumerate(zip(found, wanted, strict=True)) if i != WRONG]
    assert found[WRONG] == wanted[WRONG] == "StatusCode.INVALID_ARGUMENT"
    return all(f.shape == w.shape == (len(f), 2) and np.allclose(f, w, atol=1e-6) for f, w in shares)


def test_who_calls_in_a_crowd_gets_what_it_would_get_alone(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    alone = crowd(deployer.apply(serving).details["grpc"])
    assert [len(a) for i, a in enumerate(alone) if i != WRONG] == [n for i, n in enumerate(SIZES) if i != WRONG]
    together = dataclasses.replace(deployer, batching=BATCHING).apply(serving)
    assert all(same(crowd(together.details["grpc"]), alone) for _ in range(3))
    assert ask(together) == "1", "one alone is answered too, when it has waited"


def test_calls_that_come_together_are_predicted_as_one(tiny_serving: Servings, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, app = create_app(tiny_serving()), create_app(tiny_serving(batching=BATCHING))
    loaded, rows = app._table.first, list[int]()

    def counted(columns: Any, predict: Any = loaded.predict) -> Any:
        rows.append(len(columns["income"]))
        return predict(columns)

    monkeypatch.setattr(loaded, "predict", counted)
    with answering(alone) as (_, lonely), answering(app) as (_, crowded):
        assert same(crowd(crowded), crowd(lonely))
    assert sum(rows) == sum(SIZES) - SIZES[WRONG] and max(rows) > max(SIZES), rows


def test_keys(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving(auth="keys")
    key, text = issue("predict")
    write_keys(serving.state, lambda: [key])
    endpoint = dataclasses.replace(deployer, auth="keys").apply(serving)
    with pytest.raises(InferenceServerException, match="a key is needed") as caught:
        ask(endpoint)
    assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
    assert ask(endpoint, headers={"authorization": f"Bearer {text}"}) == "1"


def test_tls(deployer: HttpDeployer, tiny_serving: Servings, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    more = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", "req", "-x509", *words, *more], check=True, capture_output=True)
    endpoint = dataclasses.replace(deployer, tls_cert=cert, tls_key=key).apply(tiny_serving())
    assert endpoint.url.startswith("https:")
    assert ask(endpoint, ssl=True, root_certificates=str(cert)) == "1"
    with pytest.raises(InferenceServerException):
        ask(endpoint)  # in clear
