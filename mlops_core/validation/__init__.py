"""Validation: a table becomes a data set, held to its contract.

`contract_problems` finds everything wrong with a contract before any data is read, `freeze` validates, divides and
writes, `validate` only looks, `infer_contract` drafts a contract, `to_pandera` gives it as a pandera schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlops_core.errors import Problem

if TYPE_CHECKING:
    from mlops_core.validation.freezing import Frozen as Frozen
    from mlops_core.validation.freezing import freeze as freeze
    from mlops_core.validation.inference import infer_contract as infer_contract
    from mlops_core.validation.looking import validate as validate

_HOME = {
    "Frozen": "freezing",
    "freeze": "freezing",
    "infer_contract": "inference",
    "validate": "looking",
}
__all__ = ["contract_problems", *_HOME]


def contract_problems(contract: Mapping[str, Any], schema: Mapping[str, str] | None, target: str) -> list[Problem]:
    """Everything wrong with a contract at once; `Problem.key` is the dotted path in it, `place` is empty.

    `schema` is what the data has (column -> dtype), None where it is not known yet.
    """
    from mlops_core.validation.meaning import senseless
    from mlops_core.validation.reading import read_contract

    parsed, problems = read_contract(contract)
    return [*problems, *senseless(parsed, schema, target)]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
