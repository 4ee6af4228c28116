"""A person's values go through the whole line, are found nowhere but in the frozen data set, and are forgotten."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_core import api, segments
from mlops_core.cli.main import main
from mlops_core.errors import DataError, UsageError
from mlops_core.logged import answers

EMAIL, BAD, SALARY, WILD = "canary7@secret.example", "canary8-no-address", "1.9876543217", "987654321.5"
CANARIES = (EMAIL, BAD, SALARY, WILD)
CONTRACT = """\
  contract:
    columns:
      email: {dtype: string, role: pii, regex: ".*@.*"}
      salary: {dtype: float64, role: [feature, pii], range: [0, 100000]}
"""


def rows(count: int) -> str:
    rng = random.Random(3)
    lines = ["a,salary,email,label"]
    for i in range(count):
        label = i % 2
        lines.append(f"{rng.gauss(3 * label, 1):.4f},{rng.uniform(1, 2):.3f},p{i}@x.example,{'yes' if label else 'no'}")
    lines[10] = f"0.1,{SALARY},{EMAIL},no"
    lines[11] = f"0.1,1.5,{BAD},no"
    lines[12] = f"0.1,{WILD},{EMAIL},no"
    return "\n".join(lines) + "\n"


@pytest.fixture
def served(here: Any) -> Iterator[Any]:
    config = here.root / "conf" / "config.yaml"
    text = config.read_text().replace("  - _self_\n", "  - deployer: http\n  - monitor: drift\n  - _self_\n")
    text = text.replace("  target: label\n", "  target: label\n" + CONTRACT)
    config.write_text(text + "deployer: {auth: none}\nprivacy: {pii: hash, retention: 90d}\n")
    (here.root / "data.csv").write_text(rows(600))
    try:
        yield here
    finally:
        api.stop(here.root)


def post(url: str, body: Any, **headers: str) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def told(path: Path) -> str:
    """Everything that a file says, compressed or not."""
    if path.suffix == ".parquet":
        return str(pl.read_parquet(path).to_dicts())
    if path.suffix == ".db":
        with sqlite3.connect(path) as db:
            text = "\n".join(db.iterdump())
        db.close()
        return text
    return path.read_bytes().decode("latin-1")


def holding(state: Path) -> set[str]:
    found = set()
    for path in sorted(p for p in state.rglob("*") if p.is_file()):
        text = told(path)
        if path.read_bytes()[:4] == b"PAR1" and path.suffix != ".parquet":  # an object is named by its digest
            text = str(pl.read_parquet(path).to_dicts())
        if any(canary in text for canary in CANARIES):
            found.add(path.relative_to(state).parts[0])
    return found


def test_a_persons_values_are_kept_nowhere_and_forgotten(
    served: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--project", str(served.root)]) == 0
    status = api.status(served.root, judge=False)
    assert status.endpoint
    url = status.endpoint.url
    model = f"{url}/v2/models/toy"
    own = {"a": 1.0, "salary": float(SALARY)}
    code, body = post(f"{url}/predict", {"rows": [{"a": 0.5, "salary": 1.5}, own]}, **{"x-request-id": "batch"})
    assert code == 200, body
    said = [body, post(f"{url}/predict", own, **{"x-request-id": "own"})[1]]
    for wrong in (
        {"a": 1.0, "salary": EMAIL},
        {"a": 1.0, "salary": [EMAIL]},
        {"a": 1.0, "salary": 1.0, "email": EMAIL},
        {"columns": {"a": [1.0], "salary": [EMAIL]}},
        {"rows": EMAIL},
        EMAIL,
        b'{"a": ' + EMAIL.encode(),
        {"a": 1.0, "salary": float(WILD) * 1e300},
    ):
        code, body = post(f"{url}/predict", wrong)
        assert 400 <= code < 500, body
        said.append(body)
    tensor = {"name": "salary", "datatype": "BYTES", "shape": [1], "data": [EMAIL]}
    said += [post(f"{model}/infer", {"inputs": [tensor]})[1], post(f"{url}/predict", own, **{"x-request-id": EMAIL})[1]]
    for path in ("/", "/docs", "/openapi.json", "/status", "/v2/models/toy"):
        with urllib.request.urlopen(url + path, timeout=30) as answer:
            said.append(answer.read().decode())
    code, body = post(
        f"{model}/feedback", {"labels": [{"id": "own", "label": "yes"}, {"id": "batch-1", "label": "no"}]}
    )
    assert (code, json.loads(body)) == (200, {"accepted": 2})
    code, body = post(f"{model}/feedback", {"labels": [{"id": "own", "label": "yes"}, {"id": "own", "label": EMAIL}]})
    assert code == 422
    said.append(body)
    time.sleep(0.5)
    api.status(served.root)
    out, err = capfd.readouterr()
    for text in (*said, out, err):
        assert not [canary for canary in CANARIES if canary in text], text
    state = served.root / ".mlops"
    assert holding(state) == {"data", "objects"}
    assert (state / "serve" / "toy" / "privacy.key").stat().st_mode & 0o777 == 0o600
    _forget(served.root, state, capfd)


def _forget(root: Path, state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    with pytest.raises(UsageError, match="the reason names the subject"):
        api.forget(root, {"email": EMAIL}, reason=f"{EMAIL} asked")
    assert main(["forget", "--project", str(root), "--where", f"salary={SALARY}", "--reason", "request 17"]) == 0
    out = capfd.readouterr().out
    assert "6 rows, labels and requests erased; looked again: nothing is found" in out
    assert "still held by data/" in out and SALARY not in out
    log = state / "serve" / "toy" / "log"
    left = [line for path in log.glob("*.jsonl") for line in answers(path)]
    assert [(line["id"], line["rows"], line["numbers"]) for line in left] == [("batch", 1, [0])]
    found = api.forget(root, {"email": EMAIL}, reason="request 18")  # no input of the model: only set aside
    assert [file.partition("/")[0] for file in found.files] == ["quarantine"] and sum(found.held.values()) == 1
    assert found.blind == ("email",)
    with pytest.raises(UsageError, match="nothing that is kept has a column 'salery'; did you mean 'salary'"):
        api.forget(root, {"salery": SALARY}, reason="request 19")
    entries, fault = api.audit(root)
    forgotten = [e for e in entries if e.action == "subject.forgotten"]
    assert not fault and [e.reason for e in forgotten] == ["request 18", "request 17"]
    assert sum(forgotten[1].facts["erased"].values()) == 6 and forgotten[1].facts["columns"] == ["salary"]
    assert len(forgotten[1].facts["subject"]) == 32 and forgotten[0].facts["subject"] != forgotten[1].facts["subject"]
    assert holding(state) == {"data", "objects"}
    assert main(["forget", "--project", str(root), "--where", f"salary={SALARY}", "--reason", "again"]) == 0
    assert "nothing was found that could be erased" in capfd.readouterr().out


def test_what_is_older_than_declared_goes_and_the_audit_says_so(served: Any) -> None:
    api.run(served.root)
    status = api.status(served.root, judge=False)
    assert status.endpoint
    state = served.root / ".mlops"
    log = state / "serve" / "toy" / "log"
    post(f"{status.endpoint.url}/predict", {"a": 1.0, "salary": 1.5})
    api.stop(served.root)
    (segment,) = log.glob("*.jsonl")
    young = time.strftime("%Y%m%dT%H", time.gmtime(time.time() - 89 * 86400))
    old = time.strftime("%Y%m%dT%H", time.gmtime(time.time() - 91 * 86400))
    (log / f"{young}-1-aa-0.jsonl").write_bytes(segment.read_bytes())
    (log / f"{old}-1-aa-0.jsonl").write_bytes(segment.read_bytes())
    quarantine = next((state / "quarantine").glob("*.parquet"))
    long_ago = time.time() - 91 * 86400
    os.utime(quarantine, (long_ago, long_ago))
    api.run(served.root)
    api.status(served.root)
    assert {p.name[:11] for p in log.glob("2*")} == {young, segment.name[:11]} and not quarantine.exists()
    entries, fault = api.audit(served.root)
    (said,) = (e for e in entries if e.action == "log.expired")
    assert not fault and said.reason == "older than 90d" and said.facts["files"] == 2
    api.status(served.root)
    assert len([e for e in api.audit(served.root)[0] if e.action == "log.expired"]) == 1
    assert json.loads((log.parent / "desired.json").read_text())["serving"]["retention"] == 90 * 86400
    (log / f"{old}-1-aa-0.jsonl").write_bytes(segment.read_bytes())
    segments.expire(log, time.time() - 90 * 86400, noted=True)  # as a running endpoint does
    api.status(served.root)
    said = next(e for e in api.audit(served.root)[0] if e.action == "log.expired")
    assert said.facts["files"] == 1 and said.facts["first"] == f"{old}-1-aa-0.jsonl"


def test_labels_from_files_with_no_endpoint(served: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = served.root
    with pytest.raises(UsageError, match="nothing was ever served here"):
        (tmp_path / "l.csv").write_text("id,label\na,yes\n")
        api.feedback(root, tmp_path / "l.csv")
    api.run(root)
    status = api.status(root, judge=False)
    assert status.endpoint
    for i in range(3):
        post(f"{status.endpoint.url}/predict", {"a": 1.0, "salary": 1.5}, **{"x-request-id": f"r{i}"})
    api.stop(root)
    (tmp_path / "l.csv").write_text("prediction,truth\nr0,yes\nr1-0,no\nelsewhere,no\n")
    words = ["feedback", str(tmp_path / "l.csv"), "--id", "prediction", "--label", "truth", "--project", str(root)]
    capfd.readouterr()
    assert main(words) == 0
    out = capfd.readouterr().out
    assert "3 labels kept" in out and "1 of them name no prediction that is in the log by now" in out
    (tmp_path / "l.jsonl").write_text('{"id": "r2", "label": "yes"}\n{"id": "r1", "label": "yes"}\n')
    assert api.feedback(root, tmp_path / "l.jsonl").labels == 2
    pl.DataFrame({"id": ["r0-0"], "label": ["no"]}).write_parquet(tmp_path / "l.parquet")
    assert api.feedback(root, tmp_path / "l.parquet").labels == 1
    (tmp_path / "bad.csv").write_text("id,label\nr0,yes\nr1,yess\nr 2,no\n")
    with pytest.raises(
        DataError, match=r"(?s)2 labels are wrong, and none was kept.*row 1, label: .*did you mean 'yes'"
    ):
        api.feedback(root, tmp_path / "bad.csv")
    for name, text, words_ in (
        ("x.csv", "a,b\n1,2\n", "has no column 'id', name it with --id"),
        ("x.txt", "", "is no .csv, .jsonl or .parquet file"),
        ("none.csv", None, "No such file"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=words_):
            api.feedback(root, tmp_path / name)
    for name in ("x.jsonl", "x.parquet"):
        (tmp_path / name).write_text("nonsense\n")
        with pytest.raises(DataError, match=r"x\.(jsonl:1: this is no JSON|parquet is no Parquet file)"):
            api.feedback(root, tmp_path / name)
    from mlops_core.feedback import read_labels

    log = root / ".mlops" / "serve" / "toy" / "log"
    assert {k: v[0] for k, v in read_labels(log).items()} == {
        "r0": "yes", "r1-0": "no", "elsewhere": "no", "r2": "yes", "r1": "yes", "r0-0": "no",
    }  # fmt: skip
