"""Rollouts for real: an endpoint over HTTP, callers without a pause, a driver of its own, evidence from the log."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mlops_core import api, hookimpl
from mlops_core.contracts import Rollout
from mlops_core.errors import Rejected, ServingError, UsageError

# Answers as the champion does but for what it was made to do where it sees a large number, which training never has.
FAULTY = """
        def predict(columns):
            x = np.stack([np.asarray(columns[n], float) for n in told["names"]], 1)
            if told["fault"] == "raises" and (x > 50).any():
                raise ValueError("no such thing in training")
            if told["fault"] == "drifts" and (x > 50).any():
                x = -x
            near = np.exp(-((np.clip(x, -1, 4)[:, None] - means) ** 2).sum(-1)) + 1e-9
"""


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
    config.write_text(
        config.read_text().replace("  - _self_\n", "  - deployer: http\n  - _self_\n") + "deployer: {auth: none}\n"
    )
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


class Seen:
    """What an observer is told."""

    def __init__(self) -> None:
        self.rollouts: list[Rollout] = []

    @hookimpl
    def mlops_rollout(self, rollout: Rollout) -> None:
        self.rollouts.append(rollout)


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
    """The process that drives, as it says itself at each look."""
    path = project.root / ".mlops" / "serve" / "toy" / "rollout.json"
    return int(json.loads(path.read_text())["driver"]) if path.exists() else 0


CANARY = [
    "rollout.strategy=canary",
    "rollout.steps=[{weight: 20, requests: 40}, {weight: 50, requests: 80}]",
    "rollout.guards.latency=null",
    "rollout.guards.predictions=0.5",
    "rollout.deadline=5",
]
LONG = [*CANARY[:1], "rollout.steps=[{weight: 50, requests: 100000}]", *CANARY[2:]]
PERSON = """\
rollout:
  strategy: canary
  steps: [{weight: 50, requests: 100000}]
  guards: {latency: null}
"""
NEXT = "trainer.shift=0.01"
SEEN: dict[str, Any] = {"a": 100.0, "b": 0.0}  # what training has never seen


def weights(project: Any) -> dict[int, tuple[float, str]]:
    """What the endpoint itself says of its routes."""
    endpoint = api.status(project.root, judge=False).endpoint
    if endpoint is None:
        return {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{endpoint.url}/status", timeout=30) as answer:
        return {r["version"]: (r["weight"], r["role"]) for r in json.load(answer)["routes"]}


def audited(project: Any) -> list[str]:
    entries, fault = api.audit(project.root)
    assert not fault
    return [e.action.removeprefix("rollout.") for e in reversed(entries) if e.action.startswith("rollout.")]


def test_a_canary_is_promoted_under_load_without_a_failed_request(rolled: Any) -> None:
    first = api.run(rolled.root, CANARY)
    assert first.endpoint and api.rollout(rolled.root) is None, "the first version takes all at once"
    with Callers(first.endpoint.url, rolled.traffic(50, 5)) as callers:
        plan = api.plan(rolled.root, [*CANARY, NEXT])
        assert "canary: 20 %, 50 % of the requests, then all" in plan.rollout
        began = time.monotonic()
        watcher = Seen()
        run = api.run(rolled.root, [*CANARY, NEXT], observers=[watcher])
        assert [(r.strategy, r.stable, r.candidate, r.state) for r in watcher.rollouts] == [("canary", 1, 2, "running")]
        print(f"\nbegun with its proof after {time.monotonic() - began:.2f} s")
        assert run.version == 2 and "deploy" in run.performed
        assert api.versions(rolled.root)[1] == {"champion": 1, "challenger": 2}
        found = ended(rolled)
    assert found.rollout.state == "promoted", found
    assert callers.failed == [] and set(callers.versions) == {1, 2}
    assert api.versions(rolled.root)[1] == {"champion": 2, "previous": 1}
    assert until(lambda: weights(rolled) == {2: (100.0, "stable")})
    entries, fault = api.audit(rolled.root)
    told = {e.action: e for e in entries if e.action.startswith("rollout.")}
    assert not fault and set(told) == {"rollout.begun", "rollout.step", "rollout.promoted"}
    seen = told["rollout.promoted"].facts
    assert seen["requests"]["candidate"] >= 80 and {f["kind"] for f in seen["findings"]["candidate"]} >= {"errors"}
    assert told["rollout.begun"].facts["replayed rows"]["2"] > 0
    assert not api.plan(rolled.root, [*CANARY, NEXT]).due


def test_a_canary_on_ray_serve(rolled: Any) -> None:
    """The same through HAProxy and two replicas: promoted, then a harmful one rolled back, and no caller fails."""
    config = rolled.root / "conf" / "config.yaml"
    served = "deployer: {auth: none, replicas: 2, cpus: 0.1}\n"
    text = config.read_text().replace("deployer: http", "deployer: ray_serve")
    config.write_text(text.replace("deployer: {auth: none}\n", served))
    first = api.run(rolled.root, CANARY)
    assert first.endpoint and first.endpoint.deployer == "ray_serve"
    with Callers(first.endpoint.url, rolled.traffic(50, 5)) as callers:
        api.run(rolled.root, [*CANARY, NEXT])
        found = ended(rolled, 60)
        assert found.rollout.state == "promoted", found
        until(lambda: weights(rolled) == {2: (100.0, "stable")})
    assert callers.failed == [] and set(callers.versions) == {1, 2}
    harmful = [*LONG, NEXT, "trainer.fault=raises"]
    api.run(rolled.root, harmful)
    with Callers(first.endpoint.url, [SEEN | {"b": b / 50} for b in range(100)]) as callers:
        found = ended(rolled, 60)
        until(lambda: weights(rolled) == {2: (100.0, "stable")})
        gone = time.time()
    assert found.rollout.state == "rolled_back" and callers.failed == []
    decided, requests = deciding(rolled, replace(found.rollout, state="running"))
    print(f"\nray_serve: harm after {requests} requests of the candidate, rolled back {gone - decided:.2f} s later")
    assert gone - decided < 5
    assert audited(rolled) == ["begun", "step", "promoted", "begun", "rolled_back"]


@pytest.mark.parametrize("fault", ["raises", "drifts"])
def test_a_harmful_canary_is_rolled_back_within_five_seconds(rolled: Any, fault: str) -> None:
    first = api.run(rolled.root, LONG)
    assert first.endpoint
    api.run(rolled.root, [*LONG, f"trainer.fault={fault}"])
    with Callers(first.endpoint.url, [SEEN | {"b": b / 50} for b in range(100)]) as callers:
        found = ended(rolled)
        until(lambda: weights(rolled) == {1: (100.0, "stable")})
        gone = time.time()
    assert found.rollout.state == "rolled_back" and callers.failed == []
    assert ("error rate" if fault == "raises" else "predictions") in found.rollout.reason
    decided, requests = deciding(rolled, replace(found.rollout, state="running"))
    print(f"\n{fault}: harm after {requests} requests of the candidate, rolled back {gone - decided:.2f} s later")
    assert gone - decided < 5
    assert api.versions(rolled.root)[1] == {"champion": 1}
    plan = api.plan(rolled.root, [*LONG, f"trainer.fault={fault}"])
    assert not plan.due and "its rollout was rolled back" in plan.chosen


def deciding(project: Any, rollout: Any) -> tuple[float, int]:
    """When the log held what decides, counted line by line, and how many requests the candidate had seen then."""
    from mlops_core.rollout.reading import Tail
    from mlops_core.rollout.watch import Watch

    lines = sorted(Tail(project.root / ".mlops/serve/toy/log", 0.0).lines(), key=lambda line: line["time"])
    folder = project.root / "replayed"
    folder.mkdir()
    watch = Watch(rollout, folder, "accuracy")
    with (folder / "a.jsonl").open("w") as out:
        for number, line in enumerate(lines):
            print(json.dumps(line), file=out, flush=number % 10 == 0)
            if number % 10:
                continue
            look = watch.look()
            if any(f.state == "harm" for f in look.findings["candidate"]):
                return line["time"], look.requests["candidate"]
    raise AssertionError("the log decides nothing")


def test_driver_and_endpoint_killed_in_the_middle(rolled: Any) -> None:
    steps = ["rollout.steps=[{weight: 50, requests: 40, seconds: 8}]", *CANARY[:1], *CANARY[2:]]
    first = api.run(rolled.root, steps)
    assert first.endpoint
    api.run(rolled.root, [*steps, NEXT])
    until(lambda: len(weights(rolled)) == 2 and driver(rolled))
    before, pid = weights(rolled), driver(rolled)
    os.kill(pid, signal.SIGKILL)
    os.kill(first.endpoint.pid, signal.SIGKILL)
    again = api.run(rolled.root, [*steps, NEXT])
    assert again.endpoint and again.endpoint.url == first.endpoint.url
    assert weights(rolled) == before
    until(lambda: driver(rolled) != pid)
    with Callers(first.endpoint.url, rolled.traffic(50, 5)) as callers:
        assert ended(rolled).rollout.state == "promoted"
    assert callers.failed == [] and audited(rolled) == ["begun", "promoted"]


def test_options_that_a_command_gives_in_the_middle_are_kept_by_every_driver(rolled: Any) -> None:
    few = [*CANARY[:1], "rollout.steps=[{weight: 20, requests: 20}, {weight: 50, requests: 20}]", *CANARY[2:]]
    url = api.run(rolled.root, few).endpoint.url  # type: ignore[union-attr]
    api.run(rolled.root, [*few, NEXT])
    until(lambda: driver(rolled))
    limited = [*few, NEXT, "deployer.max_rows=7"]
    assert api.plan(rolled.root, limited).due
    api.run(rolled.root, limited)
    with pytest.raises(ServingError, match="7"):
        api.predict(rolled.root, rolled.traffic(8, 1))
    pid = driver(rolled)
    os.kill(pid, signal.SIGKILL)
    until(lambda: state(rolled) and driver(rolled) != pid)  # whoever asks starts the next one, without these options
    with Callers(url, rolled.traffic(50, 5)) as callers:
        assert ended(rolled).rollout.state == "promoted"
        until(lambda: weights(rolled) == {2: (100.0, "stable")})
    assert callers.failed == []
    with pytest.raises(ServingError, match="7"):
        api.predict(rolled.root, rolled.traffic(8, 1))
    assert not api.plan(rolled.root, limited).due


def test_verbs_and_moves_by_hand_make_the_endpoint_as_the_last_command_did(rolled: Any) -> None:
    def limited() -> bool:
        with pytest.raises(ServingError, match="7"):
            api.predict(rolled.root, rolled.traffic(8, 1))
        return True

    given = [*LONG, "deployer.max_rows=7"]
    api.run(rolled.root, given)
    api.run(rolled.root, [*given, NEXT])
    for verb in ("pause", "resume", "abort"):
        rolled.mlops("rollout", verb)
        assert limited(), verb
    assert "version 1 -> 2 by canary" in rolled.mlops("versions", "promote", "2", "--reason", "good").stdout
    assert limited(), "by the rollout that was given with the command"
    rolled.mlops("rollout", "promote")
    assert weights(rolled) == {2: (100.0, "stable")} and limited()
    rolled.mlops("versions", "rollback", "--reason", "no")
    assert weights(rolled) == {1: (100.0, "stable")} and limited()
    assert not api.plan(rolled.root, [*given, NEXT]).due
    few = rolled.root / "conf" / "experiment" / "few.yaml"
    few.parent.mkdir()
    few.write_text("# @package _global_\ndeployer: {max_rows: 9}\n")
    api.promote(rolled.root, 2, reason="as I say", overrides=["+experiment=few"])
    assert api.predict(rolled.root, rolled.traffic(8, 1))["version"] == 2
    few.unlink()
    rolled.mlops("versions", "rollback", "--reason", "no")
    assert api.predict(rolled.root, rolled.traffic(10, 1))["version"] == 1, "the way back is open"


def test_a_fault_that_nobody_foresaw_ends_no_driver(rolled: Any) -> None:
    """What it writes for people cannot be written; it says so, and goes on when it can."""
    endpoint = api.run(rolled.root, CANARY).endpoint
    assert endpoint
    shown = rolled.root / ".mlops" / "serve" / "toy" / "rollout.json"
    shown.mkdir(parents=True)
    (shown / "in the way").touch()
    api.run(rolled.root, [*CANARY, NEXT])
    log = shown.with_name("rollout.log")
    until(lambda: "IsADirectory" in log.read_text())
    (shown / "in the way").unlink()
    shown.rmdir()
    with Callers(endpoint.url, rolled.traffic(50, 5)) as callers:
        found = until(lambda: state(rolled) == "promoted")
    assert found and callers.failed == []
    assert log.read_text().count("begins") == 1, "it was one driver throughout"


def test_a_person_has_the_last_word(rolled: Any) -> None:
    with (rolled.root / "conf" / "config.yaml").open("a") as config:
        config.write(PERSON)
    first = api.run(rolled.root)
    assert first.endpoint
    told = rolled.mlops("run", NEXT).stdout
    assert "version 1 -> 2 by canary: 50 % of the requests, then all; follow it with 'mlops rollout'" in told
    assert "under way" in rolled.mlops("rollout").stdout
    with pytest.raises(UsageError, match="the rollout of version 2 is running; 'mlops rollout promote'"):
        api.promote(rolled.root, 2, reason="again")
    assert "2: paused (lunch)" in rolled.mlops("rollout", "pause", "--reason", "lunch").stdout
    with pytest.raises(UsageError, match="the rollout of version 2 is paused; it cannot pause now"):
        api.steer(rolled.root, "pause")
    with pytest.raises(UsageError, match="version 2 is paused, so version 3 waits"):
        api.run(rolled.root, ["trainer.shift=0.02"])
    assert "rollout: version 1 -> 2, canary, step 1 of 1: paused" in rolled.mlops("status").stdout
    assert len(weights(rolled)) == 2, "a pause takes nobody's traffic"
    api.steer(rolled.root, "resume", reason="back")
    api.run(rolled.root, ["trainer.shift=0.02"])
    assert weights(rolled) == {1: (50.0, "stable"), 3: (50.0, "candidate")}
    api.stop(rolled.root)
    api.run(rolled.root, ["trainer.shift=0.02"])
    assert weights(rolled) == {1: (50.0, "stable"), 3: (50.0, "candidate")}, "started again as the rollout stood"
    assert api.rollback(rolled.root, reason="no")[0] == 1
    assert weights(rolled) == {1: (100.0, "stable")}
    assert "version 1 -> 2 by canary" in rolled.mlops("versions", "promote", "2", "--reason", "good").stdout
    api.run(rolled.root, ["rollout.strategy=all_at_once", "trainer.shift=0.03"])
    assert weights(rolled) == {4: (100.0, "stable")}, "what takes all at once ends a rollout"
    assert audited(rolled) == ["begun", "paused", "resumed", "superseded", "begun", "aborted", "begun", "superseded"]
    with pytest.raises(UsageError, match="no rollout is under way, so there is nothing to abort"):
        api.steer(rolled.root, "abort")


def test_blue_green_switches_and_switches_back_at_once(rolled: Any) -> None:
    held = ["rollout.strategy=blue_green", "rollout.hold.seconds=600", "rollout.guards.latency=null"]
    first = api.run(rolled.root, held)
    assert first.endpoint
    with Callers(first.endpoint.url, rolled.traffic(50, 5)) as callers:
        api.run(rolled.root, [*held, NEXT])
        assert weights(rolled) == {2: (100.0, "stable"), 1: (0.0, "warm")}
        assert api.versions(rolled.root)[1] == {"champion": 1, "challenger": 2}
        began = time.monotonic()
        api.steer(rolled.root, "abort", reason="callers complain")
        print(f"\nswitched back in {time.monotonic() - began:.2f} s")
        assert weights(rolled) == {1: (100.0, "stable")}
    assert callers.failed == [] and {1, 2} <= set(callers.versions)


def test_an_experiment_is_sticky_and_promotes_the_arm_that_has_won(rolled: Any) -> None:
    from mlops_core.feedback import Label, LabelLog

    tried = ["rollout.strategy=ab", "rollout.sticky=header:x-user", "rollout.guards.latency=null", "rollout.deadline=5"]
    first = api.run(rolled.root, [*tried, "trainer.fault=drifts"])
    assert first.endpoint
    api.run(rolled.root, tried)
    assert weights(rolled) == {1: (50.0, "stable"), 2: (50.0, "candidate")}
    answers = [(user, ask(first.endpoint.url, SEEN, f"u{user}")) for _ in range(3) for user in range(60)]
    dealt = {user: {a["version"] for u, a in answers if u == user} for user in range(60)}
    assert all(len(found) == 1 for found in dealt.values()) and {1} in dealt.values() and {2} in dealt.values()
    labels = LabelLog(rolled.root / ".mlops/serve/toy/log")
    labels.add([Label(id=a["id"], label="yes", time=time.time()) for _, a in answers])
    found = ended(rolled)
    assert found.rollout.state == "promoted" and "arm challenger has won" in found.rollout.reason, found
    assert api.versions(rolled.root)[1] == {"champion": 2, "previous": 1}


def test_a_shadow_answers_nobody_and_is_held_for_a_person(rolled: Any) -> None:
    shadow = ["rollout.strategy=shadow", "rollout.requests=50", "rollout.then=hold", "rollout.guards.latency=null"]
    first = api.run(rolled.root, shadow)
    assert first.endpoint
    with Callers(first.endpoint.url, rolled.traffic(50, 5)) as callers:
        waited = rolled.mlops("run", "--wait", *shadow, NEXT).stdout
    assert "waits for 'mlops rollout promote'" in waited.splitlines()[-1] and state(rolled) == "waiting"
    assert callers.failed == [] and set(callers.versions) == {1}
    rolled.mlops("rollout", "promote", "--reason", "as good")
    assert weights(rolled) == {2: (100.0, "stable")} and api.versions(rolled.root)[1]["champion"] == 2


def test_a_rejected_or_tampered_version_gets_nothing(rolled: Any) -> None:
    first = api.run(rolled.root, LONG)
    assert first.endpoint
    with pytest.raises(Rejected):
        api.run(rolled.root, [*LONG, "trainer.shift=4"])
    with pytest.raises(UsageError, match="version 2 was rejected by its gate"):
        api.promote(rolled.root, 2, reason="but I like it", overrides=LONG)
    api.stop(rolled.root)
    api.run(rolled.root, [*LONG, NEXT])
    assert api.versions(rolled.root)[1] == {"champion": 3, "previous": 1}, "without an endpoint all at once"
    api.run(rolled.root, [*LONG, NEXT])
    version = api.version(rolled.root, 1)
    means = version.model.path / "means.json"
    means.chmod(0o644)
    means.write_text(means.read_text().replace("names", "nemas"))
    for kept in (rolled.root / ".mlops" / "objects").rglob("*"):
        if kept.is_file() and b'"names"' in kept.read_bytes()[:2000]:
            kept.chmod(0o644)
            kept.write_bytes(b"{}")
    with pytest.raises(ServingError, match="version 1"):
        api.promote(rolled.root, 1, reason="back", overrides=LONG)
    assert weights(rolled) == {3: (100.0, "stable")} and audited(rolled) == []
