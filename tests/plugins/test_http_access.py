"""Deployer `http` towards callers who may not, cannot or will not: keys, TLS, slow sockets. Real processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlops_local.deployer import HttpDeployer

from mlops_core.access import issue, write_keys
from mlops_core.contracts import Choice, Endpoint, Serving
from mlops_core.errors import PluginError, ServingError
from mlops_core.flow.counting import counted
from mlops_core.plugins import Plugins

Servings = Callable[..., Serving]
ROW = {"income": 1000.0}
APART = "do not belong together"
SLOW = 1.0


@pytest.fixture
def serving(tiny_serving: Servings, tmp_path: Path) -> Iterator[Serving]:
    yield tiny_serving()
    HttpDeployer().stop("credit", tmp_path / "serve")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    more = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", "req", "-x509", *words, *more], check=True, capture_output=True)
    return cert, key


def ask(endpoint: Endpoint, key: str = "", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.post(f"{endpoint.url}/predict", json=ROW, headers=headers, timeout=10, trust_env=False, **more)


def test_operators_have_a_port_of_their_own(serving: Serving) -> None:
    operator, caller = issue("admin"), issue("predict")
    write_keys(serving.state, lambda: [operator[0], caller[0]])
    endpoint = HttpDeployer(startup_timeout=30).apply(serving)
    admin = endpoint.details["admin"]
    assert admin.startswith("http://127.0.0.1:") and admin != endpoint.url

    def get(url: str, key: str = "") -> int:
        return httpx.get(url, headers={"x-api-key": key} if key else {}, timeout=10, trust_env=False).status_code

    for path in ("/", "/status", "/metrics", "/%73tatus", "/status/"):
        assert get(endpoint.url + path, operator[1]) == 404
        assert [get(admin + path, key) for key in (operator[1], caller[1], "")] == [200, 403, 401]
    assert ask(endpoint, caller[1]).status_code == 200
    with pytest.MonkeyPatch.context() as patch:  # as 'mlops status' asks
        for key, told in ((operator[1], [(1, "stable", 1, 0)]), (caller[1], None), ("", None)):
            patch.setenv("MLOPS_KEY", key)
            found = counted(endpoint)
            assert (found and [(c.version, c.role, c.answered, c.errors) for c in found]) == told
    told = httpx.get(f"{endpoint.url}/openapi.json", headers={"x-api-key": caller[1]}, trust_env=False).json()
    assert "/status" not in told["paths"] and "/metrics" not in told["paths"]
    assert (get(endpoint.url + "/readyz"), get(admin + "/readyz")) == (200, 200)
    HttpDeployer().stop("credit", serving.state)
    again = HttpDeployer(startup_timeout=30).apply(serving)
    assert (again.url, again.details["admin"]) == (endpoint.url, admin), "both ports are kept"


def test_a_taken_admin_port_is_told(serving: Serving) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServingError, match=rf"port {port} on 127.0.0.1 is taken by process \d+"):
            HttpDeployer(auth="none", admin_port=port, startup_timeout=30).apply(serving)


def test_a_revoked_key_is_refused_at_once_under_load(serving: Serving) -> None:
    kept, revoked = issue("predict"), issue("predict")
    write_keys(serving.state, lambda: [kept[0], revoked[0]])
    endpoint = HttpDeployer(startup_timeout=30).apply(serving)
    assert ask(endpoint).status_code == 401 and "server" not in ask(endpoint, kept[1]).headers
    seen: dict[str, list[tuple[float, float, int]]] = {kept[1]: [], revoked[1]: []}  # began, ended, status
    over = threading.Event()

    def hammer(key: str) -> None:
        with httpx.Client(timeout=10, trust_env=False, headers={"x-api-key": key}) as client:
            while not over.is_set():
                began = time.monotonic()
                status = client.post(f"{endpoint.url}/predict", json=ROW).status_code
                seen[key].append((began, time.monotonic(), status))

    threads = [threading.Thread(target=hammer, args=(key,)) for key in seen for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    at = time.monotonic()
    write_keys(serving.state, lambda: [kept[0]])
    while seen[revoked[1]][-1][2] != 401:
        assert time.monotonic() - at < 20
        time.sleep(0.01)
    time.sleep(0.5)
    over.set()
    for thread in threads:
        thread.join()
    last = max(began for began, _, status in seen[revoked[1]] if status == 200) - at
    refused = min(ended for _, ended, status in seen[revoked[1]] if status == 401)
    print(f"\nrevoked key: last let in {last:.3f} s after, {len(seen[revoked[1]])} requests")
    assert last < 0.5 and {status for began, _, status in seen[revoked[1]] if began > refused} == {401}
    assert {status for _, _, status in seen[kept[1]]} == {200}


def test_auth_changes_in_place(serving: Serving) -> None:
    key, text = issue("predict")
    write_keys(serving.state, lambda: [key])
    endpoint = HttpDeployer(auth="none", startup_timeout=30).apply(serving)
    assert ask(endpoint).status_code == 200
    changed = HttpDeployer(startup_timeout=30).apply(serving)
    assert changed.pid == endpoint.pid and ask(endpoint).status_code == 401 and ask(endpoint, text).status_code == 200


def test_it_may_leave_loopback_with_keys(serving: Serving) -> None:
    endpoint = HttpDeployer(host="0.0.0.0", startup_timeout=30).apply(serving)
    assert ask(endpoint).status_code == 401
    with pytest.raises(PluginError, match=r"host '0\.0\.0\.0' is not loopback, and auth none would let everybody"):
        Plugins().build("deployer", Choice(plugin="http", options={"host": "0.0.0.0", "auth": "none"}))


def test_tls(serving: Serving, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from mlops_core.flow.asking import ask as predict

    key, text = issue("predict")
    write_keys(serving.state, lambda: [key])
    deployer = HttpDeployer(tls_cert=pair[0], tls_key=pair[1], startup_timeout=30)
    endpoint = deployer.apply(serving)
    assert endpoint.url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=str(pair[0]))
    assert ask(endpoint, text, verify=trusting).status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(endpoint, text)
    with pytest.raises(httpx.HTTPError):
        httpx.get(endpoint.url.replace("https", "http") + "/readyz", trust_env=False)
    assert deployer.apply(serving) == endpoint  # it is seen to answer, and left alone
    monkeypatch.setenv("MLOPS_KEY", text)
    assert predict(endpoint, [ROW])["version"] == 1
    monkeypatch.delenv("MLOPS_KEY")
    with pytest.raises(ServingError, match="set MLOPS_KEY to a key for predict; 'mlops keys create --scope predict'"):
        predict(endpoint, [ROW])
    assert HttpDeployer(startup_timeout=30).apply(serving).url.startswith("http://")


def shown(endpoint: Endpoint, port: int = 0) -> bytes:
    """The certificate that a new caller is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"] if port else ["http/1.1"])
    address = ("127.0.0.1", port or int(endpoint.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as raw, context.wrap_socket(raw) as connection:
        return connection.getpeercert(binary_form=True) or b""


def test_a_renewed_certificate_is_shown_without_a_restart(
    serving: Serving, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key, later = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "later"
    shutil.copy(pair[0], cert)
    shutil.copy(pair[1], key)
    later.mkdir()
    new = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", f"{later}/key.pem"]
    subprocess.run(["openssl", "req", "-x509", *new, "-out", f"{later}/cert.pem"], check=True, capture_output=True)
    old, new_one = (ssl.PEM_cert_to_DER_cert(p.read_text()) for p in (cert, later / "cert.pem"))
    deployer = HttpDeployer(auth="none", grpc_port=0, tls_cert=cert, tls_key=key, startup_timeout=30)
    endpoint = deployer.apply(dataclasses.replace(serving, auth="none"))
    grpc, log = int(endpoint.details["grpc"].rpartition(":")[2]), serving.state / "host.log"
    with httpx.Client(verify=ssl.create_default_context(cafile=str(pair[0])), trust_env=False) as kept:
        assert kept.get(f"{endpoint.url}/readyz").status_code == 200
        assert shown(endpoint) == shown(endpoint, grpc) == old
        os.replace(later / "cert.pem", cert)  # the key is yet to come
        until(lambda: shown(endpoint) == shown(endpoint, grpc) == old and log.read_text().count(APART) == 2)
        os.replace(later / "key.pem", key)
        until(lambda: shown(endpoint) == shown(endpoint, grpc) == new_one)
        assert kept.get(f"{endpoint.url}/readyz").status_code == 200
    assert deployer.apply(dataclasses.replace(serving, auth="none")) == endpoint, "the same process"
    assert log.read_text().count(APART) == 2, "each door tells it once"


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_certificates_that_are_none_are_told(serving: Serving, pair: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = pair
    (tmp_path / "text.pem").write_text("hello")
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(other), "2048"], check=True, capture_output=True)
    for files, words in (
        ((tmp_path / "nothing.pem", key), "deployer.tls_cert: cannot read .*nothing.pem: No such file"),
        ((tmp_path / "text.pem", key), "cannot be used: not PEM, or protected"),
        ((cert, other), "cannot be used: they do not belong together"),
    ):
        with pytest.raises(ServingError, match=words):
            HttpDeployer(tls_cert=files[0], tls_key=files[1]).apply(serving)
    with pytest.raises(ValueError, match="tls_cert needs tls_key beside it"):
        HttpDeployer(tls_cert=cert)
    assert HttpDeployer().actual("credit", serving.state) is None


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_slow_callers_are_let_go_and_harm_nobody(serving: Serving, closing: contextlib.ExitStack) -> None:
    """Slowloris in the head, in the body, and saying nothing at all."""
    endpoint = HttpDeployer(auth="none", request_timeout=SLOW, startup_timeout=30).apply(serving)
    port = int(endpoint.url.rpartition(":")[2])
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    body = b'{"income": 1000.0}'
    whole = head % len(body) + body
    begun = {"silent": b"", "head": whole[:30], "body": head % 1000 + body, "second": whole}
    kinds = [*begun] * 50
    callers = [(closing.enter_context(socket.create_connection(("127.0.0.1", port))), kind) for kind in kinds]
    start, slowest = time.monotonic(), 0.0
    ended: dict[socket.socket, float] = {}
    said = {caller: b"" for caller, _ in callers}
    dripping: set[socket.socket] = set()
    for caller, kind in callers:
        caller.sendall(begun[kind])
        caller.setblocking(False)
    while len(ended) < len(callers) and time.monotonic() < start + 20 * SLOW:
        at = time.monotonic()
        assert ask(endpoint).status_code == 200
        slowest = max(slowest, time.monotonic() - at)
        for caller, kind in callers:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                if kind != "silent" and caller not in ended and 0.2 * SLOW < at - start < 0.7 * SLOW:
                    caller.send(b"GET /" if kind == "second" and caller not in dripping else b"x")
                    dripping.add(caller)
                data = caller.recv(65536)
                said[caller] += data
                if not data:
                    ended.setdefault(caller, time.monotonic() - start)
    print(
        f"\n{len(callers)} slow callers let go after {min(ended.values()):.2f} to {max(ended.values()):.2f} s; "
        f"meanwhile the slowest good request took {slowest * 1000:.0f} ms"
    )
    assert len(ended) == len(callers)
    assert min(ended.values()) > SLOW * 0.9 and max(ended.values()) < 15 * SLOW
    for caller, kind in callers:
        assert said[caller].count(b"HTTP/1.1 408") == 1 and said[caller].count(b"HTTP/1.1 200") == (kind == "second")
        assert b"the request was not whole after 1 s" in said[caller]
    assert ask(endpoint).status_code == 200


def test_no_secret_is_left_anywhere(serving: Serving) -> None:
    key, text = issue("predict")
    secret = text.split("_", 2)[2].encode()
    write_keys(serving.state, lambda: [key])
    endpoint = HttpDeployer(startup_timeout=30).apply(serving)
    assert ask(endpoint, text).status_code == 200
    assert ask(endpoint, text, content=b"{").status_code in (400, 415, 422, 200)
    wrong = httpx.get(f"{endpoint.url}/nowhere", headers={"x-api-key": text}, trust_env=False)
    assert wrong.status_code == 404 and secret not in wrong.content
    HttpDeployer().stop("credit", serving.state)
    files = [f for folder in (serving.state, serving.log) for f in folder.rglob("*") if f.is_file()]
    assert any(f.suffix == ".jsonl" for f in files)
    for file in files:
        assert secret not in file.read_bytes(), file
        if file.name == "keys.json":
            assert os.stat(file).st_mode & 0o077 == 0


def test_a_request_limit_changes_in_place(serving: Serving) -> None:
    deployer = HttpDeployer(auth="none", startup_timeout=30)
    endpoint = deployer.apply(serving)
    assert dataclasses.replace(deployer, request_timeout=0.5).apply(serving).pid == endpoint.pid
    with socket.create_connection(("127.0.0.1", int(endpoint.url.rpartition(":")[2]))) as caller:
        caller.settimeout(5)
        assert caller.recv(100).startswith(b"HTTP/1.1 408")
