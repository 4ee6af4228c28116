"""The prediction log: complete, out of the way, and never a reason for a failed request."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mlops_core import segments
from mlops_core.bundle import open_bundle
from mlops_core.contracts import Serving
from mlops_core.serving import create_app
from mlops_core.serving import log as logging_room
from mlops_core.serving.log import Entry, PredictionLog
from mlops_core.windows import collect

Servings = Callable[..., Serving]
COLUMNS = {"age": np.array([1.0]), "income": np.array([np.nan]), "home": np.array([None], object)}
COLUMNS |= {"married": np.array([1.0]), "since": np.array(["2020-01-01"], "datetime64[us]")}
ANSWER = {"prediction": np.array(["good"], object), "probability": np.array([[0.25, 0.75]])}


def entry(id: str, version: int = 1, size: int = 0) -> Entry:
    return Entry(id, version, 1, 0.001, size=size, columns=COLUMNS, answer=ANSWER)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path, tiny_bundle: Callable[..., Path]) -> Iterator[PredictionLog]:
    log = PredictionLog(tmp_path / "log", every=0.01)
    log.keep(1, open_bundle(tiny_bundle()))
    yield log
    log.close()


def test_every_answer_is_logged_once_under_concurrent_load(
    tiny_serving: Servings, http: Callable[[Any], httpx.Client]
) -> None:
    app = create_app(tiny_serving())
    client = http(app)

    def call(i: int) -> tuple[str, float]:
        answer = client.post("/predict", json={"income": i}, headers={"x-request-id": f"r{i}"}).json()
        return answer["id"], answer["predictions"][0]["probability"]["good"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = dict(pool.map(call, range(400)))
    app.close()
    logged = lines(app.serving.log)
    assert {line["id"]: line["answer"]["probability"][0][1] for line in logged} == answers
    assert len(logged) == 400 and all(line["features"]["income"] == [float(line["id"][1:])] for line in logged)
    status = app.status()["log"]
    assert (status["written"], status["dropped"], status["error"]) == (400, 0, "")


def test_a_line_holds_what_was_asked_and_answered(log: PredictionLog) -> None:
    log.add(entry("a", 1))
    log.flush()
    (line,) = lines(log.folder)
    assert abs(line.pop("time") - time.time()) < 60
    assert line == {
        "id": "a",
        "version": 1,
        "role": "stable",
        "arm": "",
        "rows": 1,
        "seconds": 0.001,
        "features": {
            "age": [1.0],
            "income": [None],
            "home": [None],
            "married": [1.0],
            "since": ["2020-01-01T00:00:00.000000"],
        },
        "answer": {"prediction": ["good"], "probability": [[0.25, 0.75]]},
    }
    assert oct(next(log.folder.glob("*.jsonl")).stat().st_mode)[-3:] == "600"


def test_a_failure_is_logged_without_features_and_never_read_as_an_answer(log: PredictionLog) -> None:
    log.add(Entry("a", 1, 1, 0.25, "candidate", "B", "timeout"))
    log.add(Entry("a", 1, 1, 0.001, instead=2, columns=COLUMNS, answer=ANSWER))
    log.flush()
    failed, answered = lines(log.folder)
    assert {k: failed[k] for k in ("role", "arm", "error", "seconds")} == {
        "role": "candidate", "arm": "B", "error": "timeout", "seconds": 0.25,
    }  # fmt: skip
    assert "features" not in failed and "answer" not in failed
    assert answered["instead"] == 2 and "error" not in answered
    window = collect(log.folder, log.folder / "w.parquet", endpoint="credit", version=1)
    assert window is not None and window.rows == 1


def test_pii_is_not_logged(log: PredictionLog, tiny_bundle: Callable[..., Path]) -> None:
    bundle = open_bundle(tiny_bundle(2))
    inputs = tuple(
        dataclasses.replace(c, roles=("feature", "pii")) if c.name == "age" else c for c in bundle.signature.inputs
    )
    log.keep(2, dataclasses.replace(bundle, signature=dataclasses.replace(bundle.signature, inputs=inputs)))
    log.add(entry("a", 2))
    log.flush()
    assert sorted(lines(log.folder)[0]["features"]) == ["home", "income", "married", "since"]


def test_a_full_queue_drops_and_counts(tmp_path: Path, tiny_bundle: Callable[..., Path]) -> None:
    log = PredictionLog(tmp_path / "log", every=60, waiting=10)
    log.keep(1, open_bundle(tiny_bundle()))
    for i in range(25):
        log.add(entry(str(i), 1))
    assert log.status()["waiting"] == 10 and log.status()["dropped"] == 15
    log.close()
    assert len(lines(log.folder)) == 10


def test_large_requests_fill_the_queue_by_their_bytes(
    tmp_path: Path, tiny_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging_room, "BYTES_WAITING", 1000)
    log = PredictionLog(tmp_path / "log", every=60)
    log.keep(1, open_bundle(tiny_bundle()))
    for i in range(5):
        log.add(entry(str(i), size=400))
    assert (log.status()["waiting"], log.status()["dropped"]) == (2, 3)
    log.flush()
    log.add(entry("5", size=900))
    assert log.status()["waiting"] == 1
    log.close()
    assert [line["id"] for line in lines(log.folder)] == ["0", "1", "5"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the writer that dies
def test_a_dead_writer_is_told_and_comes_back(
    tmp_path: Path, tiny_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PredictionLog(tmp_path / "log", every=0.01, waiting=3)
    log.keep(1, open_bundle(tiny_bundle()))
    monkeypatch.setattr(logging_room, "LATE", 0.05)

    def dies(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as broken:
        broken.setattr(log._segment, "append", dies)
        log.add(entry("lost"))
        log._thread.join(10)
    for i in range(3):
        log.add(entry(str(i)))
    time.sleep(0.1)
    assert log.status()["error"].endswith("the writer is dead")
    log.add(entry("over"))
    end = time.monotonic() + 10
    while log.status()["waiting"] and time.monotonic() < end:
        time.sleep(0.01)
    assert log.status()["error"] == "" and log.status()["dropped"] == 2
    log.close()
    assert [line["id"] for line in lines(log.folder)] == ["0", "1", "2"]


def test_a_lost_folder_is_told_and_recovers(log: PredictionLog, caplog: pytest.LogCaptureFixture) -> None:
    log.folder.rename(log.folder.with_name("gone"))
    log.folder.write_text("a file where the folder was")
    log.add(entry("lost", 1))
    log.flush()
    assert log.status()["dropped"] == 1 and "FileExistsError" in log.status()["error"]
    assert "answers go on, unlogged" in caplog.text
    log.folder.unlink()
    log.folder.with_name("gone").rename(log.folder)
    log.add(entry("kept", 1))
    log.flush()
    assert log.status()["error"] == "" and [line["id"] for line in lines(log.folder)] == ["kept"]


def test_a_full_disk_never_fails_a_request(tiny_serving: Servings, tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow: write(2) then fails as on a full disk."""
    serving = tiny_serving()
    code = f"""
        import asyncio, httpx, json, resource, signal
        from pathlib import Path
        from mlops_core.contracts import Serving, restore
        from mlops_core.serving import create_app
        app = create_app(restore(Serving, json.loads({json.dumps(json.dumps(_plain(serving)))})))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async def calls(first, count):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                for i in range(first, first + count):
                    answer = await client.post("/predict", json={{"income": i}}, headers={{"x-request-id": f"r{{i}}"}})
                    assert answer.status_code == 200
            app.flush()
        asyncio.run(calls(0, 5))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        asyncio.run(calls(5, 50))
        assert app.status()["log"]["dropped"] > 0  # a few lines may fit into a file of their own
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        asyncio.run(calls(55, 1))
        assert "OSError" in app.status()["log"]["error"], app.status()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        asyncio.run(calls(56, 4))
        assert app.status()["log"]["error"] == ""
        app.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    whole = [s for p in serving.log.glob("*.jsonl") for s in p.read_text().split("\n") if _is_json(s)]
    ids = [json.loads(s)["id"] for s in whole]
    assert set(ids) >= {f"r{i}" for i in (*range(5), *range(56, 60))} and len(set(ids)) == len(ids)


def test_kill_9_loses_at_most_what_was_waiting(tiny_serving: Servings) -> None:
    serving = tiny_serving()
    code = f"""
        import json, os, signal, sys, time
        from mlops_core.contracts import Serving, restore
        from mlops_core.serving import create_app
        app = create_app(restore(Serving, json.loads({json.dumps(json.dumps(_plain(serving)))})))
        for i in range(100):
            app._dispatch._answered(app._table, app._table.first, "plain", f"r{{i}}", b'{{"income": 1}}', 0)
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [line["id"] for line in lines(serving.log)] == [f"r{i}" for i in range(100)]


def test_a_segment_ends_when_it_is_large(log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "BYTES", 100)
    for i in range(3):
        log.add(entry(str(i), 1))
        log.flush()
    assert len(list(log.folder.glob("*.jsonl"))) == 3
    assert [line["id"] for line in lines(log.folder)] == ["0", "1", "2"]


def test_replicas_write_their_own_segments(tmp_path: Path, tiny_bundle: Callable[..., Path]) -> None:
    bundle = open_bundle(tiny_bundle())
    replicas = [PredictionLog(tmp_path / "log", every=0.01) for _ in range(3)]
    for i, replica in enumerate(replicas):
        replica.keep(1, bundle)
        replica.add(entry(str(i), 1))
        replica.close()
    assert len(list((tmp_path / "log").glob("*.jsonl"))) == 3
    assert sorted(line["id"] for line in lines(tmp_path / "log")) == ["0", "1", "2"]
    assert not [p for p in os.listdir(tmp_path / "log") if p.startswith(".")]


def old_segment(folder: Path, hours: float, name: str = "1-aa-0.jsonl") -> Path:
    path = folder / f"{time.strftime('%Y%m%dT%H', time.gmtime(time.time() - hours * 3600))}-{name}"
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}\n")
    return path


def gone(*paths: Path) -> bool:
    end = time.monotonic() + 20
    while any(p.exists() for p in paths) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(p.exists() for p in paths)


def test_an_endpoint_that_runs_for_long_removes_what_is_too_old(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging_room, "EXPIRED_EVERY", 0.05)
    log.add(entry("a"))
    log.flush()
    old = [old_segment(log.folder, 30), old_segment(log.folder, 30, "1-aa-0-v1.parquet")]
    old.append(old_segment(log.folder / "labels", 30))
    young = old_segment(log.folder, 20)
    time.sleep(0.3)
    assert all(p.exists() for p in old), "no retention is declared"
    with segments.alone(log.folder):  # as a window that is read, or an erasure
        log.retention = 24 * 3600.0
        log.add(entry("b"))
        end = time.monotonic() + 20
        while len(written := [line["id"] for line in lines(log.folder) if line]) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        assert written == ["a", "b"] and all(p.exists() for p in old)
    assert gone(*old) and young.exists() and (log.folder / "signature-1.json").exists()
    noted = segments.noted(log.folder)
    assert noted == {str(p.relative_to(log.folder)): 3 for p in old} and segments.noted(log.folder) == {}
    assert not caplog.text


def test_what_cannot_be_removed_is_told_and_the_log_goes_on(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging_room, "EXPIRED_EVERY", 0.05)
    (log.folder / segments.EXPIRED).mkdir()
    old_segment(log.folder, 30)
    log.retention = 24 * 3600.0
    end = time.monotonic() + 20
    while "too old" not in caplog.text and time.monotonic() < end:
        time.sleep(0.02)
    log.add(entry("a"))
    log.flush()
    assert "too old" in caplog.text and log.status()["error"] == "" and log.written == 1


def test_the_log_follows_to_another_folder(
    tiny_serving: Servings, tmp_path: Path, http: Callable[[Any], httpx.Client]
) -> None:
    app = create_app(tiny_serving())
    client = http(app)
    client.post("/predict", json={"income": 1})
    app.apply(dataclasses.replace(app.serving, log=tmp_path / "elsewhere"))
    client.post("/predict", json={"income": 2})
    app.close()
    assert [line["features"]["income"] for line in lines(tmp_path / "serve" / "log")] == [[1.0]]
    assert [line["features"]["income"] for line in lines(tmp_path / "elsewhere")] == [[2.0]]


def _plain(serving: Serving) -> Any:
    from mlops_core.contracts import plain

    return plain(serving)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
