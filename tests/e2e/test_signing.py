"""Where a public key is declared, no version answers without a signature that it verifies, whichever way it comes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from signing_kit import write_keys

from mlops_core import api
from mlops_core.bundle import manifest
from mlops_core.cli.main import main
from mlops_core.config import declare
from mlops_core.errors import Rejected, ServingError, UsageError
from mlops_core.workspace import Workspace

BOTH = "signing: {key: keys/model.pem, public: keys/model.pub}\n"
CANARY = ["rollout.strategy=canary", "rollout.steps=[{weight: 50, requests: 100000}]"]


def declare_signing(project: Any, text: str) -> None:
    config = project.root / "conf" / "config.yaml"
    config.write_text(config.read_text().split("signing:")[0] + text)


@pytest.fixture
def keyed(here: Any) -> Any:
    """The toy project with two pairs of keys; nothing of them is declared."""
    write_keys(here.root / "keys")
    write_keys(here.root / "keys", "other")
    return here


@pytest.fixture
def served(keyed: Any) -> Iterator[Any]:
    """The same with deployer http."""
    config = keyed.root / "conf" / "config.yaml"
    text = config.read_text().replace("  - _self_\n", "  - deployer: http\n  - _self_\n")
    config.write_text(text + "deployer: {auth: none}\n")
    try:
        yield keyed
    finally:
        api.stop(keyed.root)


def said(project: Any, *words: str, code: int = 0) -> str:
    """What the command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        assert main([*words, "--project", str(project.root)]) == code, out.getvalue()
    return out.getvalue()


def answering(project: Any) -> int:
    return int(api.predict(project.root, [{"a": 1.0, "b": 0.0}])["version"])


def body(project: Any, number: int, change: Any) -> None:
    """Changes a version's record behind the ledger's back."""
    with sqlite3.connect(project.root / ".mlops" / "ledger.db") as db:
        row = db.execute("SELECT body FROM mlops_versions WHERE number = ?", (number,)).fetchone()
        found = json.loads(row[0])
        change(found)
        db.execute("UPDATE mlops_versions SET body = ? WHERE number = ?", (json.dumps(found), number))
    db.close()


def swap_bundle(project: Any) -> None:
    """Puts an altered bundle, sealed anew, in the place of version 1: in the store, laid out, and in its record."""
    root = project.root
    workspace = Workspace(root, declare(root))
    altered = root / "altered"
    altered.mkdir()
    for file in api.version(root, 1).model.path.iterdir():
        (altered / file.name).write_bytes(file.read_bytes())
    means = json.loads((altered / "means.json").read_text())
    means["means"].reverse()
    (altered / "means.json").write_text(json.dumps(means))
    content = json.loads((altered / "manifest.json").read_text())
    (altered / "manifest.json").unlink()
    manifest.write(altered, {k: v for k, v in content.items() if k not in ("format", "files", "seal")})
    artifact, _ = workspace.settle("bundles", altered)
    workspace.close()
    fields = {f: getattr(artifact, f) for f in ("address", "sha256", "size", "files")}
    body(project, 1, lambda found: found["model"]["artifact"].update(fields))


def test_a_version_is_signed_by_its_gate_and_verified_before_it_answers(served: Any) -> None:
    declare_signing(served, BOTH)
    endpoint = api.run(served.root).endpoint
    assert answering(served) == 1
    version, signed = api.version(served.root, 1), api.signed(served.root, 1)
    assert version.signature and signed.verified and len(signed.key) == 64
    assert f"signature by key {signed.key[:12]}, verified" in said(served, "versions", "show", "1")
    shown = json.loads(said(served, "versions", "show", "1", "--json"))
    assert shown["signed"] == {"key": signed.key, "verified": True, "wrong": ""}
    entries, fault = api.audit(served.root)
    told = next(e for e in entries if e.action == "version.signed")
    assert (fault, told.subject, told.reason, told.facts["key"]) == ("", "toy/1", "passed its gate", signed.key)
    with pytest.raises(Rejected):
        api.run(served.root, ["trainer.shift=4"])
    assert api.signed(served.root, 2).key == "", "nobody vouches for what was rejected"
    with pytest.raises(UsageError, match="version 2 was rejected by its gate"):
        api.sign(served.root, 2, reason="hope")

    swap_bundle(served)
    os.kill(endpoint.pid, signal.SIGKILL)
    with pytest.raises(ServingError, match=r"not as signed: 'manifest.json', 'means.json'"):
        api.run(served.root)
    with pytest.raises(ServingError, match="no endpoint is running"):
        answering(served)
    assert "not as signed: 'manifest.json', 'means.json'" in said(served, "versions", "show", "1")


def test_a_version_from_before_signatures_is_as_it_was_and_can_be_signed(keyed: Any) -> None:
    api.run(keyed.root)
    body(keyed, 1, lambda found: found.pop("signature"))
    before = api.version(keyed.root, 1)
    assert before.signature == "" and "signature none" in said(keyed, "versions", "show", "1")
    declare_signing(keyed, BOTH)
    assert api.run(keyed.root).performed == ()
    declare_signing(keyed, "signing: {key: keys/model.pem}\n")
    assert not api.plan(keyed.root).due
    after = api.sign(keyed.root, 1, reason="from before")
    assert after.signature and after.model.digest == before.model.digest and api.audit(keyed.root)[1] == ""
    assert "no public key is declared" in said(keyed, "versions", "show", "1")
    api.run(keyed.root, ["trainer.sleep=0.001"])  # the same bytes, another declaration: another version
    assert api.version(keyed.root, 2).signature not in ("", after.signature)


def test_an_unsigned_version_is_refused_until_it_is_signed(served: Any) -> None:
    root = served.root
    api.run(root)
    declare_signing(served, "signing: {public: keys/model.pub}\n")
    steps = {s.stage: s for s in api.plan(root).steps}
    assert [str(c) for c in steps["deploy"].causes] == ["signature of version 1 missing"]
    refused = "version 1 may not answer: it has no signature .*'mlops versions sign 1 --reason ...' signs it.*as it was"
    with pytest.raises(ServingError, match=refused):
        api.run(root)
    assert answering(served) == 1, "the endpoint goes on as it was"

    with pytest.raises(ServingError, match="version 2 may not answer: it has no signature"):
        api.run(root, ["trainer.shift=0.01"])
    assert api.versions(root)[1] == {"champion": 1}, "what may not answer is no champion"
    with pytest.raises(ServingError, match="version 2 may not answer"):
        api.promote(root, 2, reason="hurry")
    with pytest.raises(ServingError, match="version 2 may not answer"):
        api.promote(root, 2, reason="by steps", overrides=CANARY)
    assert api.rollout(root) is None and answering(served) == 1

    with pytest.raises(UsageError, match="no key is declared to sign with"):
        api.sign(root, 2, reason="checked by hand")
    declare_signing(served, BOTH)
    assert said(served, "versions", "sign", "2", code=3).startswith("mlops: versions sign: say why")
    told = said(served, "versions", "sign", "2", "--reason", "checked by hand")
    assert told == f"version 2 is signed with key {api.signed(root, 2).key[:12]}\n"
    api.run(root, ["trainer.shift=0.01"])
    assert answering(served) == 2
    with pytest.raises(ServingError, match="version 1 may not answer"):
        api.rollback(root, reason="callers complain")
    assert api.versions(root)[1] == {"champion": 2, "previous": 1} and answering(served) == 2
    api.sign(root, 1, reason="was good")
    api.rollback(root, reason="callers complain")
    assert answering(served) == 1
    assert "checked by hand" in said(served, "versions", "audit")


def test_a_rollout_ends_only_with_a_version_that_may_answer(served: Any) -> None:
    root = served.root
    api.run(root)
    api.run(root, ["trainer.shift=0.01", *CANARY])
    declare_signing(served, BOTH)
    api.sign(root, 1, reason="was good")
    with pytest.raises(ServingError, match="version 2 may not answer"):
        api.steer(root, "promote")
    assert api.rollout(root).rollout.active, "the rollout is where it was"
    api.steer(root, "pause")
    with pytest.raises(UsageError, match="so version 3 waits"):
        api.run(root, ["trainer.shift=0.02", *CANARY])
    body(served, 3, lambda found: found.update(signature=""))
    assert api.steer(root, "abort").state == "aborted"
    with pytest.raises(ServingError, match="version 3 may not answer"):
        api.run(root, ["trainer.shift=0.02"])
    assert api.versions(root)[1] == {"champion": 1, "challenger": 3} and answering(served) == 1


def test_the_way_back_is_refused_for_no_signature(served: Any) -> None:
    root = served.root
    api.run(root)
    api.run(root, ["trainer.shift=0.01", *CANARY])
    declare_signing(served, "signing: {public: keys/gone.pub}\n")
    assert api.steer(root, "abort", reason="it harms").state == "aborted"
    assert {answering(served) for _ in range(10)} == {1}


def test_another_key_and_an_altered_signature_are_refused(keyed: Any) -> None:
    root = keyed.root
    declare_signing(keyed, "signing: {key: keys/other.pem}\n")
    api.run(root)
    api.run(root, ["trainer.shift=0.01"])
    declare_signing(keyed, "signing: {public: keys/model.pub}\n")
    with pytest.raises(
        ServingError, match=r"version 1 may not answer: it is signed with key \w{12}, and signing.public"
    ):
        api.rollback(root, reason="back")
    declare_signing(keyed, "signing: {public: keys/other.pub}\n")
    other = api.version(root, 2).signature
    body(keyed, 1, lambda found: found.update(signature=re.sub(r'("sig": *".{20})....', r"\1AAAA", found["signature"])))
    with pytest.raises(ServingError, match="version 1 may not answer: its signature is altered"):
        api.rollback(root, reason="back")
    body(keyed, 1, lambda found: found.update(signature=other))
    with pytest.raises(ServingError, match="version 1 may not answer: not as signed"):
        api.rollback(root, reason="back")
    assert api.versions(root)[1] == {"champion": 2, "previous": 1}


def test_a_key_that_cannot_be_used_is_told_before_the_training(keyed: Any) -> None:
    write_keys(keyed.root / "keys", "locked", password=b"sesame")
    (keyed.root / "keys" / "torn.pem").write_text("-----BEGIN PRIVATE KEY-----\nMIGH\n")
    for declared, words in {
        "{key: keys/nowhere.pem}": "signing.key: cannot read keys/nowhere.pem: no such file or folder",
        "{key: keys/torn.pem}": "signing.key: keys/torn.pem is no private key",
        "{key: keys/locked.pem}": "signing.key: keys/locked.pem has a password",
        "{public: keys/model.pem}": "signing.public: keys/model.pem is no public key",
        "{key: keys/other.pem, public: keys/model.pub}": "signing.public: is not the public half of signing.key",
    }.items():
        declare_signing(keyed, f"signing: {declared}\n")
        for refuse in (api.plan, api.run):
            with pytest.raises(UsageError) as told:
                refuse(keyed.root)
            assert words in str(told.value)
        (problem,) = api.check(keyed.root)
        assert f"{problem.key}: {problem.message}" in str(told.value)
        assert problem.place.startswith("conf/config.yaml:17:")
    assert not api.status(keyed.root).versions and not list((keyed.root / ".mlops").glob("work/*"))


def test_the_declaration_of_signing_is_held_to_its_schema(keyed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = (keyed.root / "keys" / "model.pem").read_text()
    declare_signing(keyed, "signing: {kye: keys/model.pem, public: [1]}\n")
    told = [str(p).split("\n")[0] for p in api.check(keyed.root)]
    assert len(told) == 2 and "signing.kye" in told[0] and "did you mean 'key'?" in told[0] and "public" in told[1]
    declare_signing(keyed, f"signing:\n  key: {json.dumps(pem)}\n")
    (problem,) = api.check(keyed.root)
    assert "conf/config.yaml:18:" in str(problem) and "holds a key in clear" in str(problem)
    assert "${oc.env:NAME}" in str(problem) and pem[30:60] not in str(problem)
    declare_signing(keyed, "")
    for override in (f"signing.key={pem}", f"signing.kye='{pem}'", f"signing='{pem}'"):
        told = said(keyed, "check", override, code=3)
        assert "-----BEGIN PRIVATE KEY----- ..." in told and pem[30:40] not in told
    monkeypatch.setenv("MODEL_KEY", pem)
    for wrong in ("signing: ${oc.env:MODEL_KEY}\n", "signing: {public: '${oc.env:MODEL_KEY}'}\n"):
        declare_signing(keyed, wrong)
        (problem,) = api.check(keyed.root)
        assert pem[30:60] not in str(problem) and "${oc.env:MODEL_KEY}" in str(problem)
    declare_signing(keyed, "signing: {key: '${oc.env:NOT_SET_HERE,\"\"}', public: null}\n")
    assert "public" in str(api.check(keyed.root)[0])
    declare_signing(keyed, "signing: {key: '${oc.env:NOT_SET_HERE,\"\"}'}\n")
    assert api.check(keyed.root) == ()


def test_the_private_key_is_nowhere_kept(keyed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    private = keyed.root / "keys" / "model.pem"
    pem = private.read_text()
    private.unlink()
    monkeypatch.setenv("MODEL_KEY", pem)
    declare_signing(keyed, "signing: {key: '${oc.env:MODEL_KEY}', public: keys/model.pub}\n")
    told = said(keyed, "run") + said(keyed, "config", "--origin") + said(keyed, "versions", "show", "1", "--json")
    assert api.signed(keyed.root, 1).verified
    lines = [line.encode() for line in pem.splitlines()[1:-1]]
    kept = [p for p in keyed.root.rglob("*") if p.is_file() and any(line in p.read_bytes() for line in lines)]
    assert kept == [] and not any(line in told.encode() for line in lines)


def test_a_password_is_not_asked_for_at_a_terminal(keyed: Any) -> None:
    write_keys(keyed.root / "keys", password=b"sesame")
    declare_signing(keyed, BOTH)
    mine, theirs = pty.openpty()
    code = "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from mlops_core import __main__ as m"
    command = [sys.executable, "-c", f"{code}; sys.exit(m.main())", "run"]
    process = subprocess.Popen(
        command, cwd=keyed.root, env=keyed.env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        assert process.wait(60) == 3
        told = os.read(mine, 65536).decode()
    finally:
        process.kill()
        os.close(mine)
    assert "has a password" in " ".join(told.split()) and "sesame" not in told


def test_a_missing_extra_is_told_with_its_name(keyed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = "import sys; sys.modules['model_signing'] = None; from mlops_core import __main__ as m; sys.exit(m.main())"
    install = "run python -m pip install 'mlops-core-framework[signing]'"
    declare_signing(keyed, BOTH)
    told = subprocess.run(
        [sys.executable, "-c", absent, "run"],
        cwd=keyed.root,
        env=keyed.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 3
    assert told.stderr == f"mlops: signing needs 'model_signing', which is not installed; {install}\n"
    monkeypatch.setitem(sys.modules, "model_signing", None)
    assert install in str(api.check(keyed.root)[0])
    declare_signing(keyed, "")
    assert api.run(keyed.root).version == 1, "who declares nothing needs nothing"
    declare_signing(keyed, "signing: {public: keys/model.pub}\n")
    with pytest.raises(ServingError, match="version 1 may not answer: signing needs 'model_signing'"):
        api.run(keyed.root, ["deployer=http", "deployer.auth=none"])
