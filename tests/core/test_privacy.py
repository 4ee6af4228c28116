"""What must not be told is hashed by a key, dropped, or left out of words; what is old goes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import log_kit as kit
import numpy as np
import polars as pl
import pytest

from mlops_core import segments
from mlops_core.bundle import open_bundle, seal
from mlops_core.contracts import Choice, Declaration, Route, Serving, Split
from mlops_core.errors import DataError, StoreError
from mlops_core.features import load_onnx
from mlops_core.feedback import Label, LabelLog
from mlops_core.privacy import KEY, Pseudonyms, personal, seconds, trace
from mlops_core.segments import expire
from mlops_core.serving import create_app
from mlops_core.validation import freeze, infer_contract
from mlops_core.windows import collect, compact

CANARY = "canary@example.org"
SAMPLES: dict[str, Any] = {
    "age": np.array([30.0]),
    "income": np.array([1000.0]),
    "home": np.array(["rent"], object),
    "married": np.array([1.0]),
    "since": np.array(["2020-01-01"], "datetime64[us]"),
}
Servings = Callable[..., Serving]


def test_names_are_stable_keyed_and_per_column(tmp_path: Path) -> None:
    names, again = Pseudonyms(tmp_path / "serve" / KEY), Pseudonyms(tmp_path / "serve" / KEY)
    name = names.of("email", CANARY)
    assert name and len(name) == 32 and name == again.of("email", CANARY)
    assert (
        len({name, names.of("mail", CANARY), names.of("email", "b"), Pseudonyms(tmp_path / "x").of("email", CANARY)})
        == 4
    )
    assert names.all("age", [1.0, None, 1.0]) == [names.of("age", 1.0), None, names.of("age", 1.0)]
    assert names.file.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in names.file.parent.iterdir()] == [KEY]


def test_a_damaged_key_is_told_and_never_made_anew(tmp_path: Path) -> None:
    (tmp_path / KEY).write_text("ab")
    with pytest.raises(StoreError, match="the key of pseudonyms, is damaged: expected 64 hexadecimal digits"):
        Pseudonyms(tmp_path / KEY).of("a", 1)
    assert (tmp_path / KEY).read_text() == "ab"


@pytest.mark.parametrize(
    ("said", "wanted"), [("90d", 90 * 86400.0), ("12h", 43200.0), ("2w", 1209600.0), ("", 0), ("0d", 0), ("9m", 0)]
)
def test_retention_in_seconds(said: str, wanted: float) -> None:
    assert seconds(said) == wanted


def test_an_error_is_told_by_its_place_alone_where_it_must_be_quiet() -> None:
    try:
        float(CANARY)
    except ValueError as error:
        assert CANARY in trace(error, quiet=False)
        quiet = trace(error, quiet=True)
    assert CANARY not in quiet and quiet.startswith("ValueError") and "test_privacy.py" in quiet


def secret(serving: Serving, app: Any) -> Any:
    """The served signature with column `home` as pii."""
    model = app._table.first
    inputs = tuple(
        dataclasses.replace(c, roles=("feature", "pii")) if c.name == "home" else c
        for c in model.bundle.signature.inputs
    )
    model.bundle = dataclasses.replace(
        model.bundle, signature=dataclasses.replace(model.bundle.signature, inputs=inputs)
    )
    app._dispatch.log.keep(model.version, model.bundle)
    return model


@pytest.mark.parametrize("mode", ["drop", "hash"])
def test_a_pii_feature_is_dropped_or_hashed_in_the_log(
    tiny_serving: Servings, http: Callable[[Any], httpx.Client], mode: Any, tmp_path: Path
) -> None:
    app = create_app(tiny_serving(privacy=mode))
    secret(app.serving, app)
    client = http(app)
    for home in (CANARY, CANARY, "own", None):
        assert client.post("/predict", json={"income": 1, "home": home}).status_code == 200
    app.close()
    segment = next(app.serving.log.glob("*.jsonl"))
    assert CANARY not in segment.read_text()
    lines = [json.loads(text) for text in segment.read_text().splitlines()]
    assert all("home" not in line["features"] for line in lines)
    window = collect(app.serving.log, tmp_path, endpoint="credit")
    assert window
    frame = pl.read_parquet(window.path)
    if mode == "drop":
        assert not any("hashed" in line for line in lines) and "home_hash" not in frame.columns
        assert not (app.serving.state / KEY).exists()
        return
    names = Pseudonyms(app.serving.state / KEY)
    wanted = names.all("home", [CANARY, CANARY, "own", None])
    assert [line["hashed"]["home"][0] for line in lines] == frame["home_hash"].to_list() == wanted
    compact(app.serving.log, now=time.time() + 7200)
    window = collect(app.serving.log, tmp_path, endpoint="credit")
    assert window and pl.read_parquet(window.path)["home_hash"].to_list() == wanted


def test_a_guest_hashes_as_the_stable_version_does(
    tiny_serving: Servings, tiny_bundle: Callable[..., Path], http: Callable[[Any], httpx.Client], tmp_path: Path
) -> None:
    """A candidate makes its own line of the log, in a process of its own."""
    routes = []
    for version, role in ((1, "stable"), (2, "candidate")):
        whole = open_bundle(tiny_bundle(version))
        inputs = tuple(
            dataclasses.replace(c, roles=("feature", "pii")) if c.name == "home" else c for c in whole.signature.inputs
        )
        signature = dataclasses.replace(whole.signature, inputs=inputs)
        model, out = tmp_path / "bundles" / f"v{version}-model", tmp_path / "bundles" / f"p{version}"
        about: Any = {"trainer": Choice(plugin="tiny"), "lineage": {"name": "credit"}, "profile": None}
        seal(model, out, signature=signature, samples={**SAMPLES, **load_onnx(model)(SAMPLES)}, **about)
        given: Any = {"version": version, "bundle": out, "sha256": open_bundle(out).sha256, "role": role}
        routes.append(Route(weight=50.0, **given))
    serving = dataclasses.replace(tiny_serving(privacy="hash", deadline=10.0), routes=tuple(routes))
    app = create_app(serving)
    client = http(app)
    for _ in range(30):
        assert client.post("/predict", json={"income": 1, "home": CANARY}).status_code == 200
    app.close()
    lines = [json.loads(text) for path in serving.log.glob("*.jsonl") for text in path.read_text().splitlines()]
    assert {line["role"] for line in lines} == {"stable", "candidate"}
    name = Pseudonyms(serving.state / KEY).of("home", CANARY)
    assert all(line["hashed"] == {"home": [name]} and "home" not in line["features"] for line in lines)
    assert not [p for p in serving.log.rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]


def test_a_failing_model_puts_no_value_into_the_log_or_the_answer(
    tiny_serving: Servings, http: Callable[[Any], httpx.Client], caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    app = create_app(tiny_serving())
    model = secret(app.serving, app)

    def fails(columns: Any) -> Any:
        raise ValueError(f"could not convert {columns['home'][0]}")

    monkeypatch.setattr(model, "predict", fails)
    with caplog.at_level(logging.DEBUG):
        answer = http(app).post("/predict", json={"income": 1, "home": CANARY})
    app.close()
    assert answer.status_code == 500 and CANARY not in answer.text
    assert "POST /predict failed: ValueError" in caplog.text and CANARY not in caplog.text
    assert not [p for p in app.serving.state.rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]


def test_without_pii_an_error_is_told_in_full(
    tiny_serving: Servings, http: Callable[[Any], httpx.Client], caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    app = create_app(tiny_serving())
    assert not personal(app._table.first.bundle.signature)
    monkeypatch.setattr(app._table.first, "predict", lambda columns: 1 / 0)
    assert http(app).post("/predict", json={"income": 1}).status_code == 500
    app.close()
    assert "ZeroDivisionError: division by zero" in caplog.text


def test_switching_to_hashes_keeps_one_table(tmp_path: Path, tiny_bundle: Callable[..., Path]) -> None:
    """Rows of before and after the change lie in one window; what was not kept is missing."""
    log = kit.sign(tmp_path / "log", pii="hash")
    kit.segment(log, kit.line("a"))
    kit.segment(log, kit.line("b", kit.HOUR + 1, hashed={"email": ["ab" * 16]}))
    for _ in range(2):
        window = collect(log, tmp_path, endpoint="c")
        assert window and pl.read_parquet(window.path)["email_hash"].to_list() == [None, "ab" * 16]


COLUMNS: dict[str, Any] = {
    "email": {"dtype": "string", "role": "pii", "regex": ".+@.+"},
    "x": {"dtype": "float64", "range": [0, 1]},
    "y": {"dtype": "string", "role": "target"},
}


def declared(columns: Any = COLUMNS, **contract: Any) -> Declaration:
    plugin = Choice(plugin="none")
    return Declaration(
        name="p", seed=0, data=plugin, target="y", task="auto", trainer=plugin, metric="auroc",
        contract={"columns": columns, "max_rejected": 1.0, **contract}, split=Split(strategy="random"),
    )  # fmt: skip


def table(count: int = 60) -> pl.DataFrame:
    emails = [f"p{i}@x.org" for i in range(count)]
    emails[3], emails[4] = "canary-without-an-at", CANARY
    x = [0.5] * count
    x[4] = 7.0
    return pl.DataFrame({"email": emails, "x": x, "y": ["a", "b"] * (count // 2)})


def test_quarantine_has_no_pii_in_clear(tmp_path: Path) -> None:
    names = Pseudonyms(tmp_path / KEY)
    for name, given in (("drop", None), ("hash", names)):
        (tmp_path / name).mkdir()
        frozen = freeze(table(), declared(), tmp_path / name, tmp_path / f"{name}.parquet", pseudonyms=given)
        assert frozen.rejected == 2 and "canary" not in str(frozen.report)
        rows = pl.read_parquet(tmp_path / f"{name}.parquet")
        assert "canary" not in str(rows.to_dicts()) and rows["row"].to_list() == [3, 4]
        assert ("email" in rows.columns) == (name == "hash")
        assert (tmp_path / f"{name}.parquet").stat().st_mode & 0o777 == 0o600
    assert rows["email"].to_list() == [names.of("email", "canary-without-an-at"), names.of("email", CANARY)]


def test_broken_contracts_name_no_value(tmp_path: Path) -> None:
    unique = {**COLUMNS, "email": {"dtype": "string", "role": "pii", "regex": "p.*", "unique": True, "in": ["p"]}}
    born = {**COLUMNS, "born": {"dtype": "date", "role": "pii"}}
    given = table().with_columns(born=pl.lit(dt.date(1911, 1, 2)))
    for columns, more in ((unique, {"on_invalid": "fail"}), (born, {"freshness": {"column": "born", "within": "1d"}})):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        with pytest.raises(DataError) as caught:
            freeze(given, declared(columns, **more), out, out / "q.parquet")
        assert "canary" not in str(caught.value) and "1911" not in str(caught.value)


def test_a_drafted_contract_takes_addresses_for_pii_and_tells_none() -> None:
    drafted = infer_contract(table().with_columns(email=pl.Series([CANARY, "p@x.org"] * 30)))
    assert drafted["columns"]["email"] == {"dtype": "string", "nullable": False, "role": "pii"}
    assert "canary" not in str(drafted) and drafted["columns"]["y"]["in"] == ["a", "b"]


def test_a_frozen_pii_category_tells_no_levels(tmp_path: Path) -> None:
    columns = {**COLUMNS, "city": {"dtype": "string", "role": ["feature", "pii"], "kind": "category"}}
    frozen = freeze(
        table().with_columns(city=pl.lit("Canaryville")), declared(columns), tmp_path, tmp_path / "q.parquet"
    )
    assert {c.name: c.categories for c in frozen.columns}["city"] == ()


def test_what_is_old_goes_and_nothing_else(tmp_path: Path) -> None:
    log = kit.sign(tmp_path / "log")
    for hour in range(4):
        kit.segment(log, kit.line(f"r{hour}", kit.HOUR + hour * 3600), at=kit.HOUR + hour * 3600)
    compact(log, now=kit.HOUR + 2 * 3600 + 700)
    labels = LabelLog(log)
    labels.add([Label(id="r0", label="good", time=1.0)])
    labels.close()
    (path,) = (log / "labels").glob("*.jsonl")
    path.rename(path.with_name("20260131T12-1-aa-0.jsonl"))
    before = kit.HOUR + 2 * 3600 + segments.SETTLED  # the first two hours are wholly before it
    gone = expire(log, before)
    assert sorted(gone) == [
        "20260131T12-1-aa-0-v1.parquet", "20260131T13-1-aa-0-v1.parquet", "labels/20260131T12-1-aa-0.jsonl",
    ]  # fmt: skip
    assert all(gone.values()) and expire(log, before) == {}
    left = {p.name for p in log.glob("2026*")}
    assert left == {"20260131T14-1-aa-0.jsonl", "20260131T15-1-aa-0.jsonl"}
    assert (log / "signature-1.json").exists()


def test_a_followed_segment_stays_lines(tmp_path: Path) -> None:
    log = kit.sign(tmp_path / "log")
    for hour in range(3):
        kit.segment(log, kit.line(f"r{hour}", kit.HOUR + hour * 3600), at=kit.HOUR + hour * 3600)
    segments.spare(log, kit.HOUR + 3600 * 1.5)
    assert compact(log) == 1 and len(list(log.glob("*.jsonl"))) == 2
    segments.spare(log, None)
    assert compact(log) == 2
