"""The life of an endpoint over real HTTP: served, asked, replaced under load, judged, refused, stopped."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_core import api
from mlops_core.cli.main import COMMANDS
from mlops_core.errors import BundleError, Rejected, ServingError, UsageError

CALLS = {
    "init": ("init", "recipes"),
    "check": ("check",),
    "plan": ("plan",),
    "run": ("run",),
    "status": ("status",),
    "rollout": ("rollout", "steer"),
    "predict": ("predict",),
    "versions": ("versions", "version", "promote", "rollback", "audit"),
    "feedback": ("feedback",),
    "forget": ("forget",),
    "deploy": ("deploy",),
    "stop": ("stop",),
    "submit": ("submit", "launcher"),
    "config": ("config", "origins"),
    "plugins": ("plugins",),
    "keys": ("create_key", "keys", "revoke_key"),
}


@pytest.fixture
def served(here: Any) -> Iterator[Any]:
    """The toy project with deployer http and monitor drift; what it serves is stopped at the end."""
    config = here.root / "conf" / "config.yaml"
    config.write_text(
        config.read_text().replace("  - _self_\n", "  - deployer: http\n  - monitor: drift\n  - _self_\n")
        + "deployer: {auth: none}\n"
    )
    here.give(2000)
    try:
        yield here
    finally:
        api.stop(here.root)


class Callers:
    """Asks without a pause from two threads, each request on a connection of its own; counts what went wrong."""

    def __init__(self, url: str, row: dict[str, Any]) -> None:
        self.url, self.body = url, json.dumps({"rows": [row]}).encode()
        self.versions: list[int] = []
        self.failed: list[str] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.ask) for _ in range(2)]

    def ask(self) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while not self.over.is_set():
            try:
                asked = urllib.request.Request(f"{self.url}/predict", self.body, {"content-type": "application/json"})
                with opener.open(asked, timeout=30) as answer:
                    self.versions.append(json.load(answer)["version"])
            except Exception as error:
                self.failed.append(repr(error))

    def __enter__(self) -> Callers:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def test_replaced_under_load_without_a_failed_request(served: Any) -> None:
    first = api.run(served.root)
    assert first.endpoint is not None and first.endpoint.versions == (1,)
    with Callers(first.endpoint.url, served.traffic(1, 5)[0]) as callers:
        assert api.run(served.root, ["trainer.shift=0.01"]).version == 2
        number, endpoint = api.rollback(served.root, reason="callers complain")
        assert (number, endpoint and endpoint.versions) == (1, (1,))
        assert not api.plan(served.root, ["trainer.shift=0.01"]).due
        again = api.run(served.root, ["trainer.shift=0.01"])
        assert again.performed == () and again.endpoint and again.endpoint.versions == (1,)
        promoted = api.promote(served.root, 2, reason="it was not the model")
        assert promoted and promoted.versions == (2,) and promoted.url == first.endpoint.url
    assert callers.failed == []
    assert set(callers.versions) == {1, 2} and len(callers.versions) > 20
    assert api.predict(served.root, [{"a": 3.0, "b": 0.0}])["predictions"][0]["prediction"] == "yes"


def test_asked_judged_and_stopped(served: Any) -> None:
    url = api.run(served.root).endpoint.url
    told = served.mlops("predict", '{"a": -1.0, "b": 0.2}').stdout
    assert "-> no" in told and "version 1, prediction id" in told
    assert json.loads(served.mlops("predict", "--sample", "3", "--json").stdout)["version"] == 1
    with pytest.raises(ServingError, match="column b"):
        api.predict(served.root, [{"a": 1.0, "b": "much"}])
    assert api.predict(served.root, served.traffic(500, seed=9))["version"] == 1
    status = judged(served, 504)
    assert status.verdict and status.verdict.state == "healthy", status.verdict
    api.predict(served.root, served.traffic(500, seed=10, shift=4.0))
    assert judged(served, 1004).verdict.state == "alarm"
    told = served.mlops("status").stdout
    assert "drift: alarm over 1,004 predictions" in told and "values above" in told, told
    line = r"^  version 1 \(stable\): 4 requests answered, 0 errors, median [\d.]+ ms, p99 \S+ m?s$"
    assert re.search(line, told, re.MULTILINE), told
    counts = json.loads(served.mlops("status", "--json").stdout)["counts"]
    assert [(c["version"], c["role"], c["answered"], c["errors"]) for c in counts] == [(1, "stable", 4, 0)]
    assert 0 < counts[0]["median"] <= counts[0]["p99"] <= 10
    assert "stopped" in served.mlops("stop", "--reason", "the night").stdout
    assert api.status(served.root).endpoint is None
    with pytest.raises(ServingError, match="no endpoint is running; start it with 'mlops run'"):
        api.predict(served.root, samples=1)
    assert api.run(served.root).endpoint.url == url, "the port is kept"


def judged(project: Any, rows: int) -> api.Status:
    """The status once so many answered rows are in the log, which is written behind the answers."""
    deadline = time.monotonic() + 20
    while True:
        status = api.status(project.root)
        if (status.window and status.window.rows >= rows) or time.monotonic() > deadline:
            return status
        time.sleep(0.2)


def test_the_endpoint_is_made_again_without_the_stages(served: Any) -> None:
    """After a reboot nothing is alive and the data may be out of reach; the champion is served all the same."""
    with pytest.raises(UsageError, match="no version is champion yet"):
        api.deploy(served.root)
    first = api.run(served.root).endpoint
    assert first
    (served.root / "data.csv").rename(served.root / "gone.csv")
    os.kill(first.pid, signal.SIGKILL)
    told = served.mlops("deploy", "--reason", "the machine was started again").stdout
    assert told == f"{first.url} serves version 1\n"
    assert api.predict(served.root, [{"a": 0.0, "b": 0.0}])["version"] == 1
    assert json.loads(served.mlops("deploy", "--json").stdout)["versions"] == [1], "nothing to do"
    assert served.mlops("deploy", "stop", "--reason", "night").stdout == "stopped\n"
    assert served.mlops("deploy", "stop").stdout == "no endpoint was running\n"
    assert served.mlops("deploy", "deployer.max_rows=7").stdout == told
    with pytest.raises(UsageError, match="no deployer is declared"):
        api.deploy(served.root, ["~deployer"])


def test_a_rejected_model_leaves_the_champion_serving(served: Any) -> None:
    first = api.run(served.root).endpoint
    with pytest.raises(Rejected):
        api.run(served.root, ["trainer.shift=4"])
    assert api.predict(served.root, samples=1)["version"] == 1
    os.kill(first.pid, signal.SIGKILL)
    plan = api.plan(served.root, ["trainer.shift=4"])
    assert plan.due and plan.rejected and [s.stage for s in plan.steps if s.state == "due"] == ["deploy"]
    with pytest.raises(Rejected):
        api.run(served.root, ["trainer.shift=4"])
    assert api.predict(served.root, samples=1)["version"] == 1
    assert not api.plan(served.root, ["trainer.shift=4"]).due


def test_what_cannot_be_judged_hides_nothing_else(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def altered(*facts: Any) -> None:
        raise BundleError("the bundle is altered")

    api.run(served.root)
    monkeypatch.setattr("mlops_core.flow.judging.judge", altered)
    status = api.status(served.root)
    assert status.endpoint and len(status.versions) == 1
    assert status.verdict and (status.verdict.state, status.verdict.reasons) == ("unknown", ("the bundle is altered",))


def test_a_removed_deployer_is_still_seen_and_can_be_stopped(served: Any) -> None:
    api.run(served.root)
    status = api.status(served.root, ["~deployer"])
    assert status.endpoint and status.endpoint.versions == (1,)
    assert api.stop(served.root, ["~deployer"])


def test_a_lost_bundle_is_planned_and_made_again(served: Any) -> None:
    import shutil

    api.run(served.root)
    api.stop(served.root)
    shutil.rmtree(served.root / ".mlops" / "bundles")
    before = sorted(p.name for p in (served.root / ".mlops").iterdir())
    assert api.plan(served.root).due
    assert sorted(p.name for p in (served.root / ".mlops").iterdir()) == before, "a plan changes nothing"
    assert api.run(served.root).restored == ("seal",)


def test_every_command_is_a_typed_call(here: Any) -> None:
    assert set(CALLS) == set(COMMANDS)
    for names in CALLS.values():
        for name in names:
            call = getattr(api, name)
            hints = inspect.signature(call).return_annotation
            assert inspect.getdoc(call) and hints not in (inspect.Signature.empty, "Any"), name
    assert api.check(here.root) == ()
    assert "wrong" in str(api.check(here.root, ["wrong=1"])[0])
    assert "name: toy" in api.config(here.root)
    assert api.origins(here.root)["trainer.shift"].place.startswith("conf/config.yaml:12")
    assert "toy" in api.plugins().names("trainer")
    assert "credit" in api.recipes()


def test_init_refuses_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is a file; name a new folder"):
        api.init(tmp_path / "file")
    with pytest.raises(UsageError, match=f"{tmp_path} is not empty"):
        api.init(tmp_path)
    assert (api.init(tmp_path / "new") / "conf" / "config.yaml").exists()
