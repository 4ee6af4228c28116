"""Fixtures that more than one room's tests use."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from mlops_core.bundle import open_bundle, seal
from mlops_core.contracts import Choice, Column, Route, Serving, Signature
from mlops_core.features import CategoryFeature, Encoder, ModelFile, NumberFeature, load_onnx, save_onnx

# In CI the same examples each time: a red run must mean a change, not luck. Machines there may be slow and busy.
settings.register_profile(
    "house", deadline=None, derandomize=bool(os.environ.get("CI")), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")

# A shell's job in the background ignores Ctrl-C, and would hand that down to every command that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

INPUTS = (
    Column(name="age", kind="number", dtype="int64"),
    Column(name="income", kind="number", dtype="float64", nullable=False),
    Column(name="home", kind="category", dtype="string", categories=("rent", "own")),
    Column(name="married", kind="boolean", dtype="boolean"),
    Column(name="since", kind="time", dtype="datetime"),
)
SAMPLES: dict[str, Any] = {
    "age": np.array([30.0, np.nan, 55.0]),
    "income": np.array([1000.0, 2000.5, 10.0]),
    "home": np.array(["rent", None, "own"], object),
    "married": np.array([1.0, 0.0, np.nan]),
    "since": np.array(["2020-01-01", "NaT", "2021-06-01"], "datetime64[us]"),
}


def write_tiny_model(folder: Path, bias: float = 0.0) -> Path:
    """A linear binary classifier as an ONNX model folder; `bias` shifts its answers, to tell versions apart."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True)
    encoder = Encoder(
        numbers=(
            NumberFeature(name="age", mean=40, scale=10, flag=True),
            NumberFeature(name="income", mean=1000, scale=1000),
            NumberFeature(name="married"),
            NumberFeature(name="since", mean=1.6e9, scale=1e8),
        ),
        categories=(CategoryFeature(name="home", values=("rent", "own")),),
        layout="onehot",
    )
    weight = np.linspace(-1, 1, encoder.width * 2, dtype=np.float32).reshape(encoder.width, 2)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["matrix", "w", "b"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probability"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("matrix", TensorProto.FLOAT, ["n", encoder.width])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([0, bias], np.float32), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    save_onnx(folder, encoder, ModelFile(format="onnx", task="binary", target="status", classes=("bad", "good")))
    return folder


def seal_tiny_bundle(folder: Path, bias: float = 0.0) -> Path:
    model = write_tiny_model(folder.with_name(folder.name + "-model"), bias)
    return seal(
        model,
        folder,
        signature=Signature(inputs=INPUTS, task="binary", target="status", classes=("bad", "good")),
        trainer=Choice(plugin="tiny", options={"bias": bias}),
        lineage={"name": "credit", "data": "abc", "seed": 0},
        profile=None,
        samples={**SAMPLES, **load_onnx(model)(SAMPLES)},
    )


def make_tiny_serving(folder: Path, weights: dict[int, float] | None = None, **fields: Any) -> Serving:
    routes = []
    for version, weight in (weights or {1: 100.0}).items():
        path = folder / "bundles" / f"v{version}"
        path = path if path.exists() else seal_tiny_bundle(path, bias=float(version))
        role = "stable" if not routes else "candidate"
        routes.append(Route(version=version, bundle=path, sha256=open_bundle(path).sha256, weight=weight, role=role))
    state = folder / "serve"
    return Serving(**{"name": "credit", "routes": tuple(routes), "state": state, "log": state / "log", **fields})


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Callable[..., Path]:
    """`tiny_bundle(version=1)` seals a bundle whose answers depend on the version, and returns its folder."""
    return lambda version=1: seal_tiny_bundle(tmp_path / "bundles" / f"v{version}", bias=float(version))


@pytest.fixture
def tiny_serving(tmp_path: Path) -> Callable[..., Serving]:
    """`tiny_serving({1: 90, 2: 10})` is an endpoint 'credit' of tiny bundles with these weights."""
    return functools.partial(make_tiny_serving, tmp_path)


@pytest.fixture(scope="module")
def module_serving(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Serving]:
    """The same for a whole module."""
    return functools.partial(make_tiny_serving, tmp_path_factory.mktemp("serving"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _postgres_program(name: str) -> str | None:
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[4]))
    return str(beside[-1]) if beside else shutil.which(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL server on loopback, its user 'mlops' the owner; stopped at the end.

    PostgreSQL refuses to run as root: then the user 'postgres' (or 'nobody') runs it.
    """
    initdb, server = _postgres_program("initdb"), _postgres_program("postgres")
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL server is installed here (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    password, port = secrets.token_hex(8), free_port()
    (folder / "password").write_text(password)
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = next(pwd.getpwnam(n) for n in ("postgres", "nobody") if n in {u.pw_name for u in pwd.getpwall()})
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    cluster = folder / "cluster"
    options = ["--username=mlops", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync", "-E", "UTF8"]
    command = [initdb, "-D", str(cluster), "--locale=C", *options]
    made = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120, **who)
    assert made.returncode == 0, made.stderr
    settings = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "fsync=off"]
    with (folder / "log").open("w") as log:
        command = [server, "-D", str(cluster), *(f"-c{setting}" for setting in settings)]
        process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, **who)
    try:
        _await_port(port, process, folder / "log")
        yield f"postgresql://mlops:{password}@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while "ready to accept connections" not in log.read_text():
        assert process.poll() is None, f"the PostgreSQL server died: {log.read_text()}"
        assert time.monotonic() < end, f"no PostgreSQL server on port {port} after 60 s: {log.read_text()}"
        time.sleep(0.05)


@pytest.fixture
def postgres_database(postgres: str) -> str:
    """The URL of a new, empty database on the real server."""
    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.removesuffix("postgres") + name


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A bucket on a real S3 server (moto's) on loopback."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # one that an earlier test made goes on to ask that test's server
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "moto.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(f"{url}/bucket", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (tmp_path / "moto.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.2)
        yield "s3://bucket"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new ledger, in SQLite and then in PostgreSQL: the same suite runs on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return str(request.getfixturevalue("postgres_database"))


def _client_maker() -> Iterator[Callable[[Any], httpx.Client]]:
    """`http(app)` serves an ASGI application on a free loopback port, and gives a client of it."""
    with contextlib.ExitStack() as stack:
        yield lambda app: stack.enter_context(_serve(app))


http = pytest.fixture(_client_maker, name="http")
module_http = pytest.fixture(_client_maker, name="module_http", scope="module")


@contextlib.contextmanager
def _serve(app: Any) -> Iterator[httpx.Client]:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
