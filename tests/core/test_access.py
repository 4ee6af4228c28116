"""Keys: made, kept as hashes, checked at the door, revoked."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_core.access import Key, issue, read_keys, write_keys
from mlops_core.contracts import Serving
from mlops_core.errors import StoreError, UsageError
from mlops_core.ledger import Ledger
from mlops_core.serving import create_app
from mlops_core.serving.door import Door, scope_of
from mlops_core.serving.problems import Refused

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ROW = {"income": 1000.0}


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(name="credit", routes=(), state=tmp_path / "state", log=tmp_path / "log", auth="keys")


def bearer(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", b"Bearer " + text.encode())]


def refused(door: Door, headers: Any, wanted: str = "predict", now: float | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        door.admit(headers, wanted, now)
    return caught.value


def test_a_key_is_kept_as_a_salted_hash_and_its_text_nowhere(tmp_path: Path, ledger_url: str) -> None:
    key, text = issue("predict", who="ann", expires="30d", rate="60/m", now=NOW)
    other, _ = issue("predict", now=NOW)
    assert re.fullmatch(r"mlops_[0-9a-f]{12}_[\w-]{43}", text) and key.salt != other.salt
    assert (key.expires, key.rate) == ("2026-12-01T12:00:00+00:00", 1.0)
    secret = text.split("_", 2)[2]
    with Ledger(ledger_url) as ledger:
        ledger.add_key("credit", key, actor="me", reason="for ann")
        ledger.add_key("credit", other, actor="me", reason="for predict")
        ledger.add_key("other", issue("admin")[0], actor="me", reason="not credit's")
        write_keys(tmp_path / "serve", lambda: ledger.keys("credit"))
        ledger.revoke_key("credit", other.id, actor="me", reason="leaked")
        ledger.revoke_key("credit", other.id, actor="me", reason="again")
        write_keys(tmp_path / "serve", lambda: ledger.keys("credit"))
        with pytest.raises(StoreError, match="credit has no key 'nothing'; 'mlops keys list' shows the ids"):
            ledger.revoke_key("credit", "nothing", actor="me", reason="x")
        assert [bool(k.revoked) for k in ledger.keys("credit")] == [False, True]
        more = [issue("predict", now=NOW)[0] for _ in range(8)]
        for one in more:
            ledger.add_key("many", one, actor="me", reason="made in the same second")
        assert [k.id for k in ledger.keys("many")] == [k.id for k in more]
        told = [(e.action, e.subject, e.reason) for e in ledger.audit("credit")]
        assert told == [
            ("key.revoked", f"credit/key-{other.id}", "leaked"),
            ("key.created", f"credit/key-{other.id}", "for predict"),
            ("key.created", f"credit/key-{key.id}", "for ann"),
        ]
        assert ledger.verify_audit() == ""
    path = tmp_path / "serve" / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and read_keys(path) == (key,)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scope": "all"}, "unknown scope 'all'; expected predict, feedback, admin"),
        ({"expires": "soon"}, "expires 'soon' is no time; expected 30d, 12h or 2027-01-31"),
        ({"expires": "2020-01-01"}, "expires '2020-01-01' is past; a key must live for a while"),
        ({"rate": "many"}, "rate 'many' is no rate; expected 100/s, 60/m or 1000/h"),
        ({"rate": "0/s"}, "rate '0/s' is no rate; expected 100/s, 60/m or 1000/h"),
    ],
)
def test_what_cannot_be_meant_is_told(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(words)}$"):
        issue(**{"scope": "predict", "now": NOW, **options})  # type: ignore[arg-type]


def test_who_is_let_in_where(serving: Serving) -> None:
    made = {scope: issue(scope) for scope in ("predict", "feedback", "admin")}
    other = issue("predict", model="another")
    write_keys(serving.state, lambda: [k for k, _ in (*made.values(), other)])
    door = Door(serving)
    ways = {"predict": ["/predict", "/v2/models/credit/infer", "/docs"], "feedback": ["/v2/models/credit/feedback"]}
    ways["admin"] = ["/", "/status", "/metrics"]
    for scope, (key, text) in made.items():
        for wanted, paths in ways.items():
            for path in paths:
                assert scope_of(path) == wanted
                if scope in (wanted, "admin"):
                    assert door.admit(bearer(text), wanted) == key.id
                    assert door.admit([(b"x-api-key", text.encode())], wanted) == key.id
                else:
                    words = f"this key is for {scope}, this needs a key for {wanted}"
                    assert (refused(door, bearer(text), wanted).status, words) == (403, words)
    assert refused(door, bearer(other[1])).detail == "this key is for another model"
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert door.admit([], scope_of(path)) == ""


def test_a_guess_learns_nothing(serving: Serving) -> None:
    key, text = issue("predict", expires="1h")
    stale = Key(**{f: getattr(key, f) for f in ("scope", "salt", "digest", "expires")}, id="0" * 12)
    write_keys(serving.state, lambda: [key, stale])
    door, id = Door(serving), text.split("_")[1]
    secret = text.split("_", 2)[2]
    late = (datetime.now(UTC) + timedelta(hours=2)).timestamp()
    bad = [f"mlops_{id}_{'x' * 43}", f"mlops_{'f' * 12}_{secret}", f"mlops_{id}_{secret}x", f"mlops_{id}_é"]
    said = {
        (r.status, r.detail) for r in [refused(door, bearer(b)) for b in bad] + [refused(door, bearer(text), now=late)]
    }
    said.add((401, refused(door, bearer("mlops__")).detail.replace("a key is needed", "this key is not known here")))
    assert len(said) == 1 and next(iter(said))[0] == 401
    nothing = refused(door, [(b"authorization", b"Basic abc"), (b"x-api-key", b"nonsense")])
    assert nothing.detail.startswith("a key is needed; send a live one as 'authorization: Bearer KEY'")
    assert (b"www-authenticate", b"Bearer") in nothing.headers


def test_a_gone_or_damaged_file_lets_nobody_in(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    key, text = issue("predict")
    door, now = Door(serving), 1e9
    assert refused(door, bearer(text), now=now).status == 401
    write_keys(serving.state, lambda: [key])
    assert door.admit(bearer(text), "predict", now + 1) == key.id
    (serving.state / "keys.json").write_text('{"keys": [')
    assert refused(door, bearer(text), now=now + 2).status == 401
    assert "every key is refused" in caplog.text
    write_keys(serving.state, lambda: [key])
    assert door.admit(bearer(text), "predict", now + 3) == key.id
    (serving.state / "keys.json").unlink()
    assert refused(door, bearer(text), now=now + 4).status == 401


def test_a_rate_is_shared_by_the_replicas(serving: Serving) -> None:
    import dataclasses

    key, text = issue("predict", rate="10/s")
    write_keys(serving.state, lambda: [key])
    door = Door(dataclasses.replace(serving, replicas=2))

    def let_in(now: float) -> int:
        count = 0
        while True:
            try:
                door.admit(bearer(text), "predict", now)
                count += 1
            except Refused as late:
                assert late.status == 429 and (b"retry-after", b"1") in late.headers
                return count

    assert let_in(1e9) == 5  # a second's worth
    assert let_in(1e9 + 0.5) == 2
    assert let_in(1e9 + 100) == 5
    assert let_in(1e9 + 50) == 0  # a clock that is set back gives nothing away
    other, slow = issue("predict", rate="1/h")
    write_keys(serving.state, lambda: [key, other])
    assert door.admit(bearer(slow), "predict", 1e9 + 101)
    assert (b"retry-after", b"7200") in refused(door, bearer(slow), now=1e9 + 101).headers
    assert let_in(1e9 + 101) == 5  # the bucket of a key that stays is kept when the file changes


def test_a_check_costs_little(serving: Serving) -> None:
    key, text = issue("predict", rate="1000000/s")
    write_keys(serving.state, lambda: [key, *(issue("predict")[0] for _ in range(1000))])
    door, headers = Door(serving), [(b"user-agent", b"x"), (b"content-type", b"application/json"), *bearer(text)]
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(5000):
            door.admit(headers, "predict")
        best = min(best, (time.process_time() - began) / 5000)
    print(f"\na key's check: {best * 1e6:.1f} us CPU")
    assert best < 25e-6  # 2.6 us where this was written; machines of CI are slow and busy


@pytest.fixture
def endpoint(
    tiny_serving: Callable[..., Serving], http: Callable[[Any], httpx.Client]
) -> Iterator[tuple[Serving, httpx.Client]]:
    serving = tiny_serving(auth="keys")
    app = create_app(serving)
    yield serving, http(app)
    app.close()


def test_the_endpoint_asks_for_keys(endpoint: tuple[Serving, httpx.Client]) -> None:
    serving, client = endpoint
    key, text = issue("predict")
    boss, word = issue("admin")
    write_keys(serving.state, lambda: [key, boss])
    mine, all = {"x-api-key": text}, {"authorization": f"Bearer {word}"}
    denied = client.post("/predict", json=ROW)
    assert denied.status_code == 401 and denied.headers["www-authenticate"] == "Bearer"
    assert denied.headers["content-type"] == "application/problem+json" and denied.json()["status"] == 401
    assert "traceback" not in denied.text.lower() and "version" not in denied.text
    assert client.post("/predict", json=ROW, headers=mine).status_code == 200
    tensors = {"inputs": [{"name": "income", "datatype": "FP64", "shape": [1], "data": [1.0]}]}
    assert client.post("/v2/models/credit/infer", json=tensors, headers=mine).status_code == 200
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path).status_code == 200
    for path, wanted in (
        ("/", 403),
        ("/status", 403),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/v2/models/credit", 200),
    ):
        assert client.get(path).status_code == 401, path
        assert client.get(path, headers=mine).status_code == wanted, path
        assert client.get(path, headers=all).status_code == 200, path
    labels = {"labels": [{"id": "a", "label": "good"}]}
    for sent, wanted in (({}, 401), (mine, 403), (all, 200)):
        assert client.post("/v2/models/credit/feedback", json=labels, headers=sent).status_code == wanted
    assert client.get("/nowhere").status_code == 401  # what there is, is nobody's business
    assert client.get("/nowhere", headers=mine).status_code == 404
    write_keys(serving.state, lambda: [boss])
    time.sleep(0.15)
    assert client.post("/predict", json=ROW, headers=mine).status_code == 401


def test_the_docs_tell_of_the_keys(endpoint: tuple[Serving, httpx.Client]) -> None:
    serving, client = endpoint
    key, text = issue("predict")
    write_keys(serving.state, lambda: [key])
    client.headers["x-api-key"] = text
    told = client.get("/openapi.json").json()
    assert set(told["components"]["securitySchemes"]) == {"bearer", "header"}
    assert {"401", "403", "429"} <= set(told["paths"]["/predict"]["post"]["responses"])
    assert told["paths"]["/status"]["get"]["description"] == "Needs a key of scope admin."
    assert "security" not in told["paths"]["/healthz"]["get"]
    assert "-H 'authorization: Bearer KEY'" in html.unescape(client.get("/docs").text)


def test_pages_run_nothing(endpoint: tuple[Serving, httpx.Client]) -> None:
    serving, client = endpoint
    boss, word = issue("admin")
    write_keys(serving.state, lambda: [boss])
    for path in ("/", "/docs"):
        page = client.get(path, headers={"x-api-key": word})
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-") and "frame-ancestors 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer" and "<script" not in page.text
        style = re.search("<style>(.*?)</style>", page.text)
        assert style and base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy


def test_keys_of_a_newer_writer_are_read(tmp_path: Path) -> None:
    key, _ = issue("predict")
    write_keys(tmp_path, lambda: [key])
    path = tmp_path / "keys.json"
    text = json.loads(path.read_text())
    text["keys"][0]["colour"] = "red"
    path.write_text(json.dumps(text))
    assert read_keys(path) == (key,)
