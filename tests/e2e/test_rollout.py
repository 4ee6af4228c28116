"""Rollouts for real: an endpoint over HTTP, callers without a pause, a driver of its own, evidence from the log."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_core import api
from mlops_core.contracts import restore
from mlops_core.errors import ServingError, UsageError

sys.path.insert(0, str(Path(__file__).parent))
from conftest import edit  # noqa: E402  (the toy project's own)

# Answers as the champion does but for what it was made to do where it sees a large number, which training never has.
FAULTY = '''
        def predict(columns):
            x = np.stack([np.asarray(columns[n], float) for n in told["names"]], 1)
            if told["fault"] == "raises" and (x > 50).any():
                raise ValueError("no such thing in training")
            if told["fault"] == "drifts" and (x > 50).any():
                x = -x
            near = np.exp(-((np.minimum(x, 9)[:, None] - means) ** 2).sum(-1)) + 1e-9
'''


@pytest.fixture
def rolled(here: Any) -> Iterator[Any]:
    """The toy project served by deployer http, version 1 as champion, and a way to declare a rollout."""
    trainer = here.plugin / "toyplug" / "trainer.py"
    text = trainer.read_text()
    head, _, tail = text.partition("        def predict(columns):\n")
    tail = tail.partition("            return model.answer")[2]
    text = head + FAULTY.lstrip("\n") + "            return model.answer" + tail
    text = text.replace('"names": names}', '"names": names, "fault": self.fault}')
    trainer.write_text(text.replace("    sleep: float = 0.0\n", '    sleep: float = 0.0\n    fault: str = ""\n'))
    config = here.root / "conf" / "config.yaml"
    config.write_text(config.read_text().replace("  - _self_\n", "  - deployer: http\n  - _self_\n") + "deployer: {auth: none}\n")
    here.give(400)
    try:
        yield here
    finally:
        api.stop(here.root)


class Callers:
    """Two threads that ask without a pause; counts answers by version, and what went wrong."""

    def __init__(self, url: str, rows: list[dict[str, Any]], user: str = "") -> None:
        self.url, self.rows, self.user = url, rows, user
        self.versions: list[int] = []
        self.failed: list[str] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(i,)) for i in range(2)]

    def ask(self, turn: int) -> None:
        while not self.over.is_set():
            turn += 1
            try:
                self.versions.append(ask(self.url, self.rows[turn % len(self.rows)], self.user)["version"])
            except urllib.error.HTTPError as error:
                self.failed.append(error.read().decode())
            except Exception as error:
                self.failed.append(repr(error))
            time.sleep(0.002)

    def __enter__(self) -> Callers:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def ask(url: str, row: dict[str, Any], user: str = "") -> dict[str, Any]:
    body = json.dumps({"rows": [row]}).encode()
    headers = {"content-type": "application/json", **({"x-user": user} if user else {})}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(f"{url}/predict", body, headers), timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def until(done: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.05)
    return found


def state(project: Any) -> str:
    found = api.rollout(project.root)
    return found.rollout.state if found else ""


def ended(project: Any, seconds: float = 30.0) -> api.Rolling:
    def look() -> api.Rolling | None:
        found = api.rollout(project.root)
        return found if found and not found.rollout.active else None

    found: api.Rolling = until(look, seconds)
    return found


def driver(project: Any) -> int:
    """The process id of the driver, by the lock that it holds."""
    lock = project.root / ".mlops" / "serve" / "toy" / "driver.lock"
    inode = str(os.stat(lock).st_ino)
    found = [line.split() for line in Path("/proc/locks").read_text().splitlines() if f":{inode} " in line]
    assert found, "no driver holds its lock"
    return int(found[0][4])


CANARY = [
    "rollout.strategy=canary",
    "rollout.steps=[{weight: 20, requests: 40}, {weight: 50, requests: 80}]",
    "rollout.guards.latency=null",
    "rollout.guards.predictions=0.5",
]
NEXT = [*CANARY, "trainer.shift=0.01"]


def test_a_canary_is_promoted_under_load_without_a_failed_request(rolled: Any) -> None:
    first = api.run(rolled.root, CANARY)
    assert first.endpoint and api.rollout(rolled.root) is None, "the first version takes all at once"
    with Callers(first.endpoint.url, rolled.traffic(50, 5)) as callers:
        plan = api.plan(rolled.root, NEXT)
        assert "canary: 20 %, 50 % of the requests, then all" in plan.rollout
        began = time.monotonic()
        run = api.run(rolled.root, NEXT)
        print(f"begun after {time.monotonic() - began:.2f} s")
        assert run.version == 2 and "deploy" in run.performed
        aliases = api.versions(rolled.root)[1]
        assert aliases == {"champion": 1, "challenger": 2}
        until(lambda: len(callers.versions) + len(callers.failed) > 20)
        assert callers.failed == []
        found = ended(rolled)
    assert found.rollout.state == "promoted", found
    assert callers.failed == [] and set(callers.versions) == {1, 2}
    assert api.versions(rolled.root)[1] == {"champion": 2, "previous": 1}
    assert ask(first.endpoint.url, rolled.traffic(1, 5)[0])["version"] == 2
    entries, fault = api.audit(rolled.root)
    told = {e.action: e for e in entries if e.action.startswith("rollout.")}
    assert not fault and set(told) == {"rollout.begun", "rollout.step", "rollout.promoted"}
    seen = told["rollout.promoted"].facts
    assert seen["requests"]["candidate"] >= 80 and {f["kind"] for f in seen["findings"]["candidate"]} >= {"errors"}
    assert not api.plan(rolled.root, NEXT).due
