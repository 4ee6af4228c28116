"""Labels: checked, kept before they are acknowledged, late, in bulk, corrected, joined."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import log_kit as kit
import polars as pl
import pytest

from mlops_core import feedback, segments
from mlops_core.access import issue, write_keys
from mlops_core.contracts import Serving, Signature
from mlops_core.feedback import LabelLog, checked, read_labels
from mlops_core.serving import create_app
from mlops_core.windows import collect, compact

NOW = kit.HOUR + 100.0


def labels(*rows: Any, signature: Signature = kit.BINARY, now: float = NOW) -> list[feedback.Label]:
    good, faults = checked(rows, signature, now=now)
    assert not faults
    return good


def keep(log: Path, *rows: Any, now: float = NOW, signature: Signature = kit.BINARY) -> None:
    kept = LabelLog(log)
    kept.add(labels(*rows, now=now, signature=signature))
    kept.close()


def aged(log: Path, hours: int = 3) -> None:
    """As if the labels had been written some hours ago."""
    for path in (log / "labels").glob("*.jsonl"):
        stamp = time.strftime("%Y%m%dT%H", time.gmtime(time.time() - hours * 3600))
        path.rename(path.with_name(stamp + path.name[11:]))


@pytest.mark.parametrize(
    ("row", "key", "words"),
    [
        ("r1", "", 'expected an object with "id" and "label"'),
        ({"label": "good"}, "id", "expected the prediction's id: letters, digits or any of . _ : -"),
        ({"id": "a b", "label": "good"}, "id", "expected the prediction's id: letters, digits or any of . _ : -"),
        ({"id": 7, "label": "good"}, "id", "expected the prediction's id: letters, digits or any of . _ : -"),
        ({"id": "a"}, "label", "is missing"),
        ({"id": "a", "label": "godo"}, "label", "is no class of 'status'; did you mean 'good'?"),
        ({"id": "a", "label": ["good"]}, "label", "expected a class of 'status' as text, a number or a boolean"),
        ({"id": "a", "label": "good", "tim": 1}, "tim", "is not expected; did you mean 'time'?"),
        ({"id": "a", "label": "good", "time": "noon"}, "time", "expected a time in ISO 8601, as 2026-01-31T12:00:00Z"),
        ({"id": "a", "label": "good", "time": "2126-01-31T12:00:00Z"}, "time", "lies in the future"),
    ],
)
def test_a_wrong_label_is_told_by_row_and_key(row: Any, key: str, words: str) -> None:
    good, faults = checked([{"id": "fine", "label": "good"}, row], kit.BINARY, first=10, now=NOW)
    assert [v.id for v in good] == ["fine"] and faults == [(11, key, words)]


@pytest.mark.parametrize("label", ["x", True, None, float("inf"), float("nan"), "1e999", 10**400, [1]])
def test_a_number_is_expected_where_the_target_is_one(label: Any) -> None:
    (fault,) = checked([{"id": "a", "label": label}], kit.PRICE)[1]
    assert fault[2] in ("is missing", "expected a finite number, as 'price' is")


def test_labels_are_the_targets_own_values() -> None:
    assert [v.label for v in labels({"id": "a", "label": 3}, {"id": "b", "label": "2.5"}, signature=kit.PRICE)] == [
        3,
        2.5,
    ]
    whole = Signature(inputs=(), task="multiclass", target="digit", classes=("0", "1", "2"))
    assert [v.label for v in labels(*({"id": "a", "label": v} for v in (1, "1", 1.0)), signature=whole)] == ["1"] * 3
    truth = Signature(inputs=(), task="binary", target="paid", classes=("false", "true"))
    assert [v.label for v in labels({"id": "a", "label": True}, {"id": "b", "label": "false"}, signature=truth)] == [
        "true",
        "false",
    ]


def test_the_latest_time_wins_however_it_comes(tmp_path: Path) -> None:
    keep(tmp_path, {"id": "a-0", "label": "bad", "time": "2026-01-31T12:00:30Z"}, {"id": "b-0", "label": "good"})
    keep(tmp_path, {"id": "a-0", "label": "good", "time": "2026-01-31T12:00:10Z"})  # told later, known earlier
    keep(tmp_path, {"id": "b-0", "label": "bad"}, {"id": "b-0", "label": "good"})  # at the same time: the last said
    wanted = {"a-0": ("bad", kit.HOUR + 30.0), "b-0": ("good", NOW)}
    assert read_labels(tmp_path) == wanted
    keep(tmp_path, {"id": "b-0", "label": "good"})  # told again: nothing changes
    assert read_labels(tmp_path) == wanted
    assert read_labels(tmp_path, since=NOW) == {"b-0": ("good", NOW)}
    assert read_labels(tmp_path / "never") == {}


def test_settled_labels_become_one_file_a_day(tmp_path: Path) -> None:
    for i in range(3):
        keep(tmp_path, {"id": f"r{i}", "label": "bad"}, {"id": "same", "label": ("bad", "good")[i % 2]}, now=NOW + i)
    before, segment = read_labels(tmp_path), next((tmp_path / "labels").glob("*.jsonl"))
    assert feedback.compact(tmp_path) == 0
    aged(tmp_path)
    again = segment.with_name(next((tmp_path / "labels").glob("*.jsonl")).name)
    lines = again.read_bytes()
    assert feedback.compact(tmp_path) == 3
    assert [p.suffix for p in (tmp_path / "labels").iterdir()] == [".parquet"]
    assert read_labels(tmp_path) == before
    again.write_bytes(lines)  # killed between the Parquet and the removal
    assert read_labels(tmp_path) == before and feedback.compact(tmp_path) == 1 and read_labels(tmp_path) == before
    keep(tmp_path, {"id": "r0", "label": "good"}, now=NOW + 60)  # corrected after it had settled
    aged(tmp_path)
    feedback.compact(tmp_path)
    assert read_labels(tmp_path)["r0"] == ("good", NOW + 60)
    assert oct(next((tmp_path / "labels").glob("*")).stat().st_mode)[-3:] == "600"


def test_a_torn_line_is_no_label_and_a_bad_one_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(tmp_path, {"id": "a", "label": "good"})
    path = next((tmp_path / "labels").glob("*.jsonl"))
    path.write_bytes(b'{"id": 1}\n' + path.read_bytes() + b'{"id": "torn", "label": "go')
    assert list(read_labels(tmp_path)) == ["a"] and f"{path}:1: no label; passed over" in caplog.text


def test_kill_9_loses_no_acknowledged_label(tmp_path: Path) -> None:
    """Every id was printed after `add` had returned; the process is killed in the middle of its work."""
    code = f"""
        import itertools, sys
        from mlops_core.feedback import Label, LabelLog
        kept = LabelLog({str(tmp_path)!r})
        for i in itertools.count():
            kept.add([Label(id=f"r{{i}}-{{j}}", label="good", time=float(i)) for j in range(5)])
            print(i, flush=True)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    with child.stdout:
        for _ in range(50):
            last = child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        last = (child.stdout.read().split() or [last])[-1]
    child.wait()
    kept = read_labels(tmp_path)
    acknowledged = {f"r{i}-{j}" for i in range(int(last) + 1) for j in range(5)}
    assert acknowledged <= set(kept)
    print(f"killed after {len(acknowledged)} acknowledged labels: {len(acknowledged - set(kept))} lost")


def test_a_full_disk_refuses_and_what_comes_next_is_kept(tmp_path: Path) -> None:
    code = f"""
        import resource, signal
        from mlops_core.feedback import Label, LabelLog
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        kept = LabelLog({str(tmp_path)!r})
        label = lambda id: Label(id=id, label="good", time=1.0)
        kept.add([label("before")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
        try:
            kept.add([label(f"lost{{i}}") for i in range(100)])
        except OSError as error:
            print(error.errno)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        kept.add([label("after")])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["27"]  # EFBIG
    assert {"before", "after"} <= set(read_labels(tmp_path))


def test_replicas_and_threads_keep_every_label(tmp_path: Path) -> None:
    kept = [LabelLog(tmp_path) for _ in range(3)]

    def tell(i: int) -> None:
        kept[i % 3].add(labels({"id": f"r{i}", "label": "good"}))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(tell, range(120)))
    for one in kept:
        one.close()
    assert len(list((tmp_path / "labels").glob("*.jsonl"))) == 3
    assert set(read_labels(tmp_path)) == {f"r{i}" for i in range(120)}


@pytest.fixture
def client(tiny_serving: Callable[..., Serving], http: Callable[[Any], httpx.Client]) -> Iterator[httpx.Client]:
    app = create_app(tiny_serving(max_rows=100, max_bytes=10_000))
    yield http(app)
    app.close()


FEEDBACK = "/v2/models/credit/feedback"


def test_labels_come_over_http_in_bulk_and_again(client: httpx.Client, tmp_path: Path) -> None:
    log = tmp_path / "serve" / "log"
    asked = client.post("/predict", json={"rows": [{"income": 1}, {"income": 2}]}).json()["id"]
    told = {"labels": [{"id": f"{asked}-0", "label": "bad"}, {"id": f"{asked}-1", "label": "good"}]}
    for _ in range(2):
        answer = client.post(FEEDBACK, json=told)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 2})
        assert set(read_labels(log)) == {f"{asked}-0", f"{asked}-1"}  # on the disk before the answer
    one = {"id": f"{asked}-0", "label": "good"}
    assert client.post(FEEDBACK, json=one).json() == {"accepted": 1}
    assert client.post(FEEDBACK, json={**one, "label": "bad", "time": "2020-01-01T00:00:00Z"}).status_code == 200
    assert client.post(FEEDBACK, json={"id": "never-asked", "label": "good"}).status_code == 200
    assert {id: label for id, (label, _) in read_labels(log).items()} == {
        f"{asked}-0": "good", f"{asked}-1": "good", "never-asked": "good",
    }  # fmt: skip
    assert client.get("/status").json()["log"]["labels"] == 7
    assert "mlops_labels_kept_total 7" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, 'the body is an object; send {"labels"'),
        ([], 422, 'the body is a list; send {"labels"'),
        ({"labels": []}, 422, "there are no labels; send at least one"),
        ({"labels": {}}, 422, "'labels' is an object, expected a list"),
        ({"labels": [], "label": 1}, 422, "column 'label': does not belong beside 'labels'"),
        ({"labels": [{"id": "a", "label": "good"}] * 101}, 413, "101 labels are more than the 100"),
        ({"labels": [{"id": "a", "label": "good"}, {"id": "b", "label": "godo"}]}, 422, "row 1, column 'label'"),
        ({"labels": [7]}, 422, "row 0: expected an object"),
        ({"labels": ["x" * 20_000]}, 413, "the body is larger than the 10000 bytes"),
    ],
)
def test_a_wrong_request_keeps_nothing(
    client: httpx.Client, tmp_path: Path, body: Any, status: int, words: str
) -> None:
    answer = client.post(FEEDBACK, json=body)
    assert answer.status_code == status and words in answer.json()["detail"], answer.text
    assert read_labels(tmp_path / "serve" / "log") == {}


def test_feedback_is_of_the_model_and_by_post(client: httpx.Client) -> None:
    assert client.get(FEEDBACK).status_code == 405
    assert client.post("/v2/models/other/feedback", json={}).status_code == 404
    assert client.post("/v2/models/credit/versions/1/feedback", json={}).status_code in (404, 405)
    assert client.get("/v2/models/credit/versions/1/feedback").status_code == 404


def test_a_label_is_signed_with_the_key_that_sent_it(
    tiny_serving: Callable[..., Serving], http: Callable[[Any], httpx.Client]
) -> None:
    serving = tiny_serving(auth="keys")
    made = [issue(scope, who=scope) for scope in ("feedback", "predict")]
    serving.state.mkdir(parents=True)
    write_keys(serving.state, lambda: tuple(key for key, _ in made))
    app = create_app(serving)
    client, label = http(app), {"id": "a", "label": "good"}
    told = [client.post(FEEDBACK, json=label, headers={"x-api-key": text}).status_code for _, text in made]
    assert [*told, client.post(FEEDBACK, json=label).status_code] == [200, 403, 401]
    app.close()
    (path,) = (serving.log / "labels").glob("*.jsonl")
    assert json.loads(path.read_text())["by"] == made[0][0].id


def window(log: Path, out: Path) -> pl.DataFrame:
    found = collect(log, out, endpoint="credit")
    assert found is not None
    return pl.read_parquet(found.path)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_window_has_the_labels_that_came(tmp_path: Path, compacted: bool) -> None:
    log = kit.sign(tmp_path / "log")
    kit.segment(log, kit.line("a", rows=({}, {"age": 31})), kit.line("b", at=NOW), kit.line("x", error="died"))
    if compacted:
        compact(log)
    assert "label" not in window(log, tmp_path).columns
    keep(log, {"id": "a-1", "label": "bad"}, {"id": "b", "label": "good"}, {"id": "later", "label": "good"})
    keep(log, {"id": "a", "label": "bad"})  # the request had two rows: this names none of them
    found = window(log, tmp_path)
    assert dict(zip(found["id"], found["label"], strict=True)) == {"a-0": None, "a-1": "bad", "b-0": "good"}
    assert found.schema["label"] == pl.String


def test_labels_have_the_dtype_of_predictions(tmp_path: Path) -> None:
    price = kit.sign(tmp_path / "price", kit.PRICE)
    kit.segment(price, kit.line("a", answer={"prediction": [1.5]}))
    keep(price, {"id": "a", "label": 2}, signature=kit.PRICE)
    assert window(price, tmp_path)["label"].to_list() == [2.0]
    digit = Signature(inputs=kit.INPUTS, task="binary", target="digit", classes=("0", "1"))
    whole = kit.sign(tmp_path / "digit", digit, dtype="int64")
    kit.segment(whole, kit.line("a", answer={"prediction": [1], "probability": [[0.1, 0.9]]}))
    keep(whole, {"id": "a-0", "label": 1}, signature=digit)
    found = window(whole, tmp_path)
    assert found["label"].to_list() == [1] and found.schema["label"] == found.schema["prediction"] == pl.Int64


def test_a_version_without_rows_has_no_window(tmp_path: Path) -> None:
    log = kit.sign(tmp_path / "log")
    kit.segment(log, kit.line("a"), kit.line("b", version=2, error="died"))
    assert [collect(log, tmp_path, endpoint="c", version=v) is None for v in (1, 2, 3)] == [False, True, True]


def test_rows_of_many_hours_and_replicas_come_in_order(tmp_path: Path) -> None:
    log = kit.sign(tmp_path / "log")
    for replica in range(3):
        for hour in range(5):
            at = kit.HOUR + hour * 3600
            found = [kit.line(f"{replica}-{hour}-{i}", at + i * 60 + replica) for i in range(0, 60, 7)]
            kit.segment(log, *found, at=at, replica=f"{replica}-aa-0")
        # written just after the hour had turned
        kit.segment(log, kit.line(f"late-{replica}", kit.HOUR + 3599.9), at=kit.HOUR + 3600, replica=f"{replica}-aa-0")
    for _ in range(2):
        found = window(log, tmp_path)
        assert found["time"].is_sorted() and found.height == found["id"].n_unique() == 3 * (5 * 9 + 1)
        assert compact(log) in (0, 15)
    since = collect(log, tmp_path, endpoint="c", since="2026-01-31T13:59:00Z")
    assert since is not None and since.rows == 3 * 3 * 9


def test_a_writer_goes_on_where_its_file_is_rewritten(tmp_path: Path) -> None:
    """Lines are rewritten while a writer appends as fast as it can: none is lost, none comes twice."""
    appender, count = segments.Appender(tmp_path), 300

    def write() -> None:
        for i in range(count):
            appender.append(b'{"n": %d}\n' % i)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            for path in list(tmp_path.glob("*.jsonl")):
                segments.rewrite(path, lambda text: text if json.loads(text)["n"] % 2 else b"")
        writing.result()
    appender.close()
    found = sorted(json.loads(text)["n"] for path in tmp_path.glob("*.jsonl") for text in segments.lines(path))
    odd = [n for n in found if n % 2]
    assert odd == list(range(1, count, 2))
    assert not [p for p in os.listdir(tmp_path) if p.startswith(".")]
