"""The ledger, the same suite on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_core.contracts import (
    Artifact,
    Choice,
    Evaluation,
    Model,
    ModelVersion,
    Run,
    Score,
    Verdict,
    Window,
)
from mlops_core.errors import StoreError, UsageError
from mlops_core.ledger import Ledger, Outcome
from mlops_core.ledger.schema import VERSION

ARTIFACT = Artifact(address="a" * 32, sha256="b" * 64, size=3, files=1)


def version(name: str, number: int, status: Any = "accepted") -> ModelVersion:
    model = Model(
        artifact=ARTIFACT,
        path=Path("/bundles/x"),
        trainer=Choice(plugin="lightning", options={"lr": 0.1}),
        dataset="d" * 64,
        params={"trainer.lr": 0.1},
        scores={"auroc": 0.8},
    )
    return ModelVersion(
        name=name,
        number=number,
        model=model,
        status=status,
        reasons=("auroc 0.8 is at least 0.7",),
        evaluation=Evaluation(metrics={"auroc": Score(value=0.8, low=0.7, high=0.9, rows=600)}, rows=600),
        created="2026-11-01T00:00:00.000000Z",
        code={"revision": "abc"},
        config={"name": name},
        run="r1",
    )


def add(ledger: Ledger, identity: str, name: str = "credit") -> ModelVersion:
    return ledger.add_version(name, identity, lambda number: version(name, number), actor="ann")


def outcome(key: str = "k1", **changes: Any) -> Outcome:
    fields = {"stage": "data", "key": key, "parts": {"seed": 1}, "record": {"rows": [1, 2]}, "artifacts": (ARTIFACT,)}
    return Outcome(**fields | changes)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger(ledger_url) as opened:
        yield opened


def python(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_run_is_told_from_begin_to_end(ledger: Ledger) -> None:
    first = ledger.begin_run("credit", project="/p")
    second = ledger.begin_run("credit", "drift")
    ledger.begin_run("other")
    ledger.end_run(first, "failed", "no data")
    rows = ledger.runs("credit")
    assert [(r.id, r.cause, r.state, r.error) for r in rows] == [
        (second.id, "drift", "running", ""),
        (first.id, "manual", "failed", "no data"),
    ]
    assert rows[1].started <= rows[1].ended
    assert rows[0].pid == os.getpid()
    assert first.project == "/p"
    assert [r.id for r in ledger.runs("credit", limit=1)] == [second.id]


def test_a_run_whose_process_was_killed_reads_as_died(ledger: Ledger, ledger_url: str) -> None:
    begin = "Ledger(sys.argv[1]).begin_run('credit'); os.kill(os.getpid(), 9)"
    killed = python(f"import sys, os; from mlops_core.ledger import Ledger; {begin}", ledger_url)
    _, err = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, err
    assert [r.state for r in ledger.runs("credit")] == ["died"]


def test_an_outcome_is_found_by_its_key_and_replaced_where_it_is_put_again(ledger: Ledger) -> None:
    run = ledger.begin_run("credit")
    assert ledger.outcome("credit", "data", "k1") is None
    ledger.put_outcome(run, outcome(seconds=1.5))
    found = ledger.outcome("credit", "data", "k1")
    assert found is not None
    assert (found.parts, found.record, found.artifacts, found.run, found.seconds) == (
        {"seed": 1},
        {"rows": [1, 2]},
        (ARTIFACT,),
        run.id,
        1.5,
    )
    ledger.put_outcome(run, outcome(record={"rows": [3]}))
    again = ledger.outcome("credit", "data", "k1")
    assert again is not None
    assert again.record == {"rows": [3]}
    assert ledger.outcome("other", "data", "k1") is None


def test_latest_is_the_outcome_that_was_put_or_reused_last(ledger: Ledger) -> None:
    run = ledger.begin_run("credit")
    ledger.put_outcome(run, outcome("k1"))
    ledger.put_outcome(run, outcome("k2"))
    assert ledger.latest("credit", "data").key == "k2"  # type: ignore[union-attr]
    ledger.reuse(run, outcome("k1"))
    assert ledger.latest("credit", "data").key == "k1"  # type: ignore[union-attr]
    ledger.forget_outcome("credit", "data", "k1")
    ledger.forget_outcome("credit", "data", "never")
    assert ledger.latest("credit", "data").key == "k2"  # type: ignore[union-attr]
    assert ledger.latest("credit", "train") is None


def test_a_version_takes_a_signature_and_is_else_as_it_was(ledger: Ledger) -> None:
    before = add(ledger, "key")
    for signature in ("first", "second"):
        after = ledger.sign_version("credit", 1, signature, key="k", actor="ada", reason="checked")
        assert after == ledger.version("credit", 1) == dataclasses.replace(before, signature=signature)
    entry = ledger.audit("credit")[0]
    assert (entry.actor, entry.action, entry.subject, entry.reason) == ("ada", "version.signed", "credit/1", "checked")
    assert entry.facts == {"key": "k", "signature": hashlib.sha256(b"second").hexdigest()}
    with pytest.raises(StoreError, match="credit has no version 2; it has 1"):
        ledger.sign_version("credit", 2, "third", key="k", actor="ada", reason="checked")
    assert ledger.verify_audit() == ""


def test_versions_count_from_one_and_an_identity_is_added_once(ledger: Ledger) -> None:
    assert ledger.versions("credit") == ()
    assert [add(ledger, i).number for i in ("a", "b", "a", "c")] == [1, 2, 1, 3]
    assert add(ledger, "a", name="digits").number == 1
    assert [v.number for v in ledger.versions("credit")] == [1, 2, 3]
    assert ledger.version("credit", 2) == version("credit", 2)
    with pytest.raises(StoreError, match="credit has no version 9; it has 1, 2, 3"):
        ledger.version("credit", 9)
    with pytest.raises(StoreError, match="none has no version 1: it has none yet"):
        ledger.version("none", 1)


def test_a_failing_make_leaves_nothing(ledger: Ledger) -> None:
    def fail(number: int) -> ModelVersion:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        ledger.add_version("credit", "a", fail)
    with pytest.raises(ValueError, match="gave version 7"):
        ledger.add_version("credit", "a", lambda number: version("credit", 7))
    assert add(ledger, "a").number == 1
    assert len(ledger.audit()) == 1


def test_an_alias_moves_and_its_past_is_kept(ledger: Ledger) -> None:
    for identity in "ab":
        add(ledger, identity)
    ledger.set_alias("credit", "champion", 1, actor="ann", reason="first")
    between = ledger.audit()[0].at
    time.sleep(0.01)
    ledger.set_alias("credit", "champion", 2, actor="bob", reason="better")
    ledger.set_alias("credit", "champion", 2, actor="bob", reason="again")
    ledger.set_alias("credit", "challenger", 1, actor="bob", reason="try")
    ledger.set_alias("credit", "challenger", None, actor="bob", reason="done")
    assert ledger.aliases("credit") == {"champion": 2}
    assert ledger.alias_at("credit", "champion", between) == 1
    assert ledger.alias_at("credit", "champion", "2100-01-01") == 2
    assert ledger.alias_at("credit", "champion", "2000-01-01T12:00+02:00") is None
    with pytest.raises(UsageError, match="'last week' is no time"):
        ledger.alias_at("credit", "champion", "last week")
    with pytest.raises(StoreError, match="credit has no version 5; it has 1, 2"):
        ledger.set_alias("credit", "champion", 5, actor="bob", reason="?")
    moves = [(e.actor, e.reason, e.facts) for e in ledger.audit("credit") if e.subject == "credit@champion"]
    assert moves == [("bob", "better", {"from": 1, "to": 2}), ("ann", "first", {"from": None, "to": 1})]


def test_what_is_desired_is_the_last_word(ledger: Ledger) -> None:
    assert ledger.desired("credit") is None
    ledger.desire("credit", None, deployer="http", actor="ann", reason="nothing yet")
    serving = {"name": "credit", "routes": [{"version": 1, "weight": 100.0, "role": "stable", "bundle": "/b"}]}
    for _ in range(2):
        ledger.desire("credit", serving, deployer="http", actor="ann", reason="run")
    assert ledger.desired("credit") == ("http", serving)
    ledger.desire("credit", None, deployer="http", actor="ann", reason="stop")
    assert ledger.desired("credit") is None
    assert [e.action for e in ledger.audit("credit")] == ["endpoint.stopped", "endpoint.desired"]
    assert ledger.audit("credit")[1].facts["routes"] == [{"version": 1, "weight": 100.0, "role": "stable"}]


def test_verdicts_come_newest_first(ledger: Ledger) -> None:
    windows = [
        Window(endpoint="credit", version=1, start=f"{i}", end=f"{i}", rows=9, path=Path(f"/w/{i}")) for i in range(3)
    ]
    verdict = Verdict(monitor="drift", state="alarm", scores={"age": 0.4}, limits={"age": 0.1}, reasons=("age moved",))
    for window in windows:
        ledger.put_verdict("credit", window, verdict)
    assert ledger.verdicts("credit", limit=2) == ((windows[2], verdict), (windows[1], verdict))


def test_the_audit_log_tells_projects_apart(ledger: Ledger) -> None:
    for subject in ("credit", "credit/1", "credit@champion", "credits", "credit_2/1", "a_b", "axb/1"):
        ledger.append_audit(actor="ann", action="test", subject=subject, reason="", facts={})
    assert [e.subject for e in ledger.audit("credit")] == ["credit@champion", "credit/1", "credit"]
    assert [e.subject for e in ledger.audit("a_b")] == ["a_b"]
    assert len(ledger.audit(limit=2)) == 2
    assert ledger.verify_audit() == ""


ADD_MANY = """
import sys
from mlops_core.ledger import Ledger
sys.path.insert(0, sys.argv[3])
from test_ledger import add
ledger = Ledger(sys.argv[1])
print(*[add(ledger, f"{sys.argv[2]}-{i % 12}").number for i in range(15)])
"""


def test_processes_that_add_at_once_never_share_or_lose_a_number(ledger: Ledger, ledger_url: str) -> None:
    workers = [python(ADD_MANY, ledger_url, str(n), str(Path(__file__).parent)) for n in range(4)]
    numbers = []
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
        numbers += sorted(set(map(int, out.split())))
    assert sorted(numbers) == list(range(1, 49))
    assert len(ledger.versions("credit")) == 48
    assert len(ledger.audit(limit=1000)) == 48
    assert ledger.verify_audit() == ""


KILLED = """
import os, sys
from mlops_core.ledger import Ledger
sys.path.insert(0, sys.argv[2])
from test_ledger import add, version
ledger = Ledger(sys.argv[1])
add(ledger, "a")
def die(number):
    if sys.argv[3] == "in make":
        os.kill(os.getpid(), 9)
    return version("credit", number)
with ledger.audited() as (tx, say):
    tx.insert("mlops_aliases", name="credit", alias="champion", version=1, at="x", actor="x", reason="x")
    say(actor="x", action="x", subject="credit", reason="", facts={})
    if sys.argv[3] == "before commit":
        os.kill(os.getpid(), 9)
ledger.add_version("credit", "b", die)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    ("moment", "versions", "aliases"), [("before commit", 1, 0), ("in make", 1, 1), ("after", 2, 1)]
)
def test_a_kill_within_a_transaction_leaves_the_state_before_it(
    ledger: Ledger, ledger_url: str, moment: str, versions: int, aliases: int
) -> None:
    worker = python(KILLED, ledger_url, str(Path(__file__).parent), moment)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == -signal.SIGKILL, err
    assert len(ledger.versions("credit")) == versions
    assert len(ledger.aliases("credit")) == aliases
    assert len(ledger.audit()) == versions + aliases
    assert ledger.verify_audit() == ""
    assert add(ledger, "b").number == 2  # the same identity: no duplicate, no gap
    assert ledger.verify_audit() == ""


def test_one_ledger_may_be_used_by_many_threads(ledger: Ledger) -> None:
    def work(n: int) -> None:
        for i in range(10):
            add(ledger, f"{n}-{i}")
            ledger.versions("credit")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [v.number for v in ledger.versions("credit")] == list(range(1, 41))
    assert ledger.verify_audit() == ""


def test_a_forked_child_opens_the_ledger_anew(ledger: Ledger) -> None:
    add(ledger, "a")
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if add(ledger, "b").number == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert add(ledger, "c").number == 3


def test_the_lock_waits_tells_who_holds_it_and_gives_up(ledger: Ledger, ledger_url: str) -> None:
    told: list[str] = []
    with ledger.lock("credit"), Ledger(ledger_url) as other:
        with other.lock("digits"):
            pass
        lock = other.lock("credit", told.append, timeout=0.2)
        said = rf"credit is in use by process {os.getpid()} on .*; gave up after 0.2 s"
        with pytest.raises(StoreError, match=said), lock:
            raise AssertionError
        assert told
        assert f"process {os.getpid()} on " in told[0]
    with ledger.lock("credit", told.append, timeout=0):
        pass
    assert len(told) == 1


HOLD = """
import sys, time
from mlops_core.ledger import Ledger
with Ledger(sys.argv[1]).lock("credit"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_death_releases_the_lock(ledger: Ledger, ledger_url: str) -> None:
    holder = python(HOLD, ledger_url)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    waits: list[str] = []

    def kill(who: str) -> None:
        waits.append(who)
        holder.kill()

    with ledger.lock("credit", kill, timeout=30):
        assert f"process {holder.pid} " in waits[0]
    holder.communicate(timeout=30)


def test_a_newer_schema_is_refused_and_left_alone(ledger: Ledger, ledger_url: str) -> None:
    add(ledger, "a")
    with ledger.db.write() as tx:
        tx.write(
            "PRAGMA user_version = 99" if ledger_url.startswith("sqlite") else "UPDATE mlops_schema SET version = 99"
        )
    with pytest.raises(StoreError, match=rf"by a newer mlops_core \(schema 99, this one knows {VERSION}\); upgrade"):
        Ledger(ledger_url).runs("credit")


NAMES = st.sampled_from(["credit", "digits", "a/b", "100%_'x"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NAMES, st.integers(0, 4)),
        st.tuples(st.just("alias"), NAMES, st.one_of(st.none(), st.integers(1, 6))),
    ),
    max_size=25,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_order_of_changes_keeps_numbers_aliases_and_audit_true(
    ledger: Ledger, steps: list[tuple[str, str, Any]]
) -> None:
    salt = secrets.token_hex(8)  # the examples share a ledger
    numbers: dict[str, list[int]] = {}
    champions: dict[str, int | None] = {}
    before = len(ledger.audit(limit=10**6))
    changes = 0
    for what, base, value in steps:
        name = f"{base}{salt}"
        known = numbers.setdefault(name, [])
        if what == "add":
            number = add(ledger, str(value), name).number
            expected = known.index(value) + 1 if value in known else len(known) + 1
            assert number == expected
            if value not in known:
                known.append(value)
                changes += 1
        elif value is None or value <= len(known):
            changes += champions.get(name) != value
            ledger.set_alias(name, "champion", value, actor="ann", reason="test")
            champions[name] = value
        else:
            with pytest.raises(StoreError, match="has no version"):
                ledger.set_alias(name, "champion", value, actor="ann", reason="test")
    for name, known in numbers.items():
        assert [v.number for v in ledger.versions(name)] == list(range(1, len(known) + 1))
        assert ledger.aliases(name).get("champion") == champions.get(name)
    assert len(ledger.audit(limit=10**6)) - before == changes
    assert ledger.verify_audit() == ""


def test_nothing_is_made_by_reading(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path / 'state' / 'ledger.db'}") as ledger:
        reads: list[Callable[[], Any]] = [
            lambda: ledger.runs("credit"),
            lambda: ledger.versions("credit"),
            lambda: ledger.audit(),
        ]
        assert [read() for read in reads] == [(), (), ()]
        assert ledger.verify_audit() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_run_record_crosses_the_ledger_unchanged(ledger: Ledger) -> None:
    run = ledger.begin_run("credit", "manual", "/p")
    assert isinstance(run, Run)
    assert run.started.endswith("Z")
