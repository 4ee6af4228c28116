"""Deployer `ray_serve`: a real Ray Serve behind HAProxy, changed and killed under load. One endpoint, in order."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from mlops_ray.deployer import RayServeDeployer
from mlops_ray.runtime import alive, ray_running

from mlops_core.contracts import Endpoint, Serving
from mlops_core.errors import ServingError
from mlops_core.flow.counting import counted
from mlops_core.options import check_options
from mlops_core.testing import check_deployer
from mlops_core.windows import collect

ROW = {"income": 1000.0}
Servings = Callable[..., Serving]


@pytest.fixture(scope="module")
def deployer() -> RayServeDeployer:
    return RayServeDeployer(auth="none", replicas=2, cpus=0.1, startup_timeout=180)


@pytest.fixture(scope="module")
def serving(module_serving: Servings) -> Servings:
    return module_serving


@pytest.fixture(scope="module")
def endpoint(deployer: RayServeDeployer, serving: Servings) -> Iterator[Endpoint]:
    began = time.monotonic()
    started = deployer.apply(serving({1: 100}))
    print(f"\nray_serve with {deployer.replicas} replicas answered after {time.monotonic() - began:.1f} s")
    yield started
    deployer.stop("credit", serving().state)


def ask(endpoint: Endpoint) -> httpx.Response:
    return httpx.post(f"{endpoint.url}/predict", json=ROW, timeout=30, trust_env=False)


def ready(endpoint: Endpoint) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{endpoint.url}/readyz", trust_env=False).status_code == 200
    return False


@contextmanager
def load(endpoint: Endpoint, callers: int = 4) -> Iterator[list[tuple[float, int | str, Any]]]:
    """Callers without pause, over kept connections; (when, version or what went wrong, id) for each request."""
    answers: list[tuple[float, int | str, Any]] = []
    done = threading.Event()

    def call() -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not done.is_set():
                try:
                    reply = client.post(f"{endpoint.url}/predict", json=ROW)
                    body = reply.json() if reply.status_code == 200 else {}
                    said = (body.get("version", f"{reply.status_code} {reply.text[:200]}"), body.get("id"))
                except httpx.HTTPError as error:
                    said = (repr(error), None)
                answers.append((time.monotonic(), *said))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        yield answers
        time.sleep(0.5)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def wrong(answers: list[tuple[float, int | str, Any]]) -> list[int | str]:
    return [said for _, said, _ in answers if not isinstance(said, int)]


def tree(endpoint: Endpoint) -> list[psutil.Process]:
    host = psutil.Process(endpoint.pid)
    return [host, *host.children(recursive=True)]


def connections(process: psutil.Process) -> list[Any]:
    with suppress(psutil.NoSuchProcess):
        return process.net_connections()
    return []


def replicas(endpoint: Endpoint) -> list[int]:
    return sorted(p.pid for p in tree(endpoint) if "ServeReplica" in title(p))


def one(endpoint: Endpoint, word: str) -> int:
    """The process of the endpoint whose title has this word."""
    [found] = [p.pid for p in tree(endpoint) if word in title(p)]
    return found


def guests(endpoint: Endpoint) -> list[psutil.Process]:
    return [p for p in tree(endpoint) if "mlops_core.serving.guest" in title(p)]


def status(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{endpoint.url}/status", timeout=30, trust_env=False).json()
    return found


def until(done: Callable[[], Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.1)


def is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is but remembered of a dead one is free
        with suppress(OSError):
            one.bind(("127.0.0.1", port))
            return True
    return False


def steady(endpoint: Endpoint) -> None:
    """Until two replicas have been the same for a while: Serve lets those go that it has replaced."""
    seen, since = replicas(endpoint), time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        if (now := replicas(endpoint)) != seen:
            seen, since = now, time.monotonic()
        return len(now) == 2 and time.monotonic() - since > 4

    until(still, 60)


def title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return "".join(process.cmdline())
    return ""


def test_it_answers_and_listens_on_loopback_only(endpoint, deployer, serving):
    answer = ask(endpoint)
    assert answer.status_code == 200
    assert answer.json()["version"] == 1
    assert uuid.UUID(answer.headers["x-request-id"]).version == 7  # ours: it came by the short way, past Serve's own
    assert httpx.get(f"{endpoint.url}/v2/models/credit/ready", trust_env=False).status_code == 200
    assert httpx.post(f"{endpoint.url}/predict", json={"income": "much"}, trust_env=False).status_code == 422

    port, end, listening = int(endpoint.url.rpartition(":")[2]), time.monotonic() + 10, set()
    while port not in {a.port for a in listening}:  # HAProxy hands its socket over when it learns of a replica
        assert time.monotonic() < end
        listening = {c.laddr for p in tree(endpoint) for c in connections(p) if c.status == "LISTEN"}
    assert {str(a.ip).removeprefix("::ffff:") for a in listening} == {"127.0.0.1"}
    assert any("haproxy" in title(p) for p in tree(endpoint))
    assert len(replicas(endpoint)) == 2

    found, what = deployer.actual("credit", serving().state)
    assert (found, what) == (endpoint, serving({1: 100}))
    assert deployer.actual("another", serving().state) is None
    assert deployer.stop("another", serving().state) is False


def test_nothing_else_on_the_machine_comes_before_the_callers(endpoint):
    """Ray would let its workers wait for every other process."""
    own = psutil.Process().nice()
    words = ("ServeReplica", "haproxy")
    found = {(word, p.nice()) for p in tree(endpoint) for word in words if word in title(p)}
    assert found == {(word, own) for word in words}


def test_applying_what_runs_changes_nothing(endpoint, deployer, serving):
    before, began = replicas(endpoint), time.monotonic()
    assert deployer.apply(serving({1: 100})) == endpoint
    assert time.monotonic() - began < 2
    assert replicas(endpoint) == before


def test_a_version_is_switched_in_place_without_a_failed_request(endpoint, deployer, serving):
    before = replicas(endpoint)
    with load(endpoint) as answers:
        for version in (2, 1, 2):
            began = time.monotonic()
            changed = deployer.apply(serving({version: 100}))
            at = time.monotonic()
            print(f"switched to version {version} in {at - began:.2f} s")
            time.sleep(0.5)
            assert {said for when, said, _ in answers if when > at + 0.2} == {version}
            assert changed.versions == (version,)
    until(lambda: {c.version: c.answered for c in counted(endpoint) or ()}.get(2, 0) > 20, 20)  # as 'mlops status'
    assert {(c.version, c.role, c.errors) for c in counted(endpoint) or ()} == {(1, "stable", 0), (2, "stable", 0)}
    assert wrong(answers) == []
    assert {said for _, said, _ in answers} == {1, 2}
    assert replicas(endpoint) == before
    print(f"{len(answers)} requests over three switches, none failed")


def test_weights_are_kept_by_all_replicas(endpoint, deployer, serving):
    deployer.apply(serving({1: 50, 2: 50}))
    with load(endpoint) as answers:
        pass
    assert wrong(answers) == []
    share = sum(said == 2 for _, said, _ in answers) / len(answers)
    assert 0.3 < share < 0.7
    deployer.apply(serving({2: 100}))


def test_a_bundle_that_was_altered_is_refused_and_what_runs_goes_on(endpoint, deployer, serving):
    model = serving({3: 100}).routes[0].bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    route = dataclasses.replace(serving({2: 100}).routes[0], version=3, bundle=model.parent)
    with load(endpoint) as answers, pytest.raises(ServingError, match=r"the endpoint goes on as it was"):
        deployer.apply(dataclasses.replace(serving({2: 100}), routes=(route,)))
    assert {said for _, said, _ in answers} == {2}
    assert deployer.apply(serving({2: 100})) == dataclasses.replace(endpoint, versions=(2,))


def test_another_ray_on_the_machine_is_no_trouble(endpoint):
    with ray_running("local", ServingError):
        import ray

        assert ray.cluster_resources()["CPU"] >= 1
        assert ask(endpoint).status_code == 200
    assert ask(endpoint).status_code == 200


def test_serve_scales_by_the_requests_under_way(endpoint, deployer, serving):
    """Serve replaces its replicas, one by one, when autoscaling is declared or not any more; nobody fails meanwhile."""
    quick = {"max_replicas": 3, "target_ongoing_requests": 0.5, "upscale_delay_s": 0, "look_back_period_s": 2}
    scaled = dataclasses.replace(deployer, autoscaling=quick | {"downscale_delay_s": 1})
    with load(endpoint, callers=24) as answers:
        assert scaled.apply(serving({2: 100})).pid == endpoint.pid
        until(lambda: status(endpoint)["replicas"] == 3, 60)
    until(lambda: len(replicas(endpoint)) == 2, 60)
    with load(endpoint) as more:
        before = replicas(endpoint)
        deployer.apply(serving({2: 100}))
        until(lambda: len(replicas(endpoint)) == 2 and not set(before) & set(replicas(endpoint)), 60)
        steady(endpoint)
    assert wrong(answers) == wrong(more) == []


def test_a_replica_works_on_no_more_requests_at_once_than_declared(endpoint, deployer, serving):
    """Who waits 0.4 s for others to be answered with, and must work alone, is answered after those before it."""
    patient = dataclasses.replace(deployer, batching={"size": 1000, "wait": 0.4})
    took = []
    for bound in (100, 1):
        dataclasses.replace(patient, max_ongoing=bound).apply(serving({2: 100}))
        steady(endpoint)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as callers:
            assert {a.status_code for a in callers.map(lambda _: ask(endpoint), range(8))} == {200}
        took.append(time.monotonic() - began)
    deployer.apply(serving({2: 100}))
    steady(endpoint)
    print(f"8 requests to 2 replicas of 100 at once and of one: {took[0]:.2f} s, {took[1]:.2f} s")
    assert took[1] > 4 * 0.4 > took[0]


def test_a_killed_replica_is_replaced_while_the_other_answers(endpoint):
    before = replicas(endpoint)
    with load(endpoint, callers=8) as answers:
        os.kill(before[0], signal.SIGKILL)
        killed = time.monotonic()
        while len(now := replicas(endpoint)) < 2 or before[0] in now:
            assert time.monotonic() - killed < 60
            time.sleep(0.1)
    print(f"replica replaced in {time.monotonic() - killed:.1f} s, {len(wrong(answers))} of {len(answers)} failed")
    assert wrong(answers) == []  # what the killed replica had in its hands, the other was asked again
    assert before[1] in now


def test_counts_are_of_all_replicas_and_outlive_them(endpoint):
    while status(endpoint)["replicas"] < 2:
        time.sleep(0.1)
    time.sleep(1.5)  # each writes its counts every second
    before = status(endpoint)
    with load(endpoint, callers=8) as answers:
        pass
    time.sleep(1.5)
    told = [status(endpoint)["requests"] for _ in range(10)]  # from either replica
    assert told == [before["requests"] + len(answers)] * 10
    replica = replicas(endpoint)[0]
    os.kill(replica, signal.SIGKILL)
    while len(now := replicas(endpoint)) < 2 or replica in now or status(endpoint)["replicas"] < 2:
        time.sleep(0.1)
    assert status(endpoint)["requests"] == told[0]
    scraped = httpx.get(f"{endpoint.url}/metrics", trust_env=False).text
    assert "mlops_replicas 2\n" in scraped and 'outcome="answered"' in scraped


def test_a_killed_replica_leaves_no_guest_behind(endpoint, deployer, serving):
    desired = serving({2: 100, 1: 0})
    shadow = dataclasses.replace(desired.routes[1], role="shadow")
    deployer.apply(dataclasses.replace(desired, routes=(desired.routes[0], shadow)))
    assert len(guests(endpoint)) == 2
    replica = replicas(endpoint)[0]
    [guest] = [g for g in guests(endpoint) if g.ppid() == replica]
    with load(endpoint) as answers:
        os.kill(replica, signal.SIGKILL)
        guest.wait(5)
        began = time.monotonic()
        while len(now := replicas(endpoint)) < 2 or replica in now:
            assert time.monotonic() - began < 60
            time.sleep(0.1)
    assert wrong(answers) == []
    left = guests(endpoint)
    deployer.apply(serving({2: 100}))
    psutil.wait_procs(left, timeout=60)
    assert guests(endpoint) == []


def test_a_killed_haproxy_is_back_in_half_a_second(endpoint):
    time.sleep(2)  # until Serve has told it of the last replica
    before = one(endpoint, "/haproxy")
    with load(endpoint, callers=8) as answers:
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        time.sleep(3)
    failed = [when for when, said, _ in answers if not isinstance(said, int)]
    gap = max(failed, default=killed) - killed
    print(f"HAProxy killed: {len(failed)} of {len(answers)} failed, the last one after {gap:.2f} s")
    assert gap < 0.5
    assert one(endpoint, "/haproxy") != before  # it is Serve's own, which goes on with it
    with load(endpoint) as answers:
        os.kill(replicas(endpoint)[0], signal.SIGKILL)  # so Serve has to tell it of another replica
        killed = time.monotonic()
        while len(replicas(endpoint)) < 2:
            assert time.monotonic() - killed < 60
            time.sleep(0.1)
    assert wrong(answers) == []


@pytest.mark.parametrize("word", ["HAProxyManager", "ServeController"])
def test_a_killed_actor_of_serve_is_missed_by_nobody(endpoint, word):
    before = one(endpoint, word)
    with load(endpoint, callers=8) as answers:
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        while [p.pid for p in tree(endpoint) if word in title(p)] in ([], [before]):
            assert time.monotonic() - killed < 60
            time.sleep(0.1)
        back = time.monotonic() - killed
        time.sleep(4)  # what comes after it takes over
    print(f"{word} killed: {len(wrong(answers))} of {len(answers)} failed; another after {back:.1f} s")
    assert wrong(answers) == []
    assert len([p for p in tree(endpoint) if "/haproxy" in title(p)]) == 1


def test_a_killed_endpoint_comes_back_on_its_port_with_what_was_desired(endpoint, deployer, serving):
    left = [p.pid for p in tree(endpoint) if "/haproxy" in title(p) or "/raylet" in title(p)]
    os.kill(endpoint.pid, signal.SIGKILL)
    while alive(endpoint.pid):
        time.sleep(0.05)
    assert deployer.actual("credit", serving().state) is None
    again = deployer.apply(serving({2: 100}))
    assert again.url == endpoint.url
    assert again.pid != endpoint.pid
    assert ask(again).json()["version"] == 2
    assert not any(alive(pid) for pid in left)


def test_dead_children_are_forgotten_however_slowly_they_die():
    begin = "import subprocess as s, sys; s.Popen(['sleep', '0.3']); s.Popen(['true']); "
    look = "import psutil; sys.exit(len(psutil.Process().children()))"
    code = begin + "from mlops_ray.anew import reap; reap(10); " + look
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_when_ray_itself_dies_the_endpoint_comes_back_by_itself_even_if_not_at_once(endpoint, deployer, serving):
    desired = serving({2: 100})
    running, _ = deployer.actual("credit", desired.state)
    bundle, away = desired.routes[0].bundle, desired.routes[0].bundle.with_name("away")
    ports = [int(url.rpartition(":")[2]) for url in (running.url, running.details["admin"])]
    before = {p.pid for p in tree(running) if p.pid != running.pid}
    told = len((desired.state / "host.log").read_text())
    bundle.rename(away)
    os.kill(next(pid for pid in before if "/raylet" in title(psutil.Process(pid))), signal.SIGKILL)
    killed = time.monotonic()

    def come(done: Callable[[], bool], seconds: float) -> None:
        while not done():
            assert time.monotonic() - killed < seconds
            assert not any(is_free(port) for port in ports)  # who took one would keep the endpoint from coming back
            time.sleep(0.01)

    try:
        come(lambda: "trying once more in 2 s" in (desired.state / "host.log").read_text()[told:], 60)
    finally:
        away.rename(bundle)
    assert f"there is no bundle at {bundle}" in (desired.state / "host.log").read_text()[told:]
    come(lambda: not any(alive(pid) for pid in before) and ready(running), 120)
    print(f"back {time.monotonic() - killed:.1f} s after raylet was killed")
    assert deployer.actual("credit", desired.state) == (running, desired)
    assert ask(running).json()["version"] == 2


def test_stopping_answers_what_is_under_way_writes_the_log_and_leaves_nothing(endpoint, deployer, serving):
    state = serving().state
    desired = serving({2: 100, 1: 0})
    shadow = dataclasses.replace(desired.routes[1], role="shadow")
    running = deployer.apply(dataclasses.replace(desired, routes=(desired.routes[0], shadow)))
    with load(running) as answers:
        pass
    processes = tree(running)
    assert len(guests(running)) == 2
    folder = Path(json.loads((state / "host.json").read_text())["folder"])
    began = time.monotonic()
    assert deployer.stop("credit", state) is True
    print(f"stopped in {time.monotonic() - began:.1f} s")
    assert deployer.stop("credit", state) is False
    assert deployer.actual("credit", state) is None
    assert not folder.exists()
    psutil.wait_procs(processes, timeout=20)
    assert [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    with pytest.raises(httpx.ConnectError):
        ask(running)
    window = collect(serving().log, state / "window.parquet", endpoint="credit", version=2)
    lines = [line for file in serving().log.glob("*.jsonl") for line in file.read_text().splitlines()]
    logged = {json.loads(line)["id"] for line in lines}
    assert {id for _, said, id in answers if isinstance(said, int)} <= logged
    assert window is not None
    assert window.rows > len(answers)


def test_what_cannot_be_is_told_before_anything_starts(tmp_path, serving):
    desired = dataclasses.replace(serving({1: 100}), state=tmp_path / "serve")
    with pytest.raises(ServingError, match=r"400 replicas of 1 cpus want 400, and this machine has \d+"):
        RayServeDeployer(replicas=400, cpus=1).apply(desired)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=rf"port {port} on 127\.0\.0\.1 is taken by process {os.getpid()}"):
            RayServeDeployer(port=port, cpus=0.1).apply(desired)
    gone = dataclasses.replace(desired, routes=(dataclasses.replace(desired.routes[0], bundle=tmp_path / "nothing"),))
    with pytest.raises(ServingError, match="nothing"):
        RayServeDeployer(cpus=0.1).apply(gone)
    assert RayServeDeployer().actual("credit", tmp_path / "serve") is None
    assert "not loopback" in str(check_options(RayServeDeployer, {"host": "0.0.0.0", "auth": "none"})[0])
    assert [p.key for p in check_options(RayServeDeployer, {"replicas": 0})] == ["replicas"]


def test_it_keeps_the_promises_of_a_deployer(tmp_path):
    check_deployer(RayServeDeployer(auth="none", replicas=1, cpus=0.1, startup_timeout=180), tmp_path)
