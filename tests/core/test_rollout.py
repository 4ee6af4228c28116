"""Rollouts: what is declared, what a look decides, what is read of the log, the proof, and one transition at a time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_core.bundle import open_bundle
from mlops_core.contracts import Rollout, plain, restore
from mlops_core.errors import UsageError
from mlops_core.evidence import Finding, Guard, Standing
from mlops_core.ledger import Ledger
from mlops_core.rollout.machine import Decision, decide, evidence
from mlops_core.rollout.plan import RolloutKeys, planned, told, wrong
from mlops_core.rollout.proof import proof
from mlops_core.rollout.reading import Tail
from mlops_core.rollout.shares import shares
from mlops_core.rollout.watch import Look, Loss, Watch

STATES = ("running", "paused", "waiting")
ENOUGH = {
    "canary": {"steps": [{"weight": 10, "requests": 100, "seconds": 5}, {"weight": 50, "requests": 100}]},
    "blue_green": {"hold": {"requests": 100, "seconds": 5}},
    "shadow": {"requests": 100},
    "ab": {},
}


def rollout(strategy: str = "canary", state: str = "running", step: int = 0, **plan: Any) -> Rollout:
    declared = {**ENOUGH[strategy], **plan, "strategy": strategy}
    arms = {"champion": 1, "challenger": 2} if strategy == "ab" else {}
    return Rollout(
        name="m", strategy=strategy, stable=1, candidate=2, state=state, step=step, plan=declared, arms=arms, id="r"
    )


def finding(state: Any, kind: Any = "errors") -> Finding:
    return Finding(
        guard=Guard(kind=kind, tolerance=0.5), state=state, low=-0.1, high=0.1, stable=0.0, candidate=0.0,
        requests=100, error=0.01, words=f"{kind} {state}",
    )  # fmt: skip


def look(requests: int = 100, seconds: float = 10.0, *states: Any, winner: str = "", arm: str = "candidate") -> Look:
    standings = tuple(
        Standing(arm=a, rows=9, loss=0.1, low=0.0, high=0.2, error=0.01) for a in ("champion", "challenger")
    )
    return Look(
        seconds=seconds,
        requests={"stable": 900, arm: requests},
        failures={"stable": 0, arm: 0},
        findings={arm: tuple(finding(s, k) for s, k in zip(states, ("errors", "predictions", "metric"), strict=False))},
        standings=standings if winner else (),
        winner=winner,
    )


@pytest.mark.parametrize("strategy", list(ENOUGH))
def test_every_state_and_every_look(strategy: str) -> None:
    """Harm ends a rollout from every state; nothing else moves one that is paused or waits; too little moves none."""
    judged = ("open", "safe", "harm")
    for state, one, two, count, seconds in itertools.product(
        STATES, judged, judged, (0, 99, 100, 500), (0.0, 4.0, 5.0)
    ):
        found = decide(rollout(strategy, state), look(count, seconds, one, two))
        due: str | None = None
        if "harm" in (one, two):
            due = "rolled_back"
        elif state == "running" and strategy != "ab" and count >= 100 and (strategy == "shadow" or seconds >= 5):
            due = {"canary": "step"}.get(strategy, "promoted")
        assert (found.event if found else None) == due, (state, one, two, count, seconds)


def test_steps_lead_to_promotion() -> None:
    first = decide(rollout(), look(100, 5.0, "safe", "open"))
    assert first == Decision(
        event="step", state="running", step=1,
        reason="100 requests in 5 s and no guard is broken, errors proven safe: on to 50 %",
    )  # fmt: skip
    last = decide(rollout(step=1), look(100, 0.0, "open"))
    assert last and (last.event, last.state, last.champion) == ("promoted", "promoted", 2)


def test_safe_waits_for_proof_but_not_for_labels() -> None:
    careful = rollout(evidence="safe")
    assert decide(careful, look(10_000, 60.0, "safe", "open", "open")) is None
    found = decide(careful, look(10_000, 60.0, "safe", "safe", "open"))
    assert found and found.event == "step"


def test_a_shadow_and_a_winner_may_be_held() -> None:
    held = decide(rollout("shadow", then="hold"), look(100, 0.0, "open"))
    assert held and (held.event, held.state, held.champion) == ("waiting", "waiting", 0)
    held = decide(rollout("ab", on_winner="hold"), look(winner="challenger", arm="challenger"))
    assert held and held.state == "waiting" and "arm challenger has won" in held.reason
    won = decide(rollout("ab"), look(winner="challenger", arm="challenger"))
    assert won and (won.state, won.champion) == ("promoted", 2)
    kept = decide(rollout("ab"), look(winner="champion", arm="challenger"))
    assert kept and (kept.state, kept.champion) == ("rolled_back", 0)
    assert decide(rollout("ab"), look(arm="challenger")) is None


def test_the_evidence_is_numbers_only() -> None:
    facts = evidence(dataclasses.replace(look(5, 1.0, "open"), standings=(), weights={"candidate": 5.0}))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["findings"]["candidate"][0]["kind"] == "errors" and facts["requests"]["candidate"] == 5


def test_shares_sum_to_a_hundred_and_keep_the_order() -> None:
    found = {s: [(x.version, x.weight, x.role, x.arm) for x in shares(rollout(s))] for s in ENOUGH}
    assert found == {
        "canary": [(1, 90.0, "stable", ""), (2, 10.0, "candidate", "")],
        "blue_green": [(2, 100.0, "stable", ""), (1, 0.0, "warm", "")],
        "shadow": [(1, 100.0, "stable", ""), (2, 0.0, "shadow", "")],
        "ab": [(1, 50.0, "stable", "champion"), (2, 50.0, "candidate", "challenger")],
    }


def test_what_is_declared_is_whole_and_told() -> None:
    assert planned({}) == RolloutKeys() and restore(RolloutKeys, plain(RolloutKeys())) == RolloutKeys()
    assert planned({"guards": {"latency": None}}).guards.latency is None
    assert told(planned({"strategy": "blue_green"})) == "blue_green: all at once, the old version kept warm for 60 s"
    assert told(planned({"strategy": "shadow"})) == "shadow: a copy of 1000 requests, then promote"
    assert told(planned({"strategy": "ab"})) == "ab: champion 50 %, challenger 50 %, until one has won (promote)"
    assert wrong({"steps": []})[0][1] == "a canary needs at least one step"
    arms = [{"name": "a", "weight": 100}, {"name": "a", "weight": 0, "version": 1}]
    assert [w[0] for w in wrong({"arms": arms})] == [
        ("arms", "0"), ("arms", "0", "weight"), ("arms", "1", "weight"), ("arms", "1", "name"), ("arms",),
    ]  # fmt: skip


def line(version: int, at: float, **more: Any) -> bytes:
    told = {"id": f"{version}-{at}", "time": at, "version": version, "rows": 1, "seconds": 0.01}
    answer = {} if "error" in more else {"answer": {"prediction": ["no"], "probability": [[0.8, 0.2]]}}
    return json.dumps({**told, **answer, **more}).encode() + b"\n"


def test_lines_are_read_once_and_torn_ones_when_they_are_whole(tmp_path: Path) -> None:
    tail, path = Tail(tmp_path / "log", 10.0), tmp_path / "log" / "a.jsonl"
    assert list(tail.lines()) == []
    path.parent.mkdir()
    whole = line(1, 12.0)
    path.write_bytes(line(1, 9.0) + b"no json\n[1]\n" + line(1, 11.0) + whole[:20])
    assert [found["time"] for found in tail.lines()] == [11.0]
    assert list(tail.lines()) == []
    with path.open("ab") as file:
        file.write(whole[20:])
    (path.parent / "b.jsonl").write_bytes(line(2, 13.0))
    assert [found["time"] for found in tail.lines()] == [12.0, 13.0]
    kept = path.read_bytes().replace(b"12.0", b"12.0")
    path.unlink()
    path.with_suffix(".new").write_bytes(kept)
    path.with_suffix(".new").rename(path)  # an erasure rewrites a segment
    assert list(tail.lines()) == []
    with path.open("ab") as file:
        file.write(line(1, 14.0))
    assert [found["time"] for found in tail.lines()] == [14.0]


def test_a_look_counts_what_callers_got_and_a_restart_comes_to_the_same(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    now = time.time()
    begun = dataclasses.replace(rollout(), since=now)
    watch = Watch(begun, log, "accuracy")
    rng = np.random.default_rng(0)
    with (log / "a.jsonl").open("wb") as file:
        file.write(line(2, now - 5, error="died"))
        for i in range(600):
            broken = {"error": "ValueError: x"} if i % 4 == 0 and rng.random() < 0.5 else {}
            file.write(line(2 if i % 4 == 0 else 1, now + i, **broken))
            if broken:
                file.write(line(1, now + i, instead=2))
            if i % 50 == 0:
                file.flush()
                watch.look()
    seen = watch.look(now + 30)
    assert seen.requests == {"stable": 450, "candidate": 150} and 50 < seen.failures["candidate"] < 100
    assert seen.failures["stable"] == 0 and seen.seconds == pytest.approx(30, abs=1e-3)
    again = Watch(begun, log, "accuracy").look(now + 30)
    assert again == seen
    found, repeated = decide(begun, seen), decide(begun, again)
    assert found and found == repeated and found.event == "rolled_back" and "candidate: error rate" in found.reason


def test_a_blue_green_switch_is_held_to_what_the_old_version_did_before(tmp_path: Path) -> None:
    now = time.time()
    lines = [line(1, now - 300 + i) for i in range(250)] + [line(2, now + i, error="died") for i in range(50)]
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines))
    begun = dataclasses.replace(rollout("blue_green"), since=now)
    seen = Watch(begun, tmp_path, "accuracy").look()
    assert seen.requests == {"stable": 0, "candidate": 50}
    found = decide(begun, seen)
    assert found and found.event == "rolled_back"


def test_labels_count_when_they_come_and_once(tmp_path: Path) -> None:
    now = time.time()
    begun = dataclasses.replace(rollout("ab", guards={"metric": None}), since=now)
    watch = Watch(begun, tmp_path, "accuracy")
    (tmp_path / "labels").mkdir()
    labels = (tmp_path / "labels" / "l.jsonl").open("wb")

    def label(id: str, truth: str) -> None:
        labels.write(json.dumps({"id": id, "label": truth, "time": now, "by": "me"}).encode() + b"\n")
        labels.flush()

    label("x-0", "no")  # before its answer is read, and by the longer form
    (tmp_path / "a.jsonl").write_bytes(
        line(1, now + 1, id="x") + line(2, now + 2, id="y", rows=2, answer={"prediction": ["no", "yes"],
        "probability": [[0.9, 0.1], [0.2, 0.8]]})
    )  # fmt: skip
    assert watch.look().labels == 1
    label("y-0", "yes")
    label("y-1", "yes")
    label("y-1", "yes")
    label("nobody", "yes")
    standings = watch.look().standings
    assert [(s.arm, s.rows, s.loss) for s in standings] == [("champion", 1, 0.0), ("challenger", 2, 0.5)]
    labels.close()


def test_losses_lie_between_none_and_one() -> None:
    decision, share, number = Loss("accuracy", 1.0), Loss("auroc", 1.0), Loss("mae", 10.0)
    assert [decision((v, [0.4, 0.6]), "1") for v in (1, 0)] == [0.0, 1.0]
    assert share(("yes", [0.25, 0.75]), "yes") == 0.0625 and share(("yes", [0.25, 0.75]), "no") == 0.5625
    assert share(("b", [0.2, 0.7, 0.1]), "b") == 0.0 and share((True, [0.0, 1.0]), "true") == 0.0
    assert number((3.0, None), 8.0) == 0.5 and number((3.0, None), 1e9) == 1.0 and number((3.0, None), "x") is None
    assert Loss("rmse", 10.0)((3.0, None), 8.0) == 0.25


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    found = Ledger(ledger_url)
    yield found
    found.close()


def move(ledger: Ledger, event: str, after: Rollout) -> Rollout:
    return ledger.transit(event, after, moves={}, actor="me", reason="why", facts={"requests": 3})


def test_of_two_movers_one_moves(ledger: Ledger) -> None:
    begun = move(ledger, "begun", rollout())
    with pytest.raises(UsageError, match="a rollout of m to version 2 is running already"):
        move(ledger, "begun", dataclasses.replace(rollout(), id="other"))
    won: list[Rollout] = []
    refused: list[str] = []

    def step() -> None:
        try:
            won.append(move(ledger, "step", dataclasses.replace(begun, step=1)))
        except UsageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=step) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and refused == ["the rollout of m was moved by another process: it is running, step 2"] * 3
    ended = move(ledger, "promoted", dataclasses.replace(won[0], state="promoted"))
    assert not ended.active and ledger.rollout("m") == ended
    assert move(ledger, "begun", dataclasses.replace(rollout(), id="next")).active
    entries = [e for e in reversed(ledger.audit()) if e.action.startswith("rollout.")]
    assert [e.action for e in entries] == ["rollout.begun", "rollout.step", "rollout.promoted", "rollout.begun"]
    assert entries[1].subject == "m/2" and entries[1].facts["requests"] == 3 and not ledger.verify_audit()


def test_a_proof_is_a_sentence_whatever_the_model_does(tiny_bundle: Callable[..., Path], tmp_path: Path) -> None:
    path, log = tiny_bundle(1), tmp_path / "log"
    log.mkdir()
    sha = open_bundle(path).sha256
    features = {"age": [30.0, None], "income": [1.0, 2.0], "home": ["own", None], "married": [1.0, None]}
    row = {"features": {**features, "since": ["2020-01-01T00:00:00.000000", None]}, "rows": 2, "time": 1.0}
    (log / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row)[:40])
    assert proof(path, sha, log) == ("", 2)
    assert proof(path, "0" * 64, log)[0].startswith(f"bundle {path} is not the one expected")
    said = proof(path, sha, log, seconds=0.01)
    assert said == ("it did not load and answer within 0.01 s", 0)
    starved = proof(path, sha, log, memory=64 * 1024**2)[0]
    assert "memory" in starved or "ended: " in starved, starved
    (path / "card.md").write_text("altered")
    assert "'card.md' is altered" in proof(path, sha, log)[0]
