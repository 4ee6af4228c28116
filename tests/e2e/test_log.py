"""The prediction log of a real endpoint: what a kill in the middle of the load loses, and what it never fails."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mlops_core import api
from mlops_core.feedback import read_labels
from mlops_core.serving.log import EVERY

LOST_SECONDS = EVERY + 0.3  # what is declared, and how late a thread may be on a busy machine


@pytest.fixture
def served(here: Any) -> Iterator[Any]:
    config = here.root / "conf" / "config.yaml"
    text = config.read_text().replace("  - _self_\n", "  - deployer: http\n  - _self_\n")
    config.write_text(text + "deployer: {auth: none, access_log: true}\n")
    api.run(here.root)
    try:
        yield here
    finally:
        api.stop(here.root)


class Load:
    """Asks from several connections without a pause; when each request was answered, and each label acknowledged."""

    def __init__(self, url: str, callers: int = 4) -> None:
        self.address = urlsplit(url).netloc
        self.answered: dict[str, float] = {}
        self.labelled: set[str] = set()
        self.failed = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, caller: int) -> None:
        connection, count = http.client.HTTPConnection(self.address, timeout=10), 0
        try:
            while not self._over.is_set():
                id = f"c{caller}-n{count}"
                status = self._post(connection, "/predict", {"a": 1.0, "b": 0.0}, id)
                self.failed += status != 200
                self.answered |= {id: time.time()} if status == 200 else {}
                if count % 10 == 0:
                    status = self._post(connection, "/v2/models/toy/feedback", {"id": id, "label": "yes"}, id)
                    self.labelled |= {id} if status == 200 else set()
                count += 1
        except (OSError, http.client.HTTPException):
            return  # killed
        finally:
            connection.close()

    def _post(self, connection: http.client.HTTPConnection, path: str, body: Any, id: str) -> int:
        headers = {"content-type": "application/json", "x-request-id": id}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def logged(log: Path) -> list[str]:
    found = []
    for path in log.glob("*.jsonl"):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                found.append(json.loads(line)["id"])
    return found


def test_kill_9_under_load_loses_the_last_moment_of_the_log_and_no_label(served: Any) -> None:
    status = api.status(served.root, judge=False)
    assert status.endpoint
    log = served.root / ".mlops" / "serve" / "toy" / "log"
    with Load(status.endpoint.url) as load:
        time.sleep(3)
        killed = time.time()
        os.kill(status.endpoint.pid, signal.SIGKILL)
    found = logged(log)
    lost = {id: at for id, at in load.answered.items() if id not in set(found)}
    oldest = max((killed - at for at in lost.values()), default=0.0)
    kept = set(read_labels(log))
    print(
        f"killed after {len(load.answered):,} answers: {len(lost)} not in the log, the oldest {oldest:.2f} s old "
        f"(declared: {EVERY} s); {len(load.labelled)} labels acknowledged, {len(load.labelled - kept)} lost"
    )
    assert len(load.answered) > 200 and not load.failed and len(found) == len(set(found))
    assert oldest <= LOST_SECONDS
    assert load.labelled and load.labelled <= kept


def test_forgetting_under_load_fails_no_request_and_loses_no_other_line(served: Any) -> None:
    status = api.status(served.root, judge=False)
    assert status.endpoint
    log = served.root / ".mlops" / "serve" / "toy" / "log"
    with Load(status.endpoint.url) as load:
        time.sleep(1)
        gone = api.forget(served.root, {"id": "c0-n3"}, reason="request 9")
        time.sleep(0.5)
    api.stop(served.root)
    assert gone.rows == 2 and gone.files["access.log"] == 1 and not load.failed
    assert sorted(logged(log)) == sorted(load.answered.keys() - {"c0-n3"})
    noted = [json.loads(line) for line in (log.parent / "access.log").read_text().splitlines()]
    assert sorted(n["id"] for n in noted if n["path"] == "/predict") == sorted(load.answered.keys() - {"c0-n3"})
    (forgotten,) = (entry for entry in api.audit(served.root)[0] if entry.action == "subject.forgotten")
    assert forgotten.facts["erased"]["access.log"] == 1


def test_a_log_that_cannot_be_written_is_told_and_fails_no_request(served: Any) -> None:
    status = api.status(served.root, judge=False)
    assert status.endpoint
    log = served.root / ".mlops" / "serve" / "toy" / "log"
    log.rename(log.with_name("away"))
    log.write_text("a file where the folder was")
    with Load(status.endpoint.url, callers=1) as load:
        time.sleep(1)
    connection = http.client.HTTPConnection(load.address, timeout=10)
    connection.request("GET", "/status")
    told = json.loads(connection.getresponse().read())["log"]
    connection.request("GET", "/metrics")
    metrics = connection.getresponse().read().decode()
    assert len(load.answered) > 20 and not load.failed and not load.labelled  # labels are refused: 503
    assert told["error"] and told["dropped"] > 0 and "mlops_log_error 1" in metrics
    assert load._post(connection, "/v2/models/toy/feedback", {"id": "a", "label": "yes"}, "a") == 503
    log.unlink()
    log.with_name("away").rename(log)
    assert load._post(connection, "/v2/models/toy/feedback", {"id": "a", "label": "yes"}, "a") == 200
    connection.close()
