"""Several aliases move at once or not at all; a version is found by its identity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_core.contracts import Artifact, Choice, Evaluation, Model, ModelVersion
from mlops_core.errors import StoreError
from mlops_core.ledger import Ledger


def version(number: int) -> ModelVersion:
    artifact = Artifact(address="", sha256=f"{number}" * 64, size=1, files=1)
    model = Model(
        artifact=artifact, path=Path("b"), trainer=Choice(plugin="t"), dataset="", params={}, scores={}
    )  # fmt: skip
    return ModelVersion(
        name="m", number=number, model=model, status="accepted", reasons=(), evaluation=Evaluation(metrics={}),
        created="", code={}, config={},
    )  # fmt: skip


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    found = Ledger(ledger_url)
    yield found
    found.close()


def test_all_aliases_move_or_none(ledger: Ledger) -> None:
    ledger.add_version("m", "one", version)
    ledger.add_version("m", "two", version)
    ledger.set_aliases("m", {"champion": 2, "previous": 1}, actor="me", reason="better")
    assert ledger.aliases("m") == {"champion": 2, "previous": 1}
    with pytest.raises(StoreError, match="m has no version 7"):
        ledger.set_aliases("m", {"champion": 1, "previous": 7}, actor="me", reason="typo")
    assert ledger.aliases("m") == {"champion": 2, "previous": 1}
    assert [e.subject for e in ledger.audit() if e.action == "alias.moved"] == ["m@previous", "m@champion"]


def test_a_version_is_found_by_its_identity(ledger: Ledger) -> None:
    made = ledger.add_version("m", "one", version)
    assert ledger.version_of("m", "one") == made
    assert ledger.version_of("m", "two") is None and ledger.version_of("other", "one") is None
