"""A bundle is signed and verified with real keys, by us and by the library's own command line, and by nobody else."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from signing_kit import write_keys, write_rsa

from mlops_core.bundle import open_bundle
from mlops_core.bundle.signing import read_key, sign, verify, wrong
from mlops_core.contracts import Secret
from mlops_core.errors import BundleError, UsageError


@pytest.fixture
def signed(tiny_bundle: Any, tmp_path: Path) -> tuple[Path, str, str, Any]:
    """A bundle, its digest, its signature, and the public key."""
    write_keys(tmp_path)
    bundle = tiny_bundle()
    digest = open_bundle(bundle).sha256
    return bundle, digest, sign(bundle, digest, read_key("key", "model.pem", tmp_path)), public(tmp_path)


def public(folder: Path, name: str = "model.pub") -> Any:
    return read_key("public", name, folder)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def test_every_curve_signs_and_verifies(curve: Any, tiny_bundle: Any, tmp_path: Path) -> None:
    write_keys(tmp_path, key=ec.generate_private_key(curve))
    bundle = tiny_bundle()
    digest = open_bundle(bundle).sha256
    signature = sign(bundle, digest, read_key("key", "model.pem", tmp_path))
    verify(bundle, digest, signature, public(tmp_path))
    assert open_bundle(bundle).sha256 == digest, "nothing of it is in the bundle"


def test_anybody_can_verify_it(signed: Any, tmp_path: Path) -> None:
    bundle, _, signature, _ = signed
    copy = shutil.copytree(bundle, tmp_path / "theirs")
    (tmp_path / "model.sig").write_text(signature)
    words = ["verify", "key", str(copy), "--signature", str(tmp_path / "model.sig")]
    command = [sys.executable, "-m", "model_signing", *words, "--public_key", str(tmp_path / "model.pub")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "Verification succeeded" in done.stdout + done.stderr
    (copy / "card.md").write_text("a better card")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "card.md" in done.stdout + done.stderr


def test_altered_files_are_named(signed: Any) -> None:
    bundle, digest, signature, key = signed
    (bundle / "card.md").write_text("a better card")
    (bundle / ".gitignore").write_text("*")
    (bundle / "samples.json").unlink()
    with pytest.raises(BundleError, match=r"not as signed: '.gitignore', 'card.md', 'samples.json'$"):
        verify(bundle, digest, signature, key)


def test_files_that_git_knows_are_signed_too(tiny_bundle: Any, tmp_path: Path) -> None:
    write_keys(tmp_path)
    bundle = tiny_bundle()
    (bundle / ".gitattributes").write_text("* text")
    with pytest.raises(BundleError, match=r"has the digest \w{12}, registered is"):
        sign(bundle, "0" * 64, read_key("key", "model.pem", tmp_path))


def test_a_signature_vouches_for_one_digest(signed: Any) -> None:
    bundle, digest, signature, key = signed
    with pytest.raises(BundleError, match=f"has the digest {digest[:12]}, registered is 000000000000"):
        verify(bundle, "0" * 64, signature, key)


def test_another_key_is_told_from_an_altered_signature(signed: Any, tmp_path: Path) -> None:
    bundle, digest, signature, key = signed
    write_keys(tmp_path, "other")
    other = public(tmp_path, "other.pub")
    with pytest.raises(BundleError, match=f"signed with key {key.id[:12]}, and signing.public is key {other.id[:12]}"):
        verify(bundle, digest, signature, other)
    with pytest.raises(BundleError, match="altered: the key does not verify it"):
        verify(bundle, digest, signature.replace(key.id, other.id), other)
    whole = json.loads(signature)
    payload = json.loads(base64.b64decode(whole["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"].pop()
    whole["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    with pytest.raises(BundleError, match="altered: the key does not verify it"):
        verify(bundle, digest, json.dumps(whole), key)


@pytest.mark.parametrize("change", ["", "{}", "[1]", "null", "x", '{"verificationMaterial": {"publicKey": {}}}'])
def test_what_is_no_signature_is_told(change: str, signed: Any) -> None:
    bundle, digest, _, key = signed
    with pytest.raises(BundleError, match="it has no signature" if not change else "altered: it cannot be read"):
        verify(bundle, digest, change, key)


def test_whatever_is_missing_in_a_signature_it_is_refused(signed: Any) -> None:
    bundle, digest, signature, key = signed
    for part in ("dsseEnvelope", "mediaType"):
        for value in (None, {}, [], "x"):
            with pytest.raises(BundleError, match=r"not as signed|altered"):
                verify(bundle, digest, json.dumps({**json.loads(signature), part: value}), key)


def test_a_key_comes_from_the_environment(tiny_bundle: Any, tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path)
    as_text = read_key("key", Secret(private.read_text(), "${oc.env:MODEL_KEY}"), tmp_path)
    as_path = read_key("key", Secret(str(private), "${oc.env:MODEL_KEY}"), tmp_path)
    assert as_text == as_path and b"PRIVATE" in as_text.pem and "PRIVATE" not in repr(as_text)


def test_keys_that_cannot_be_used_are_told_without_what_is_in_them(tmp_path: Path) -> None:
    private, half = write_keys(tmp_path)
    write_rsa(tmp_path)
    write_keys(tmp_path, "locked", password=b"sesame")
    write_keys(tmp_path, "bitcoin", ec.generate_private_key(ec.SECP256K1()))
    (tmp_path / "torn.pem").write_bytes(private.read_bytes()[:90])
    (tmp_path / "empty.pem").touch()
    kind = "is no {} key in PEM on the curve P-256, P-384 or P-521"
    for value, words in {
        "nowhere.pem": "cannot read nowhere.pem: no such file or folder",
        ".": "cannot read .: ",
        "locked.pem": "locked.pem has a password, and there is nobody to ask for it",
        **dict.fromkeys(
            ("torn.pem", "empty.pem", "rsa.pem", "model.pub", "bitcoin.pem", "a\0b"), kind.format("private")
        ),
    }.items():
        with pytest.raises(UsageError) as told:
            read_key("key", value, tmp_path)
        assert words in str(told.value), value
    for value in ("model.pem", "rsa.pub", "empty.pem"):
        with pytest.raises(UsageError) as told:
            read_key("public", value, tmp_path)
        assert kind.format("public") in str(told.value), value
    for secret in (private.read_text()[:100], "MIGHAgEAMBMGByqGSM49" * 20):
        with pytest.raises(UsageError) as told:
            read_key("key", Secret(secret, "${oc.env:MODEL_KEY}"), tmp_path)
        assert "${oc.env:MODEL_KEY}" in str(told.value) and secret[30:50] not in repr(told.getrepr(style="long"))
    write_keys(tmp_path, "other")
    assert wrong({"key": "model.pem", "public": "model.pub"}, tmp_path) == {}
    assert wrong({"key": "model.pem"}, tmp_path) == {} == wrong({"public": str(half)}, tmp_path)
    assert list(wrong({"key": "model.pem", "public": "other.pub"}, tmp_path)) == ["public"]
    assert list(wrong({"key": "locked.pem", "public": "nowhere"}, tmp_path)) == ["key", "public"]


def test_no_network_is_asked(signed: Any, tmp_path: Path) -> None:
    bundle, digest, signature, _ = signed
    (tmp_path / "model.sig").write_text(signature)
    code = f"""
import sys
from pathlib import Path

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise SystemExit(f"asks the network: {{event}} {{arguments}}")

sys.addaudithook(refuse)
from mlops_core.bundle.signing import read_key, sign, verify
folder = Path({str(tmp_path)!r})
sign(Path({str(bundle)!r}), {digest!r}, read_key("key", "model.pem", folder))
verify(Path({str(bundle)!r}), {digest!r}, (folder / "model.sig").read_text(), read_key("public", "model.pub", folder))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("missing", ["model_signing", "OpenSSL", "cryptography"])
def test_a_library_that_is_missing_is_told_with_the_extra(missing: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom mlops_core.bundle.signing import read_key\n"
    code += "from mlops_core.errors import PluginError\nfrom pathlib import Path\n"
    code += "try: read_key('key', 'model.pem', Path())\nexcept PluginError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    install = "python -m pip install 'mlops-core-framework[signing]'"
    assert done.stdout == f"signing needs {missing!r}, which is not installed; run {install}\n"
