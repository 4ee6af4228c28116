"""A subject is erased from everything that was kept of it, while the endpoint answers, whole file by whole file."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import log_kit as kit
import polars as pl
import pytest

from mlops_core import feedback, forgetting, segments
from mlops_core.errors import UsageError
from mlops_core.feedback import Label, LabelLog, read_labels
from mlops_core.forgetting import Places, erase, look
from mlops_core.privacy import Pseudonyms
from mlops_core.serving.access_log import AccessLog
from mlops_core.windows import collect, compact

EMAIL = "canary@example.org"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "WAIT", 0.0)


@pytest.fixture
def names(tmp_path: Path) -> Pseudonyms:
    return Pseudonyms(tmp_path / "serve" / "privacy.key")


@pytest.fixture
def places(tmp_path: Path, names: Pseudonyms) -> Places:
    """A subject in every place: a batch with others, a request of its own, a failed one, labels, quarantine, data."""
    log = kit.sign(tmp_path / "log", pii="hash")
    both = [names.of("email", "other@example.org"), names.of("email", EMAIL)]
    kit.segment(
        log,
        kit.line("own", role="candidate", error="timeout"),
        kit.line("batch", rows=({"age": 31}, {"age": 77}), hashed={"email": both}),
        kit.line("own", rows=({"age": 78},), hashed={"email": both[1:]}),
        kit.line("other", hashed={"email": both[:1]}),
        at=time.time(),
    )
    labels = LabelLog(log)
    labels.add([Label(id=i, label="bad", time=float(kit.HOUR)) for i in ("own", "batch-0", "batch-1", "other", "late")])
    labels.close()
    (tmp_path / "quarantine").mkdir()
    refused = pl.DataFrame({"email": both, "age": [31, 77], "row": [4, 9], "reasons": [["age: too old"]] * 2})
    refused.write_parquet(tmp_path / "quarantine" / "abc.parquet")
    (tmp_path / "data" / "abc").mkdir(parents=True)
    frozen = pl.DataFrame({"email": ["other@example.org", EMAIL], "age": [31, 77]})
    frozen.write_parquet(tmp_path / "data" / "abc" / "train.parquet")
    return Places(log=log, loose=(tmp_path / "quarantine", tmp_path / "windows"), sealed=(tmp_path / "data",))


def ids(log: Path, out: Path) -> dict[str, int]:
    found = collect(log, out / "w.parquet", endpoint="credit")
    return dict(pl.read_parquet(found.path).select("id", "age").iter_rows()) if found else {}


@pytest.mark.parametrize("settled", [False, True], ids=["segments", "parts"])
def test_every_row_of_a_subject_goes_and_no_other(
    places: Places, names: Pseudonyms, tmp_path: Path, settled: bool
) -> None:
    if settled:
        compact(places.log, now=time.time() + 7200)
        assert not list(places.log.glob("*.jsonl"))
    collect(places.log, tmp_path / "windows", endpoint="credit")
    where = {"email": EMAIL}
    before = look(places, where, names)
    gone = erase(places, where, names)
    assert gone.held == before.held == {"data/abc/train.parquet": 1}
    logged = sum(n for file, n in gone.files.items() if file.startswith("20"))
    assert logged == (2 if settled else 3)
    assert gone.files["windows/credit-v1.parquet"] == 2 and gone.files["quarantine/abc.parquet"] == 1
    assert sum(n for file, n in gone.files.items() if file.startswith("labels/")) == 2
    assert look(places, where, names).files == {}
    assert ids(places.log, tmp_path) == {"batch-0": 31, "other-0": 30}
    assert set(read_labels(places.log)) == {"batch-0", "other", "late"}
    assert pl.read_parquet(tmp_path / "quarantine" / "abc.parquet")["age"].to_list() == [31]
    assert erase(places, where, names).files == {}
    hashed = names.of("email", EMAIL)
    assert hashed and not [p for p in places.log.rglob("*") if p.is_file() and hashed.encode() in p.read_bytes()]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ({"id": "own"}, {"batch-0", "batch-1", "other-0"}),
        ({"id": "own-0"}, {"batch-0", "batch-1", "other-0"}),
        ({"id": "batch-1"}, {"batch-0", "own-0", "other-0"}),
        ({"id": "batch"}, {"own-0", "other-0"}),
        ({"age": "77"}, {"batch-0", "own-0", "other-0"}),
        ({"age": "77.0", "home": "rent"}, {"batch-0", "own-0", "other-0"}),
        ({"age": "77", "home": "own"}, {"batch-0", "batch-1", "own-0", "other-0"}),
        ({"age": "79"}, {"batch-0", "batch-1", "own-0", "other-0"}),
    ],
)
@pytest.mark.parametrize("settled", [False, True], ids=["segments", "parts"])
def test_a_subject_is_what_holds_for_all_its_columns(
    places: Places, names: Pseudonyms, tmp_path: Path, where: dict[str, str], left: set[str], settled: bool
) -> None:
    if settled:
        compact(places.log, now=time.time() + 7200)
    erase(places, where, names)
    assert set(ids(places.log, tmp_path)) == left
    assert look(places, where, names).files == {}


def test_a_column_that_is_nowhere_is_refused_and_one_that_is_dropped_is_told(places: Places, names: Pseudonyms) -> None:
    with pytest.raises(UsageError, match="nothing that is kept has a column 'emial'; did you mean 'email'"):
        erase(places, {"emial": EMAIL}, names)
    assert look(places, {"email": EMAIL}, names).blind == ()
    kit.sign(places.log, version=2, pii="drop")
    assert look(places, {"email": EMAIL}, names).blind == ("email",)


def test_settled_labels_are_erased_with_their_predictions(places: Places, names: Pseudonyms) -> None:
    (path,) = (places.log / "labels").glob("*.jsonl")
    path.rename(path.with_name("20260131T12-1-aa-0.jsonl"))
    feedback.compact(places.log)
    gone = erase(places, {"email": EMAIL}, names)
    assert gone.files["labels/20260131.parquet"] == 2
    assert set(read_labels(places.log)) == {"batch-0", "other", "late"}
    assert erase(places, {"id": "late"}, names).files == {"labels/20260131.parquet": 1}  # named by the label alone


def asked_of(access: Path) -> list[str]:
    return [json.loads(t)["id"] for p in access.parent.glob("access.log*") for t in p.read_text().splitlines()]


@pytest.fixture
def access(places: Places) -> Path:
    """What the endpoint noted of its requests, in a file that was turned and in the one it writes."""
    path = places.log.parent / "access.log"
    path.with_name("access.log.1").write_text("".join(f'{{"time": 1.0, "id": "{i}"}}\n' for i in ("own", "other", "")))
    path.write_text("".join(f'{{"time": 2.0, "id": "{i}"}}\n' for i in ("batch", "own", "late", "ow")))
    return path


@pytest.mark.parametrize("settled", [False, True], ids=["segments", "parts"])
@pytest.mark.parametrize(
    ("where", "left"),
    [
        ({"email": EMAIL}, ["", "late", "other", "ow"]),
        ({"age": "78"}, ["", "batch", "late", "other", "ow"]),
        ({"id": "batch-1"}, ["", "late", "other", "ow", "own", "own"]),
        ({"id": "late"}, ["", "batch", "other", "ow", "own", "own"]),
    ],
)
def test_the_requests_of_a_subject_leave_the_access_log(
    places: Places, names: Pseudonyms, access: Path, where: dict[str, str], left: list[str], settled: bool
) -> None:
    if settled:
        compact(places.log, now=time.time() + 7200)
    places = dataclasses.replace(places, accesses=access)
    (access.parent / ".access.log.1.99").write_text("what a killed erasure left")
    before = look(places, where, names)
    gone = erase(places, where, names)
    assert sorted(asked_of(access)) == left
    counts = {file: n for file, n in gone.files.items() if file.startswith("access")}
    assert counts == {file: n for file, n in before.files.items() if file.startswith("access")}
    assert sum(counts.values()) == 7 - len(left) and look(places, where, names).files == {}
    assert sorted(p.name for p in access.parent.glob(".access*")) == [".access.lock"]


def test_an_access_log_that_is_being_written_and_turned_loses_no_other_line(
    places: Places, names: Pseudonyms, tmp_path: Path
) -> None:
    path, count = tmp_path / "serve" / "access.log", 3000
    names.of("email", EMAIL)  # makes the folder
    logs = [AccessLog(path, bytes=40_000) for _ in range(2)]

    def write(log: AccessLog, first: int) -> None:
        for i in range(first, count, 2):
            log.add({"time": time.time(), "id": "own" if i % 10 == 0 else f"r{i}"})
            if i % 7 == 0:
                log.flush()
        log.close()

    places = dataclasses.replace(places, accesses=path)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write, log, first) for first, log in enumerate(logs)]
        while not all(w.done() for w in writing):
            erase(places, {"id": "own"}, names)
        assert [w.result() for w in writing] == [None, None]
    erase(places, {"id": "own"}, names)
    assert [log.dropped for log in logs] == [0, 0]
    assert sorted(asked_of(path)) == sorted(f"r{i}" for i in range(count) if i % 10)


def test_erasing_while_a_replica_writes_loses_nothing_else(places: Places, names: Pseudonyms, tmp_path: Path) -> None:
    appender, count = segments.Appender(places.log), 400

    def write() -> None:
        for i in range(count):
            line = kit.line(f"r{i}", time.time(), rows=({"age": 78 if i % 4 == 0 else 30},))
            appender.append(json.dumps(line).encode() + b"\n")

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            erase(places, {"age": "78"}, names)
        writing.result()
    appender.close()
    erase(places, {"age": "78"}, names)
    wanted = {f"r{i}-0" for i in range(count) if i % 4}
    assert set(ids(places.log, tmp_path)) == wanted | {"batch-0", "batch-1", "other-0"}


def test_a_killed_erasure_leaves_whole_files_and_is_finished_by_the_next(
    places: Places, names: Pseudonyms, tmp_path: Path
) -> None:
    access = places.log.parent / "access.log"
    access.write_text("".join(f'{{"time": 1.0, "id": "h{hour}-{i}"}}\n' for hour in range(40) for i in range(300)))
    for hour in range(40):
        lines = [kit.line(f"h{hour}-{i}", rows=({"age": 78 if i % 50 == 0 else 30},)) for i in range(300)]
        kit.segment(places.log, *lines, replica=f"{hour}-aa-0")
    everything = ids_now(places.log)
    code = f"""
        from pathlib import Path
        from mlops_core import forgetting
        from mlops_core.privacy import Pseudonyms
        print("begun", flush=True)
        forgetting.WAIT = 0
        places = forgetting.Places(log=Path({str(places.log)!r}), accesses=Path({str(access)!r}))
        forgetting.erase(places, {{"age": "78"}}, Pseudonyms(Path({str(names.file)!r})))
    """
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
        assert child.stdout
        with child.stdout:
            child.stdout.readline()
            time.sleep(0.05)
            child.send_signal(signal.SIGKILL)
        child.wait()
        left = ids_now(places.log)
        assert left.items() <= everything.items()
        assert {age for id, age in everything.items() if id not in left} <= {78}
    erase(dataclasses.replace(places, accesses=access), {"age": "78"}, names)
    assert sorted(asked_of(access)) == sorted(f"h{hour}-{i}" for hour in range(40) for i in range(300) if i % 50)
    left = ids_now(places.log)
    assert 78 not in left.values() and len(left) == len(everything) - 40 * 6 - 1
    assert not [p for p in os.listdir(places.log) if p.startswith(".20")]


def ids_now(log: Path) -> dict[str, Any]:
    found = {}
    for path in log.glob("*.jsonl"):
        for text in segments.lines(path):
            line = json.loads(text)
            if "features" in line:
                found |= dict(zip((f"{line['id']}-{i}" for i in range(9)), line["features"]["age"], strict=False))
    return found
