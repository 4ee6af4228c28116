"""Those who call the endpoint, and those the data is about: keys, labels, erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_core.api.opening import opened
from mlops_core.ledger import whoami

if TYPE_CHECKING:
    from mlops_core.access import Key
    from mlops_core.flow.keeping import Told
    from mlops_core.forgetting import Found


def create_key(
    project: Path,
    scope: str,
    *,
    model: str = "",
    expires: str = "",
    rate: str = "",
    who: str = "",
    reason: str = "",
    overrides: Sequence[str] = (),
) -> tuple[Key, str, str]:
    """A key for callers of the endpoint, its text, which is nowhere kept, and what is odd about it ('' or words).

    See `mlops_core.access.issue` for `expires` and `rate`. The running endpoint knows it at once.
    """
    from mlops_core.access import issue
    from mlops_core.flow import deploying

    with opened(project, overrides) as context:
        ledger, name = context.workspace.ledger, context.declaration.name
        key, text = issue(scope, model=model, expires=expires, rate=rate, who=who)
        ledger.add_key(name, key, actor=whoami(), reason=reason or f"for {who or scope}")
        deploying.tell_keys(context)
        odd = f"this project's model is {name!r}; the key opens only {model!r}" if model not in ("", name) else ""
        return key, text, odd


def keys(project: Path, overrides: Sequence[str] = ()) -> tuple[Key, ...]:
    """Every key that was ever made for the endpoint, the oldest first."""
    with opened(project, overrides) as context:
        found: tuple[Key, ...] = context.workspace.ledger.keys(context.declaration.name)
        return found


def revoke_key(project: Path, id: str, *, reason: str, overrides: Sequence[str] = ()) -> None:
    """From now on refused by every replica of the endpoint. Raises StoreError for an id that there is not."""
    from mlops_core.flow import deploying

    with opened(project, overrides) as context:
        context.workspace.ledger.revoke_key(context.declaration.name, id, actor=whoami(), reason=reason)
        deploying.tell_keys(context)


def feedback(project: Path, path: Path, *, id: str = "id", label: str = "label", overrides: Sequence[str] = ()) -> Told:
    """Keeps the labels of a CSV, JSON lines or Parquet file by prediction id; the endpoint need not run.

    Raises DataError with the wrong rows; then none is kept.
    """
    from mlops_core.flow import keeping

    with opened(project, overrides) as context:
        return keeping.label(context, Path(path), id, label)


def forget(project: Path, where: Mapping[str, str], *, reason: str, overrides: Sequence[str] = ()) -> Found:
    """Erases a subject's rows from the prediction log, labels, windows and quarantine, and says so in the audit.

    `where`: column -> value as text; all must hold. Gives what went, and the frozen files that still hold it.
    """
    from mlops_core.flow import keeping

    with opened(project, overrides) as context:
        return keeping.forget(context, where, reason)
