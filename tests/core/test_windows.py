"""Windows of the prediction log: whole, typed, and readable while the log is written."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_core.bundle import open_bundle
from mlops_core.contracts import Serving
from mlops_core.errors import StoreError, UsageError
from mlops_core.features import to_columns
from mlops_core.serving import create_app
from mlops_core.windows import answered, collect, compact

Servings = Callable[..., Serving]
ROWS = [
    {"age": 30, "income": 1000.5, "home": "rent", "married": True, "since": "2020-01-01T12:00:00Z"},
    {"income": 2},
]
SCHEMA = {
    "age": pl.Int64,
    "income": pl.Float64,
    "home": pl.String,
    "married": pl.Boolean,
    "since": pl.Datetime("us"),
    "prediction": pl.String,
    "probability": pl.Array(pl.Float64, 2),
    "id": pl.String,
    "time": pl.Datetime("us"),
    "version": pl.Int64,
}


@pytest.fixture
def serving(tiny_serving: Servings) -> Serving:
    serving = tiny_serving({1: 100.0, 2: 0.0})
    routes = (serving.routes[0], dataclasses.replace(serving.routes[1], role="warm"))
    return dataclasses.replace(serving, routes=routes)


@pytest.fixture
def ask(serving: Serving) -> Iterator[Callable[..., Any]]:
    """`ask(id, rows, version)` answers and logs, as a request does."""
    app = create_app(serving)

    def call(id: str, rows: Any = ROWS, version: int = 1) -> Any:
        app._dispatch._answered(
            app._table, app._table.loaded[version], "plain", id, json.dumps({"rows": rows}).encode(), 0
        )
        app.flush()
        return next(serving.log.glob("*.jsonl"))

    yield call
    app.close()


def test_rows_come_typed_with_their_answers(ask: Callable[..., Any], serving: Serving, tmp_path: Path) -> None:
    ask("a")
    ask("b", ROWS[:1])
    window = collect(serving.log, tmp_path / "windows", endpoint="credit")
    assert window is not None and (window.endpoint, window.version, window.rows) == ("credit", 1, 3)
    assert window.path == tmp_path / "windows" / "credit-v1.parquet"
    frame = pl.read_parquet(window.path)
    assert dict(frame.schema) == SCHEMA
    assert frame["id"].to_list() == ["a-0", "a-1", "b-0"]
    assert frame.row(0)[:5] == (30, 1000.5, "rent", True, datetime.datetime(2020, 1, 1, 12))
    assert frame.row(1)[:5] == (None, 2.0, None, None, None)
    start, end = (datetime.datetime.fromisoformat(t) for t in (window.start, window.end))
    assert start <= end and abs(end.timestamp() - time.time()) < 60


def test_logged_rows_give_the_same_answers_again(ask: Callable[..., Any], serving: Serving, tmp_path: Path) -> None:
    """No skew: what is read back from the log is what the model saw."""
    ask("a")
    bundle = open_bundle(serving.routes[0].bundle)
    window = collect(serving.log, tmp_path / "w.parquet", endpoint="credit")
    assert window is not None and window.path == tmp_path / "w.parquet"
    frame = pl.read_parquet(window.path)
    answer = bundle.predict(to_columns(frame, bundle.signature.inputs))
    again = answered(frame.select(c.name for c in bundle.signature.inputs), answer, bundle.signature.classes)
    assert again.equals(frame.select(again.columns)) and dict(again.schema).items() <= SCHEMA.items()


def test_one_version_the_last_by_default(ask: Callable[..., Any], serving: Serving, tmp_path: Path) -> None:
    ask("a", version=1)
    ask("b", version=2)
    ask("c", ROWS[:1], version=1)
    windows = {v: collect(serving.log, tmp_path, endpoint="credit", version=v) for v in (None, 1, 2, 3)}
    assert {v: (w.version, w.rows) if w else None for v, w in windows.items()} == {
        None: (1, 3),
        1: (1, 3),
        2: (2, 2),
        3: None,
    }


def test_since_cuts(ask: Callable[..., Any], serving: Serving, tmp_path: Path) -> None:
    ask("a")
    time.sleep(0.01)
    cut = datetime.datetime.now(datetime.UTC)
    ask("b")
    for since in (cut.isoformat(), cut.replace(tzinfo=None).isoformat(), cut.isoformat().replace("+00:00", "Z")):
        window = collect(serving.log, tmp_path, endpoint="credit", since=since)
        assert window is not None and window.rows == 2
    later = (cut + datetime.timedelta(days=1)).isoformat()
    assert collect(serving.log, tmp_path, endpoint="credit", since=later) is None
    with pytest.raises(UsageError, match="since 'soon' is no time; expected ISO 8601, as 2026-01-31T12:00:00Z"):
        collect(serving.log, tmp_path, endpoint="credit", since="soon")


def test_nothing_logged_is_no_window(serving: Serving, tmp_path: Path) -> None:
    assert collect(tmp_path / "never", tmp_path, endpoint="credit") is None
    assert collect(tmp_path / "never", tmp_path, endpoint="credit", version=1) is None


def test_a_torn_last_line_waits_and_a_bad_line_is_told(
    ask: Callable[..., Any], serving: Serving, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segment = ask("a")
    whole = segment.read_bytes()
    segment.write_bytes(b'{"id": "x"}\nnonsense\n' + whole + whole[: len(whole) // 2])
    window = collect(serving.log, tmp_path, endpoint="credit")
    assert window is not None and window.rows == 2
    assert f"{segment}:1: no logged prediction; passed over" in caplog.text and f"{segment}:2: " in caplog.text


def test_reading_while_writing_never_sees_half_a_request(serving: Serving, tmp_path: Path) -> None:
    app, over = create_app(serving), threading.Event()

    def write() -> int:
        count = 0
        while not over.is_set():
            app._dispatch._answered(
                app._table, app._table.first, "plain", f"r{count}", b'{"rows": [{"income": 1}, {"income": 2}]}', 0
            )
            app.flush()
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        sizes: list[int] = []
        end = time.monotonic() + 60
        while (len(sizes) < 10 or sizes[-1] == sizes[0]) and time.monotonic() < end:
            window = collect(serving.log, tmp_path, endpoint="credit")
            sizes.append(window.rows if window else 0)
        over.set()
        count = writing.result()
    assert sizes == sorted(sizes) and all(s % 2 == 0 for s in sizes) and sizes[-1] > 0
    window = collect(serving.log, tmp_path, endpoint="credit")
    assert window is not None and window.rows == 2 * count
    app.close()


def test_segments_of_past_hours_become_parquet_once(ask: Callable[..., Any], serving: Serving, tmp_path: Path) -> None:
    ask("a", version=1)
    segment = ask("b", version=2)
    before = pl.read_parquet(_collected(serving, tmp_path, 2))
    hour = segment.name.split("-")[0]
    began = datetime.datetime.strptime(hour, "%Y%m%dT%H").replace(tzinfo=datetime.UTC).timestamp()
    assert compact(serving.log, now=began + 3600) == 0
    kept = segment.read_bytes()
    assert compact(serving.log, now=began + 3600 + 601) == 1
    assert sorted(p.suffix for p in serving.log.glob("[!.]*")) == [".json", ".json", ".parquet", ".parquet"]
    assert pl.read_parquet(_collected(serving, tmp_path, 2)).equals(before)
    assert collect(serving.log, tmp_path, endpoint="credit") is not None
    segment.write_bytes(kept)  # killed between writing the Parquet and removing the segment
    assert pl.read_parquet(_collected(serving, tmp_path, 2)).equals(before)


def test_a_lost_signature_is_named(ask: Callable[..., Any], serving: Serving, tmp_path: Path) -> None:
    ask("a")
    (serving.log / "signature-1.json").unlink()
    with pytest.raises(StoreError, match=r"signature-1\.json says what the logged rows of version 1 are"):
        collect(serving.log, tmp_path, endpoint="credit")


def test_features_named_as_our_columns_keep_their_names(
    ask: Callable[..., Any], serving: Serving, tmp_path: Path
) -> None:
    segment = ask("a")
    for path in (segment, serving.log / "signature-1.json"):
        path.write_text(path.read_text().replace('"age"', '"id"').replace('"home"', '"version"'))
    frame = pl.read_parquet(_collected(serving, tmp_path, 1))
    assert frame["id"].to_list() == [30, None] and frame["version"].to_list() == ["rent", None]
    assert frame["id_"].to_list() == ["a-0", "a-1"] and frame["version_"].to_list() == [1, 1]


def test_many_rows_in_batches(ask: Callable[..., Any], serving: Serving, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("mlops_core.windows.BATCH", 100)
    for i in range(5):
        ask(str(i), [{"income": float(i)}] * 60)
    frame = pl.read_parquet(_collected(serving, tmp_path, 1))
    assert frame["income"].to_list() == np.repeat(np.arange(5.0), 60).tolist()
    shutil.rmtree(serving.log)


def _collected(serving: Serving, out: Path, version: int) -> Path:
    window = collect(serving.log, out, endpoint="credit", version=version)
    assert window is not None
    return window.path
