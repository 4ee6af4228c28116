"""Launcher `ray` before anything is sent: which address, who answers there, and what the command finds on arrival.

With a real cluster it is tried in tests/e2e/test_submit.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import ray
from cluster_kit import cluster
from mlops_ray import jobs_aboard
from mlops_ray.jobs import RayLauncher
from mlops_ray.jobs_client import url_of
from mlops_ray.runtime import ray_running

from mlops_core.contracts import Parcel
from mlops_core.errors import LaunchError, UsageError
from mlops_core.stages import Launcher
from mlops_core.testing import check_launcher


@contextlib.contextmanager
def dashboard(answers: Mapping[str, Any], got: dict[str, bytes] | None = None) -> Iterator[str]:
    """What answers like a dashboard of another kind of cluster than can be started here; `got`: what was sent to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def do_PUT(self) -> None:
            assert got is not None
            got[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            posted, taken = self.path == "/api/jobs/", "refuse" not in answers
            self.send_response(200 if taken or not posted else 500)
            self.end_headers()
            self.wfile.write(b'{"job_id": "", "submission_id": "tiny-1"}' if posted and taken else b"{}")

        do_POST = do_PUT

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refused(address: str) -> str:
    with pytest.raises(LaunchError) as told:
        RayLauncher(address=address).all()
    return str(told.value)


def test_it_is_a_launcher() -> None:
    assert isinstance(RayLauncher(), Launcher)


@pytest.mark.timeout(300)
def test_it_keeps_the_promises_of_a_launcher(tmp_path: Path) -> None:
    with cluster() as there:
        check_launcher(RayLauncher(address=there.url), tmp_path)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("head", "http://head:8265"),
        ("10.0.0.1:9000", "http://10.0.0.1:9000"),
        ("http://head:8265/", "http://head:8265"),
        ("https://ray.example.org", "https://ray.example.org"),
        ("https://example.org/team/ray/", "https://example.org/team/ray"),
    ],
)
def test_addresses(given: str, url: str) -> None:
    assert url_of(given) == url


@pytest.mark.parametrize("given", ["auto", "local", "ray://head:10001", "ftp://head", "http://", "he ad", ""])
def test_what_is_no_address_of_a_dashboard_is_told(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(UsageError, match=r"http://HEAD:8265"):
        RayLauncher(address=given).all()


def test_a_cluster_that_does_not_answer_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert refused(closed) == f"no Ray cluster answers at {closed}: connection refused"
    assert "no Ray cluster answers at http://no-such-host.invalid:8265" in refused("no-such-host.invalid")


def test_one_that_takes_the_connection_and_says_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_ray.jobs_client.ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert refused(url) == f"no Ray cluster answers at {url}: no answer in time"


def test_another_ray_or_python_is_told() -> None:
    here, python = ray.__version__, platform.python_version()
    with dashboard({"/api/version": {"ray_version": "2.9.3"}}) as url:
        assert refused(url) == (
            f"the cluster at {url} runs Ray 2.9.3, and here is {here}; the first two numbers must be the same"
        )
    metadata = {"data": {"pythonVersion": "3.9.18", "rayVersion": here}}
    with dashboard({"/api/version": {"ray_version": here}, "/api/v0/cluster_metadata": metadata}) as url:
        assert f"runs Python 3.9.18, and here is {python}" in refused(url)


def test_what_is_no_cluster_is_told() -> None:
    with dashboard({}) as url:
        assert refused(url) == f"what answers at {url} is no Ray dashboard (HTTP 404); its port is 8265 by default"
    with dashboard({"/api/version": ["something"]}) as url:
        assert "is no Ray dashboard (no version)" in refused(url)


def aboard(tmp_path: Path, expects: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What a job runs first, with the words `plugins list`."""
    told = {"expects": expects, "secrets": [], "settings": {"MLOPS_ACTOR": "ann@home"}, "parcel": ""}
    env = {**os.environ, "MLOPS_PARCEL": json.dumps(told)}
    command = [sys.executable, jobs_aboard.__file__, "plugins", "list"]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_missing_there_is_told_before_mlops_runs(tmp_path: Path) -> None:
    ours = {"python": ".".join(platform.python_version().split(".")[:2]), "mlops-core-framework": "0.1.0"}
    done = aboard(tmp_path, ours)
    assert done.returncode == 0 and "ray_serve" in done.stdout, done.stderr
    done = aboard(tmp_path, {"python": "3.9", "no-such-guest": "1.2", "numpy": "0.1"})
    assert done.returncode == 3
    assert "mlops: the cluster runs Python " in done.stderr and "the project was sent from 3.9" in done.stderr
    assert "no-such-guest 1.2 is needed on the cluster, which has none; put 'no-such-guest==1.2' into" in done.stderr
    assert f"numpy 0.1 is needed on the cluster, which has {version('numpy')}" in done.stderr


def test_a_ray_that_a_job_starts_for_itself_knows_nothing_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the cluster's Ray has told the job's driver: a package that only that cluster holds.
    of_the_job = {"runtime_env": {"working_dir": "gcs://_ray_pkg_0123456789abcdef.zip"}, "metadata": {"job": "1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(of_the_job))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with ray_running("local", LaunchError):
        assert ray.get(ray.remote(lambda: 1).remote(), timeout=60) == 1
    assert os.environ["RAY_ADDRESS"] == "127.0.0.1:1"


@pytest.mark.parametrize("refuse", [False, True])
def test_what_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse: bool) -> None:
    # With a real cluster that installs them, requirements take a minute: Ray copies the whole environment.
    monkeypatch.setenv("DB_URL", "postgresql://ann:s3kret@db/team")
    for name in ("project", "beside"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(name, name)
    parcel = Parcel(
        name="tiny",
        words=("run", "trainer.name=a b"),
        project=tmp_path / "project.zip",
        beside=tmp_path / "beside.zip",
        requirements=("numpy==2.0",),
        secrets=("DB_URL",),
    )
    got: dict[str, bytes] = {}
    answers = {"/api/version": {"ray_version": ray.__version__}} | ({"refuse": True} if refuse else {})
    with dashboard(answers, got) as url:
        if refuse:
            with pytest.raises(LaunchError, match=r"the cluster did not take the job: .*500"):
                RayLauncher(address=url).submit(parcel)
        else:
            assert RayLauncher(address=url, cpus=2).submit(parcel).id == "tiny-1"
    job = json.loads(got.pop("/api/jobs/"))
    assert job["entrypoint"] == "python -m mlops_aboard run 'trainer.name=a b'" and "s3kret" not in json.dumps(job)
    assert job.get("entrypoint_num_cpus") == (None if refuse else 2)
    environment = job["runtime_env"]
    assert environment["pip"]["packages"] == ["numpy==2.0"] and len(environment["py_modules"]) == 2
    told = json.loads(environment["env_vars"]["MLOPS_PARCEL"])
    assert told["secrets"] == ["DB_URL"]
    apart = got.pop("/api/packages/gcs/" + told["parcel"].removeprefix("gcs://"))
    # Where the job was not taken, its secrets do not stay behind.
    assert json.loads(apart) == ({} if refuse else {"DB_URL": "postgresql://ann:s3kret@db/team"})
    assert len(got) == 3 and not any(b"s3kret" in content for content in got.values())
