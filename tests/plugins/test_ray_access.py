"""Deployer `ray_serve` open to a network: keys, TLS by HAProxy, slow callers. One endpoint, in order."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc
from mlops_ray.deployer import RayServeDeployer
from tritonclient.utils import InferenceServerException

from mlops_core.access import issue, write_keys
from mlops_core.contracts import Endpoint, Serving
from mlops_core.errors import ServingError
from mlops_core.flow.counting import counted

ROW = {"income": 1000.0}
KEPT, REVOKED, OPERATOR = issue("predict"), issue("predict"), issue("admin")


@pytest.fixture(scope="module")
def serving(module_serving: Callable[..., Serving]) -> Serving:
    return module_serving({1: 100})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    cert, key = (tmp_path_factory.mktemp("tls") / name for name in ("cert.pem", "key.pem"))
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=here"]
    more = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", "req", "-x509", *words, *more], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def deployer(pair: tuple[Path, Path]) -> RayServeDeployer:
    return RayServeDeployer(
        host="0.0.0.0",
        grpc_port=0,
        tls_cert=pair[0],
        tls_key=pair[1],
        request_timeout=1,
        batching={"size": 32, "wait": 0.002},
        access_log=True,
        cpus=0.1,
        startup_timeout=180,
    )


@pytest.fixture(scope="module")
def endpoint(deployer: RayServeDeployer, serving: Serving) -> Iterator[Endpoint]:
    write_keys(serving.state, lambda: [KEPT[0], REVOKED[0], OPERATOR[0]])
    try:
        yield deployer.apply(serving)
    finally:
        deployer.stop("credit", serving.state)


@pytest.fixture
def client(endpoint: Endpoint, pair: tuple[Path, Path]) -> Iterator[httpx.Client]:
    url = endpoint.url.replace("0.0.0.0", "127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(pair[0]))
    with httpx.Client(base_url=url, timeout=20, trust_env=False, verify=trusting) as client:
        yield client


def listening(endpoint: Endpoint) -> set[Any]:
    found = set()
    host = psutil.Process(endpoint.pid)
    for process in (host, *host.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {c.laddr for c in process.net_connections() if c.status == "LISTEN"}
    return found


def test_only_the_front_leaves_loopback_and_speaks_tls(endpoint, deployer, serving, client):
    denied = client.post("/predict", json=ROW)
    assert denied.status_code == 401 and denied.headers["www-authenticate"] == "Bearer"
    answer = client.post("/predict", json=ROW, headers={"x-api-key": KEPT[1]})
    assert answer.status_code == 200 and "server" not in answer.headers
    assert client.get("/-/routes").status_code == 404
    end, outside = time.monotonic() + 10, set()
    doors = {("0.0.0.0", int(url.rpartition(":")[2])) for url in (endpoint.url, endpoint.details["grpc"])}
    while outside != doors and time.monotonic() < end:  # HAProxy hands its socket over when it learns of a replica
        outside = {(a.ip, a.port) for a in listening(endpoint) if str(a.ip).removeprefix("::ffff:") != "127.0.0.1"}
        outside = {(ip.removeprefix("::").replace("::", "0.0.0.0") or "0.0.0.0", port) for ip, port in outside}
    assert outside == doors
    assert endpoint.url.startswith("https://") and deployer.apply(serving) == endpoint
    with pytest.raises(httpx.HTTPError):
        httpx.get(str(client.base_url).replace("https", "http") + "/readyz", trust_env=False)


def test_a_revoked_key_is_refused_at_once_by_every_replica(endpoint, serving, client):
    seen: list[tuple[float, int]] = []
    over = threading.Event()

    def hammer() -> None:
        while not over.is_set():
            began = time.monotonic()
            seen.append((began, client.post("/predict", json=ROW, headers={"x-api-key": REVOKED[1]}).status_code))

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    at = time.monotonic()
    write_keys(serving.state, lambda: [KEPT[0], OPERATOR[0]])
    time.sleep(1)
    over.set()
    for thread in threads:
        thread.join()
    last = max(when for when, status in seen if status == 200) - at
    print(f"\nrevoked key: last let in {last:.3f} s after, by 2 replicas, {len(seen)} requests")
    assert last < 0.5 and {status for when, status in seen if when > at + 0.5} == {401}
    assert client.post("/predict", json=ROW, headers={"x-api-key": KEPT[1]}).status_code == 200


def test_operators_have_a_port_of_their_own(endpoint, client, pair):
    with httpx.Client(base_url=endpoint.details["admin"], verify=ssl.create_default_context(cafile=pair[0])) as admin:
        forged = {"x-mlops-door": "admin"}
        for path in ("/", "/status", "/metrics", "/%73tatus", "/status/"):
            assert client.get(path, headers={"x-api-key": OPERATOR[1], **forged}).status_code == 404
            answers = [admin.get(path, headers={"x-api-key": key}) for key in (OPERATOR[1], KEPT[1], "")]
            assert [a.status_code for a in answers] == [200, 403, 401]
        assert admin.post("/predict", json=ROW, headers={"x-api-key": KEPT[1]}).status_code == 200


def test_status_tells_what_every_replica_answered_to_the_key_of_an_operator(endpoint, client, monkeypatch):
    """As 'mlops status' asks, at the admin port and by the endpoint's own certificate."""
    monkeypatch.setenv("MLOPS_KEY", OPERATOR[1])
    (before,) = counted(endpoint) or ()
    for _ in range(20):
        assert client.post("/predict", json=ROW, headers={"x-api-key": KEPT[1]}).status_code == 200
    end = time.monotonic() + 20
    while (now := counted(endpoint) or (before,))[0].answered < before.answered + 20:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert [(c.version, c.role, c.errors) for c in now] == [(1, "stable", 0)]
    assert now[0].median and now[0].p99 and 0 < now[0].median <= now[0].p99 <= 10
    for key in (KEPT[1], ""):
        monkeypatch.setenv("MLOPS_KEY", key)
        assert counted(endpoint) is None


def test_every_replica_answers_grpc_on_one_port(endpoint, pair, serving):
    income = tritonclient.grpc.InferInput("income", [1], "FP64")
    income.set_data_from_numpy(np.array([1000.0]))

    def ask(key: str) -> str:
        where = endpoint.details["grpc"].replace("0.0.0.0", "127.0.0.1")
        alone = [("grpc.use_local_subchannel_pool", 1)]  # or all of this process would share one connection
        with tritonclient.grpc.InferenceServerClient(
            where, ssl=True, root_certificates=str(pair[0]), channel_args=alone
        ) as client:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return str(client.infer("credit", [income], headers=headers).get_response().model_version)

    with pytest.raises(InferenceServerException, match="a key is needed"):
        ask("")
    assert [ask(KEPT[1]) for _ in range(30)] == ["1"] * 30
    ports = {c.pid for c in psutil.net_connections() if c.status == "LISTEN" and c.laddr.port == port_of(endpoint)}
    assert len(ports) == 2, "both replicas listen"


def port_of(endpoint: Endpoint) -> int:
    return int(endpoint.details["grpc"].rpartition(":")[2])


def test_requests_are_predicted_together_and_each_leaves_a_line(endpoint, serving, client):
    began, key = serving.state / "access.log", {"x-api-key": KEPT[1]}
    rows = [{"income": 1000.0 + i} for i in range(64)]
    alone = [client.post("/predict", json=row, headers=key).json()["predictions"][0] for row in rows[:2]]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda row: client.post("/predict", json=row, headers=key), rows))
    assert {a.status_code for a in answers} == {200}
    assert [a.json()["predictions"][0] for a in answers[:2]] == alone
    asked = {a.headers["x-request-id"] for a in answers}
    end = time.monotonic() + 10
    while time.monotonic() < end and asked - {json.loads(line)["id"] for line in began.read_text().splitlines()}:
        time.sleep(0.1)
    lines = [json.loads(line) for line in began.read_text().splitlines()]
    assert asked <= {line["id"] for line in lines}
    assert {line["key"] for line in lines if line["id"] in asked} == {KEPT[0].id}


@pytest.mark.parametrize(
    "sent", [b"POST /predict HT", b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{"]
)
def test_a_slow_caller_is_let_go(endpoint, sent):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port, began = int(endpoint.url.rpartition(":")[2]), time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as caller:
        caller.settimeout(20)
        caller.sendall(sent)
        said = caller.recv(1000)
        assert said.startswith(b"HTTP/1.1 408") and 0.5 < time.monotonic() - began < 20


def test_who_begins_tls_and_never_ends_it_is_let_go(endpoint):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(endpoint.url.rpartition(":")[2])), timeout=20) as caller:
        caller.sendall(b"\x16\x03\x01")
        assert caller.recv(100) == b"" and 0.5 < time.monotonic() - began < 20


def shown(url: str) -> bytes:
    """The certificate that a new caller is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1", "h2"])
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as raw, context.wrap_socket(raw) as connection:
        return connection.getpeercert(binary_form=True) or b""


def test_a_renewed_certificate_is_shown_without_a_restart(endpoint, client, pair, serving, tmp_path):
    assert client.get("/readyz").status_code == 200
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=there", "-out", str(cert)]
    subprocess.run(["openssl", "req", "-x509", *words, "-keyout", str(key)], check=True, capture_output=True)
    old, new = (ssl.PEM_cert_to_DER_cert(path.read_text()) for path in (pair[0], cert))
    doors, log = [endpoint.url, endpoint.details["admin"], endpoint.details["grpc"]], serving.state / "host.log"

    def until(true: Callable[[], bool]) -> None:
        end = time.monotonic() + 40
        while not true():
            assert time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.2)

    os.replace(cert, pair[0])  # the key is yet to come
    until(lambda: "do not belong together" in log.read_text())
    assert {shown(url) for url in doors} == {old}
    os.replace(key, pair[1])
    until(lambda: {shown(url) for url in doors} == {new})
    assert client.get("/readyz").status_code == 200, "who is connected stays so"
    for process in psutil.Process(endpoint.pid).children(recursive=True):
        if process.name() == "haproxy":
            process.kill()
    until(lambda: answers(endpoint) and shown(endpoint.url) == new)


def answers(endpoint: Endpoint) -> bool:
    with contextlib.suppress(OSError):
        return bool(shown(endpoint.url))
    return False


def test_what_cannot_speak_tls_says_so(serving, pair, tmp_path):
    with pytest.raises(ServingError, match=r"deployer\.tls_cert wants HAProxy to speak TLS.*; use deployer: http"):
        RayServeDeployer(haproxy=False, tls_cert=pair[0], tls_key=pair[1], cpus=0.1).apply(serving)
