"""The versions, who signed them, and what was done to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_core.api.opening import here, known, opened
from mlops_core.contracts import ModelVersion
from mlops_core.ledger import AuditEntry

if TYPE_CHECKING:
    from mlops_core.flow.signing import Signed


def versions(project: Path, overrides: Sequence[str] = ()) -> tuple[tuple[ModelVersion, ...], Mapping[str, int]]:
    """Every version, and the aliases."""
    with opened(project, overrides) as context:
        return known(context), context.workspace.ledger.aliases(context.declaration.name)


def version(project: Path, number: int, overrides: Sequence[str] = ()) -> ModelVersion:
    """One version. Raises StoreError that names the versions there are."""
    with opened(project, overrides) as context:
        return here(context, context.workspace.ledger.version(context.declaration.name, number))


def sign(project: Path, number: int, *, reason: str, overrides: Sequence[str] = ()) -> ModelVersion:
    """Signs an accepted version with the declared key, as one from before signing was declared; says so in the audit.

    Raises UsageError for a rejected version, and where the key cannot be used.
    """
    from mlops_core.flow import deploying, signing

    with opened(project, overrides) as context:
        signing.ready(context)
        version = context.workspace.ledger.version(context.declaration.name, number)
        deploying.lay_out(context, version)
        return here(context, signing.sign(context, version, reason))


def signed(project: Path, number: int, overrides: Sequence[str] = ()) -> Signed:
    """Who signed a version, and whether the declared public key verifies it."""
    from mlops_core.flow import signing

    with opened(project, overrides) as context:
        return signing.signed(context, context.workspace.ledger.version(context.declaration.name, number))


def audit(project: Path, limit: int = 200, overrides: Sequence[str] = ()) -> tuple[tuple[AuditEntry, ...], str]:
    """The latest audit entries, and the first fault of the chain ('' when it is whole)."""
    with opened(project, overrides) as context:
        return context.workspace.ledger.audit(limit=limit), context.workspace.ledger.verify_audit()
