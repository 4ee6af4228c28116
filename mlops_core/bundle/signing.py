"""Signatures of bundles by OpenSSF `model-signing`: with a key, without a network; anybody with that verifies them.

A signature lies beside the bundle, never in it: it differs each time it is made, and a bundle's digest must not.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_core.bundle import manifest
from mlops_core.contracts import Secret, field, record
from mlops_core.errors import BundleError, PluginError, StoreError, UsageError
from mlops_core.objects.tree import folder_sha256

KINDS: Mapping[str, str] = {"key": "private", "public": "public"}
PEM = "-----BEGIN "
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # those that model-signing takes


@record
class Key:
    """A key as PEM, and the digest of its public half, by which a signature names who made it."""

    pem: bytes = field(repr=False)
    id: str


def wrong(declared: Mapping[str, str], root: Path) -> dict[str, str]:
    """Why declared keys cannot be used: 'key' or 'public' -> in words. Raises PluginError without the extra."""
    found: dict[str, str] = {}
    ids: set[str] = set()
    for name in filter(declared.get, KINDS):
        try:
            ids.add(read_key(name, declared[name], root).id)
        except UsageError as error:
            found[name] = str(error)
    if len(ids) > 1:
        found["public"] = "is not the public half of signing.key; 'openssl pkey -in KEY -pubout' tells that"
    return found


def read_key(name: str, value: str, root: Path) -> Key:
    """The key of `signing.<name>`: a PEM file, from the project's folder on, or, from the environment, the PEM itself.

    Raises UsageError, which shows nothing of a key, where there is none that can be used, PluginError where the extra
    is missing.
    """
    _library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as s

    shown = value.reference if isinstance(value, Secret) else value
    try:
        text = value.encode() if PEM in value else (root / value).read_bytes()
        found: Any = s.load_pem_private_key(text, None) if name == "key" else s.load_pem_public_key(text)
    except OSError as error:
        raise UsageError(str(StoreError.of(f"cannot read {shown}", error))) from None
    except TypeError:
        hint = "'openssl pkey -in KEY -out PLAIN' takes it away"
        raise UsageError(f"{shown} has a password, and there is nobody to ask for it; {hint}") from None
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if getattr(getattr(found, "curve", None), "name", "") not in CURVES:
        hint = "'openssl ecparam -genkey -name prime256v1 -noout' makes a private one"
        raise UsageError(f"{shown} is no {KINDS[name]} key in PEM on the curve P-256, P-384 or P-521; {hint}")
    half = found.public_key() if name == "key" else found
    public = half.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    own = found.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()) if name == "key" else public
    return Key(pem=own, id=hashlib.sha256(public).hexdigest())


def sign(folder: Path, sha256: str, key: Key) -> str:
    """The signature, as JSON, of the bundle of digest `sha256` at `folder`. Raises BundleError where it is not that."""
    hashing, signing, _ = _library()
    with tempfile.TemporaryDirectory() as scratch, _handed(key) as path:
        place = Path(scratch) / "model.sig"
        config = signing.Config().use_elliptic_key_signer(private_key=path)
        config.set_hashing_config(_everything(hashing)).sign(folder, place)
        signature = place.read_text(encoding="utf-8")
    _refuse_other(folder, sha256, signature)
    return signature


def verify(folder: Path, sha256: str, signature: str, key: Key) -> None:
    """Whether `key` vouches for the bundle of digest `sha256` at `folder`: raises BundleError, in words, where not."""
    from cryptography.exceptions import InvalidSignature

    by = signer(signature)
    if not by:
        raise BundleError("its signature is altered: it cannot be read" if signature else "it has no signature")
    if by != key.id:
        raise BundleError(f"it is signed with key {by[:12]}, and signing.public is key {key.id[:12]}")
    hashing, _, verifying = _library()
    with tempfile.TemporaryDirectory() as scratch, _handed(key) as path:
        place = Path(scratch) / "model.sig"
        place.write_text(signature, encoding="utf-8")
        config = verifying.Config().use_elliptic_key_verifier(public_key=path)
        try:
            config.set_hashing_config(_everything(hashing)).verify(folder, place)
        except InvalidSignature:
            raise BundleError("its signature is altered: the key does not verify it") from None
        except Exception as error:  # whatever a forged one makes the library stumble over: it is not verified
            names = ", ".join(map(repr, _altered(folder, signature)))
            raise BundleError(f"not as signed: {names or str(error) or type(error).__name__}") from error
    _refuse_other(folder, sha256, signature)


def signer(signature: str) -> str:
    """The id of the key that a signature says it was made with; '' where it cannot be read."""
    try:
        return str(json.loads(signature)["verificationMaterial"]["publicKey"]["hint"])
    except (ValueError, KeyError, TypeError):
        return ""


def _refuse_other(folder: Path, sha256: str, signature: str) -> None:
    """Every process that serves a bundle holds it to its digest: what is signed must be just that."""
    found = folder_sha256(_signed(signature))
    if found != sha256:
        raise BundleError(f"bundle {folder} has the digest {found[:12]}, registered is {sha256[:12]}")


def _altered(folder: Path, signature: str) -> list[str]:
    """The files that are not as they were signed."""
    with contextlib.suppress(ValueError, KeyError, TypeError, OSError, BundleError):
        was, now = _signed(signature), {n: manifest.sha256(folder / n) for n in manifest.files_of(folder)}
        return sorted(n for n in was.keys() | now.keys() if was.get(n) != now.get(n))
    return []


def _signed(signature: str) -> dict[str, str]:
    payload = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    return {r["name"]: r["digest"] for r in payload["predicate"]["resources"]}


@contextlib.contextmanager
def _handed(key: Key) -> Iterator[Path]:
    """The key as a path, which is all that the library takes, and on no disk."""
    mine, theirs = os.pipe()
    try:
        os.write(theirs, key.pem)
        os.close(theirs)
        yield Path(f"/dev/fd/{mine}")
    finally:
        os.close(mine)


def _everything(hashing: Any) -> Any:
    """All files; as the library comes, it passes over those of git."""
    return hashing.Config().set_ignored_paths(paths=(), ignore_git_paths=False)


def _library() -> tuple[Any, Any, Any]:
    try:
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        install = "python -m pip install 'mlops-core-framework[signing]'"
        raise PluginError(f"signing needs {error.name!r}, which is not installed; run {install}") from None
    return hashing, signing, verifying
