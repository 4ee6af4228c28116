"""The signatures of versions, as declared: made by the gate or by hand, verified before a version answers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_core.contracts import ModelVersion, record
from mlops_core.errors import BundleError, MlopsError, ServingError, UsageError
from mlops_core.flow.context import Context
from mlops_core.ledger import whoami

if TYPE_CHECKING:
    from mlops_core.bundle.signing import Key


@record
class Signed:
    """The id of the key that signed a version, '' where nobody did. `verified` says whether the declared public key
    vouches for it, `wrong` why not; None where no public key is declared."""

    key: str
    verified: bool | None = None
    wrong: str = ""


def ready(context: Context) -> None:
    """Raises UsageError where a declared key cannot be used, so that nobody learns it after the training."""
    declared = {k: v for k, v in context.declaration.signing.items() if v}
    if not declared:
        return
    from mlops_core.bundle.signing import wrong

    if found := wrong(declared, context.workspace.root):
        raise UsageError("; ".join(f"signing.{name}: {words}" for name, words in found.items()))


def sign(context: Context, version: ModelVersion, reason: str) -> ModelVersion:
    """Signs an accepted version whose bundle is laid out. Raises UsageError where no key is declared, or it was
    rejected."""
    from mlops_core.bundle import signing

    if version.status != "accepted":
        why = "; ".join(version.reasons)
        raise UsageError(f"version {version.number} was rejected by its gate ({why}); only an accepted one is signed")
    key, model = _key(context, "key"), version.model
    if key is None:
        raise UsageError("no key is declared to sign with; declare 'signing: {key: FILE}', a private key in PEM")
    signature = signing.sign(context.workspace.home("bundles", model.artifact), model.digest, key)
    return context.workspace.ledger.sign_version(
        version.name, version.number, signature, key=key.id, actor=whoami(), reason=reason
    )


def verify(context: Context, version: ModelVersion) -> None:
    """Raises ServingError where a public key is declared that does not vouch for the version's bundle."""
    try:
        key = _key(context, "public")
        if key is not None:
            folder = context.workspace.home("bundles", version.model.artifact)
            _verify(folder, version.model.digest, version.signature, key)
    except MlopsError as error:
        hint = ""
        if isinstance(error, BundleError):
            hint = f" (where you trust it, 'mlops versions sign {version.number} --reason ...' signs it)"
        raise ServingError(
            f"version {version.number} may not answer: {error}{hint}; the endpoint goes on as it was"
        ) from error


def signed(context: Context, version: ModelVersion) -> Signed:
    """Who signed a version, and what the declared public key says of that."""
    from mlops_core.bundle.signing import signer

    key = signer(version.signature) or ("unreadable" if version.signature else "")
    if not context.declaration.signing.get("public"):
        return Signed(key=key)
    try:
        verify(context, version)
    except ServingError as error:
        return Signed(key=key, verified=False, wrong=str(error.__cause__))
    return Signed(key=key, verified=True)


@functools.cache
def _verify(folder: Path, sha256: str, signature: str, key: Key) -> None:
    """Once per process: who loads the bundle holds it to its digest, each time."""
    from mlops_core.bundle.signing import verify

    verify(folder, sha256, signature, key)


def _key(context: Context, name: str) -> Key | None:
    value = context.declaration.signing.get(name)
    if not value:
        return None
    from mlops_core.bundle.signing import read_key

    try:
        return read_key(name, value, context.workspace.root)
    except UsageError as error:
        raise UsageError(f"signing.{name}: {error}") from None
