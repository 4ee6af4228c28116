"""Deployer `http` with real processes: idempotent, switching in place, surviving what kills it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from mlops_local.deployer import HttpDeployer

from mlops_core import is_held
from mlops_core.contracts import Choice, Endpoint, Serving, plain
from mlops_core.errors import PluginError, ServingError
from mlops_core.plugins import Plugins
from mlops_core.stages import Deployer
from mlops_core.testing import check_deployer
from mlops_core.windows import collect

Servings = Callable[..., Serving]
ROW = {"income": 1000.0}


@pytest.fixture
def deployer(tmp_path: Path) -> Iterator[HttpDeployer]:
    yield HttpDeployer(auth="none", startup_timeout=30)
    HttpDeployer().stop("credit", tmp_path / "serve")


def ask(endpoint: Endpoint, **more: Any) -> httpx.Response:
    return httpx.post(f"{endpoint.url}/predict", json=ROW, timeout=10, trust_env=False, **more)


def kill(endpoint: Endpoint, serving: Serving) -> None:
    os.kill(endpoint.pid, signal.SIGKILL)
    while is_held(serving.state / "host.lock"):
        time.sleep(0.01)


@contextlib.contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        try:
            yield process
        finally:
            process.kill()


def host_file(serving: Serving) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((serving.state / "host.json").read_text())
    return found


def test_keeps_what_a_deployer_promises(tmp_path: Path) -> None:
    check_deployer(HttpDeployer(auth="none", startup_timeout=30), tmp_path)


def test_apply_serves_and_applying_again_changes_nothing(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    assert isinstance(deployer, Deployer) and deployer.actual("credit", serving.state) is None
    endpoint = deployer.apply(serving)
    assert endpoint.url.startswith("http://127.0.0.1:") and endpoint.versions == (1,) and endpoint.deployer == "http"
    assert ask(endpoint).json()["version"] == 1
    files = {p: p.stat().st_mtime_ns for p in serving.state.glob("*.json")}
    assert deployer.apply(serving) == endpoint
    assert files == {p: p.stat().st_mtime_ns for p in serving.state.glob("*.json")}
    assert deployer.actual("credit", serving.state) == (endpoint, serving)
    assert deployer.actual("other", serving.state) is None


def test_stop_ends_the_process_once(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    endpoint = deployer.apply(serving)
    assert deployer.stop("credit", serving.state) is True
    assert deployer.stop("credit", serving.state) is False
    assert deployer.actual("credit", serving.state) is None
    with pytest.raises(httpx.ConnectError):
        ask(endpoint)
    assert deployer.apply(serving).url == endpoint.url  # the port is kept
    assert "Traceback" not in (serving.state / "host.log").read_text()


def test_versions_are_replaced_under_load_without_a_failed_request(
    deployer: HttpDeployer, tiny_serving: Servings
) -> None:
    one, two = tiny_serving({1: 100.0}), tiny_serving({2: 100.0})
    both = tiny_serving({1: 50.0, 2: 50.0})
    endpoint, over = deployer.apply(one), threading.Event()

    def hammer() -> list[tuple[int, int]]:
        with httpx.Client(base_url=endpoint.url, timeout=10, trust_env=False) as client:
            seen = []
            while not over.is_set():
                answer = client.post("/predict", json=ROW)
                seen.append((answer.status_code, answer.json()["version"]))
        return seen

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        running = [pool.submit(hammer) for _ in range(6)]
        for serving in (two, both, one, two):
            assert deployer.apply(serving).pid == endpoint.pid
            time.sleep(0.1)
        over.set()
        seen = [s for r in running for s in r.result()]
    assert {status for status, _ in seen} == {200} and {version for _, version in seen} == {1, 2}
    assert ask(endpoint).json()["version"] == 2
    window = _logged(deployer, two, len(seen) + 1)
    assert window == len(seen) + 1


def _logged(deployer: HttpDeployer, serving: Serving, wanted: int) -> int:
    """Rows in the log, of both versions, once the host has ended."""
    deployer.stop("credit", serving.state)
    found = [collect(serving.log, serving.state / "windows", endpoint="credit", version=v) for v in (1, 2)]
    return sum(w.rows for w in found if w)


def test_killed_hosts_are_started_again_on_the_same_port(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    endpoint = deployer.apply(serving)
    kill(endpoint, serving)
    again = deployer.apply(serving)
    assert again.url == endpoint.url and again.pid != endpoint.pid and ask(again).status_code == 200


def test_a_recycled_process_id_is_not_killed(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    endpoint = deployer.apply(serving)
    kill(endpoint, serving)
    with sleeper() as innocent:
        (serving.state / "host.json").write_text(json.dumps({**host_file(serving), "pid": innocent.pid}))
        assert deployer.actual("credit", serving.state) is None
        assert deployer.stop("credit", serving.state) is False
        again = deployer.apply(serving)
        assert innocent.poll() is None and again.pid != innocent.pid


def test_a_hanging_host_is_replaced(
    deployer: HttpDeployer, tiny_serving: Servings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_core.serving.process.ANSWER_SECONDS", 0.5)
    monkeypatch.setattr("mlops_core.serving.process.STOP_SECONDS", 1.0)
    serving = tiny_serving()
    endpoint = deployer.apply(serving)
    os.kill(endpoint.pid, signal.SIGSTOP)
    again = deployer.apply(serving)
    assert again.pid != endpoint.pid and again.url == endpoint.url and ask(again).status_code == 200


def test_a_version_that_cannot_be_served_is_refused_and_the_old_one_goes_on(
    deployer: HttpDeployer, tiny_serving: Servings
) -> None:
    one, two = tiny_serving({1: 100.0}), tiny_serving({2: 100.0})
    endpoint = deployer.apply(one)
    model = two.routes[0].bundle / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + b"!")
    message = (
        r"version 2 of 'credit' cannot be served: bundle .*/v2: file 'model\.onnx' is altered: .*; the endpoint goes"
    )
    with pytest.raises(ServingError, match=message):
        deployer.apply(two)
    assert deployer.actual("credit", one.state) == (endpoint, one)
    assert deployer.apply(one) == endpoint and ask(endpoint).json()["version"] == 1
    model.write_bytes(whole)
    assert deployer.apply(two).versions == (2,)


def test_a_first_start_that_fails_leaves_nothing_running(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    (serving.routes[0].bundle / "extra").write_text("x")
    with pytest.raises(
        ServingError, match=r"version 1 of 'credit' cannot be served: .* 'extra' is not in its manifest$"
    ):
        deployer.apply(serving)
    assert not is_held(serving.state / "host.lock") and not (serving.state / "desired.json").exists()


def test_a_host_that_dies_at_once_is_told_with_its_log(
    deployer: HttpDeployer, tiny_serving: Servings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops_core.serving.process.sys.executable", "/no/such/python")
    with pytest.raises(
        ServingError, match=r"(?s)the endpoint's process ended while starting\n.*no/such/python: not found"
    ):
        deployer.apply(tiny_serving())


def test_a_taken_port_is_told_with_who_has_it(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = re.escape(f"port {port} on 127.0.0.1 is taken by process {os.getpid()} (")
        with pytest.raises(ServingError, match=message + r".*\); stop it, declare another 'port', or remove "):
            HttpDeployer(auth="none", port=port).apply(tiny_serving())


def test_another_port_moves_the_endpoint_and_limits_change_in_place(
    deployer: HttpDeployer, tiny_serving: Servings
) -> None:
    serving = tiny_serving()
    endpoint = deployer.apply(serving)
    tight = dataclasses.replace(deployer, max_rows=1).apply(serving)
    assert tight == endpoint
    two_rows = {"rows": [ROW, ROW]}
    assert httpx.post(f"{tight.url}/predict", json=two_rows, trust_env=False).status_code == 413
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    moved = dataclasses.replace(deployer, port=port).apply(serving)
    assert moved.url == f"http://127.0.0.1:{port}" and ask(moved).status_code == 200
    with pytest.raises(httpx.ConnectError):
        ask(endpoint)


def test_a_request_under_way_ends_before_the_process_does(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    endpoint, sent, draining = deployer.apply(serving), threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield b'{"income": '
        sent.set()
        draining.wait(30)
        yield b"1}"

    with concurrent.futures.ThreadPoolExecutor() as pool:
        headers = {"content-type": "application/json"}
        call = pool.submit(httpx.post, f"{endpoint.url}/predict", content=body(), headers=headers, timeout=60)
        sent.wait(30)
        stopping = pool.submit(deployer.stop, "credit", serving.state)
        while _accepts(endpoint):
            time.sleep(0.02)
        assert not stopping.done()
        draining.set()
        assert call.result().status_code == 200 and stopping.result() is True
    window = collect(serving.log, serving.state / "windows", endpoint="credit")
    assert window is not None and window.rows == 1


def _accepts(endpoint: Endpoint) -> bool:
    try:
        return httpx.get(f"{endpoint.url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_guests_and_shadows_end_with_the_process(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving({1: 50, 2: 50, 3: 0})
    shadow = dataclasses.replace(serving.routes[2], role="shadow")
    endpoint = deployer.apply(dataclasses.replace(serving, routes=(*serving.routes[:2], shadow)))
    processes = psutil.Process(endpoint.pid).children(recursive=True)
    assert len(processes) == 2
    answers = [ask(endpoint).json() for _ in range(20)]
    began = time.monotonic()
    assert deployer.stop("credit", serving.state)
    print(f"\nan endpoint with two guests stopped in {time.monotonic() - began:.2f} s")
    assert time.monotonic() - began < 5
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    lines = [json.loads(line) for file in serving.log.glob("*.jsonl") for line in file.read_text().splitlines()]
    assert sorted(line["id"] for line in lines if line["role"] == "shadow") == sorted(a["id"] for a in answers)


def test_applies_at_once_end_in_one_process(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        endpoints = list(pool.map(lambda _: HttpDeployer(auth="none").apply(serving), range(4)))
    assert len({e.pid for e in endpoints}) == 1


def test_it_outlives_the_command_that_started_it(deployer: HttpDeployer, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    code = """if True:
        import json, sys
        from mlops_core.contracts import Serving, restore
        from mlops_local.deployer import HttpDeployer
        print(HttpDeployer(auth="none").apply(restore(Serving, json.loads(sys.argv[1]))).pid)
    """
    words = [sys.executable, "-c", code, json.dumps(plain(serving))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    found = deployer.actual("credit", serving.state)
    assert found is not None and found[0].pid == int(done.stdout) and ask(found[0]).status_code == 200


def test_only_loopback_is_open_to_everybody(tmp_path: Path) -> None:
    HttpDeployer(auth="none", host="localhost")
    HttpDeployer(auth="none", host="127.0.0.2")
    HttpDeployer(host="0.0.0.0")  # by key
    with pytest.raises(PluginError) as caught:
        Plugins().build("deployer", Choice(plugin="http", options={"host": "0.0.0.0", "auth": "none"}))
    assert "host '0.0.0.0' is not loopback, and auth none would let everybody on the network in" in str(caught.value)


def test_damaged_state_and_unwritable_folders_are_named(tmp_path: Path, tiny_serving: Servings) -> None:
    serving = tiny_serving()
    serving.state.mkdir(parents=True)
    (serving.state / "desired.json").write_text("{")
    with pytest.raises(ServingError, match=r"desired\.json is damaged; stop the endpoint and remove it"):
        HttpDeployer(auth="none").apply(serving)
    (tmp_path / "file").write_text("")
    blocked = dataclasses.replace(serving, state=tmp_path / "file" / "serve")
    with pytest.raises(ServingError, match=r"the endpoint's state in .*/file/serve cannot be written: "):
        HttpDeployer(auth="none").apply(blocked)
