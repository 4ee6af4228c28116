"""What an endpoint counts: told to people and to a real Prometheus, added up over processes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_core.contracts import Route, Serving
from mlops_core.serving import App, create_app
from mlops_core.serving.access_log import AccessLog
from mlops_core.serving.exposition import expose
from mlops_core.serving.telemetry import Telemetry

Servings = Callable[..., Serving]
ROW = {"age": 30, "income": 1000.0, "home": "rent", "married": True, "since": "2020-01-01"}
STABLE = Route(version=1, bundle=Path("b"), sha256="0", arm='a "quoted"\\arm\n')
LOG = {"waiting": 0, "error": "", "written_at": "", "labels_error": ""}
NOTHING = ({"guests": {}, "log": {"written": 0, "dropped": 0, "labels": 0}}, {"guests": {}, "log": LOG})


@pytest.fixture
def app(tiny_serving: Servings) -> Iterator[App]:
    app = create_app(tiny_serving({1: 50, 2: 50}))
    yield app
    app.close()


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_every_request_is_counted_by_version_and_outcome(app: App, http: Callable[[Any], httpx.Client]) -> None:
    client = http(app)
    versions = [client.post("/predict", json={"rows": [ROW] * 3}).json()["version"] for _ in range(40)]
    assert client.post("/predict", json={"income": "much"}).status_code == 422
    assert client.get("/nothing").status_code == 404
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = samples(answer.text)
    for version, role in ((1, "stable"), (2, "candidate")):
        of = f'version="{version}",arm="",role="{role}"'
        assert found[f'mlops_requests_total{{{of},outcome="answered"}}'] == versions.count(version)
        assert found[f"mlops_rows_total{{{of}}}"] == 3 * versions.count(version)
        assert found[f"mlops_request_duration_seconds_count{{{of}}}"] == versions.count(version)
        assert found[f'mlops_request_duration_seconds_bucket{{{of},le="+Inf"}}'] == versions.count(version)
    assert found['mlops_refused_requests_total{status="422"}'] >= 1
    assert found['mlops_refused_requests_total{status="404"}'] == 1
    assert found['mlops_guest_up{version="2"}'] == 1 == found['mlops_guest_starts_total{version="2"}']
    assert found["mlops_failed_requests_total"] == 0
    assert found["mlops_requests_in_flight"] == 1  # this one
    assert found["mlops_log_error"] == 0
    assert client.get("/status").json()["requests"] == 40


def test_a_real_prometheus_reads_it(app: App, http: Callable[[Any], httpx.Client], tmp_path: Path) -> None:
    server, tool = shutil.which("prometheus"), shutil.which("promtool")
    if server is None or tool is None:
        pytest.skip("no Prometheus is installed here (Debian: apt-get install prometheus)")
    client = http(app)
    for _ in range(25):
        client.post("/predict", json={"rows": [ROW] * 2})
    client.post("/predict", json=[])
    text = client.get("/metrics").content
    checked = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = f"""
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs: [{{job_name: mlops, static_configs: [{{targets: ['{client.base_url.netloc.decode()}']}}]}}]
"""
    (tmp_path / "prometheus.yml").write_text(config)
    words = [server, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False) as prometheus:
            assert _asked(prometheus, 'sum(mlops_requests_total{job="mlops",outcome="answered"})', 25)
            assert _asked(prometheus, "sum(mlops_rows_total)", 50)
            assert _asked(prometheus, 'mlops_refused_requests_total{status="422"}', 1)
            for _ in range(10):
                client.post("/predict", json=ROW)
            assert _asked(prometheus, "sum(mlops_request_duration_seconds_count)", 35)
            assert _asked(prometheus, "histogram_quantile(0.5, sum(mlops_request_duration_seconds_bucket) by (le)) < 1")
    finally:
        process.terminate()
        process.wait(20)


def _asked(prometheus: httpx.Client, query: str, wanted: float | None = None) -> bool:
    """Whether Prometheus comes to answer `wanted`, or anything."""
    found: list[Any] = []
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            answer = prometheus.get("/query", params={"query": query}).raise_for_status()
            found = answer.json()["data"]["result"]
        except httpx.HTTPError:  # it is still starting, and says 503 for a while
            found = []
        if found and (wanted is None or float(found[0]["value"][1]) == wanted):
            return True
        time.sleep(0.1)
    raise AssertionError(f"{query} gives {found}, expected {wanted}")


def test_labels_are_escaped_and_bounded() -> None:
    telemetry = Telemetry(lambda: NOTHING)
    telemetry.answered(STABLE, 1, 0, 0.001)
    telemetry.unanswered(STABLE, "SecretOfACaller")
    text = expose(telemetry.whole(), "credit", "1", [STABLE]).decode()
    assert r'arm="a \"quoted\"\\arm\n"' in text
    assert "SecretOfACaller" not in text and 'outcome="error"' in text
    tool = shutil.which("promtool")
    if tool is not None:
        subprocess.run([tool, "check", "metrics"], input=text.encode(), check=True)


REPLICA = """
import sys, time
from pathlib import Path
from mlops_core.contracts import Route
from mlops_core.serving.telemetry import Telemetry

log = {"waiting": 0, "error": "", "written_at": "", "labels_error": ""}
kept = {"guests": {}, "log": {"written": 0, "dropped": 0, "labels": 0}}, {"guests": {}, "log": log}
telemetry = Telemetry(lambda: kept)
telemetry.share(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    telemetry.answered(Route(version=1, bundle=Path("b"), sha256="0"), 2, 0, 0.003)
telemetry.whole()
print("told", flush=True)
time.sleep(60)
"""


def test_the_counts_of_processes_that_died_stay_in_the_sum(tmp_path: Path) -> None:
    mine = Telemetry(lambda: NOTHING)
    mine.share(tmp_path)
    route = dataclasses.replace(STABLE, arm="")
    mine.answered(route, 1, 0, 0.1)
    replicas = [
        subprocess.Popen([sys.executable, "-c", REPLICA, tmp_path, str(n)], stdout=subprocess.PIPE)
        for n in (10, 20, 30)
    ]
    for process in replicas:
        assert process.stdout is not None
        assert process.stdout.readline() == b"told\n"
        process.stdout.close()

    def requests() -> int:
        [series] = mine.whole()["counts"]["series"].values()
        assert series["outcomes"]["answered"] == sum(series["buckets"])
        return int(series["outcomes"]["answered"])

    assert (requests(), mine.whole()["now"]["replicas"]) == (61, 4)
    for process, alive in zip(replicas, (3, 2, 1), strict=True):
        process.kill()
        process.wait()
        assert (requests(), mine.whole()["now"]["replicas"]) == (61, alive)
    mine.answered(route, 1, 0, 0.1)
    assert requests() == 62
    assert len(list(tmp_path.glob("[0-9]*.json"))) == 1  # the dead are folded, they do not pile up
    mine.close()


def test_the_access_log_tells_who_asked_for_what(tiny_serving: Servings, http: Callable[[Any], httpx.Client]) -> None:
    serving = tiny_serving({1: 0, 2: 100}, access_log=True)
    app = create_app(serving)
    client = http(app)
    client.post("/predict?secret=1", json=ROW, headers={"x-request-id": "order-1"})
    client.post("/predict", json={"income": "private"})
    client.get("/healthz")
    app.close()
    path = serving.state / "access.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/predict", 200),
        ("POST", "/predict", 422),
        ("GET", "/healthz", 200),
    ]
    assert (lines[0]["id"], lines[0]["version"], lines[0]["key"]) == ("order-1", 2, "")
    assert lines[0]["bytes"] > 0 and 0 < lines[0]["seconds"] < 10
    assert "private" not in path.read_text() and "secret" not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_the_access_log_is_bounded_and_outlives_a_folder_that_is_gone(tmp_path: Path) -> None:
    two = [AccessLog(tmp_path / "access.log", bytes=2000) for _ in range(2)]
    for turn in range(40):
        for log in two:
            for _ in range(10):
                log.add({"turn": turn, "path": "/predict"})
            log.flush()
    files = sorted(p.name for p in tmp_path.glob("access.log*"))
    assert files == ["access.log", "access.log.1", "access.log.2", "access.log.3"]
    assert all(p.stat().st_size < 3000 for p in tmp_path.glob("access.log*"))
    lines = [json.loads(x) for p in tmp_path.glob("access.log*") for x in p.read_text().splitlines()]
    assert lines and lines[0].keys() == {"turn", "path"}
    shutil.rmtree(tmp_path)
    two[0].add({"turn": 0})
    two[0].flush()
    assert two[0].dropped == 1 and "No such file" in two[0].error
    for log in two:
        log.close()
