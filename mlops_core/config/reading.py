"""One reading of a declaration: compose, settle, interpolate, fill, verify; every problem on the way is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops_core.config.build import build
from mlops_core.config.columns import Columns
from mlops_core.config.compose import Layer, compose
from mlops_core.config.defaults import Defaults
from mlops_core.config.draft import Draft
from mlops_core.config.fill import fill, settle
from mlops_core.config.grammar import unreadable
from mlops_core.config.interpolate import interpolate
from mlops_core.config.overrides import Overrides
from mlops_core.config.presets import Presets
from mlops_core.config.secrets import blind
from mlops_core.config.verify import Verifier
from mlops_core.contracts import Declaration
from mlops_core.errors import DeclarationError, Problem
from mlops_core.plugins import Plugins


class Reading:
    """Reads the declaration at `root`. `problems` are all that is wrong; `declaration()` is the record.

    Without `data`, the data source is not asked: what is out of reach says nothing then about what is declared.
    """

    def __init__(self, root: Path, overrides: Sequence[str], plugins: Plugins | None, *, data: bool = True) -> None:
        self.plugins = plugins or Plugins()
        self.root = Path(root).resolve()
        self.presets = Presets(self.root, self.plugins)
        self.overrides = Overrides(overrides, self.presets)
        self.draft = self._compose()
        self.verifier = Verifier(self.draft, self.presets)
        self.verifier.run()
        self.columns = Columns(self.draft, self.presets, self.verifier)
        self.columns.run(data)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything wrong, in the order of the files."""
        return tuple(sorted(dict.fromkeys(map(blind, self.draft.problems)), key=_order))

    def declaration(self) -> Declaration:
        """The record. Raises DeclarationError with every problem."""
        if self.problems:
            raise DeclarationError.of(self.problems)
        return build(self.draft.values, self.columns.contract, self.plugins, self.root)

    def _compose(self) -> Draft:
        primary = self.presets.primary
        defaults = Defaults(self.presets, self.overrides.groups)
        for document in self.presets.documents:
            unreadable(document)
        values: dict[str, Any] = {}
        layers: tuple[Layer, ...] = ()
        failed = ""
        try:
            values, layers = compose(self.presets, self.overrides.lines(defaults.chosen))
        except Exception as error:  # whatever Hydra, OmegaConf or PyYAML find, it is the declaration that is wrong
            failed = _words(error)
        draft = Draft(values, primary.top)
        draft.problems += [f for d in self.presets.documents for f in d.faults] + self.overrides.problems
        draft.lost = any(d.lost for d in self.presets.documents) or bool(failed)
        draft.void |= {(group,) for group in defaults.unsettled()}
        if failed and not draft.problems:
            draft.problems.append(primary.top.problem("", failed))
        draft.lay(layers, primary, self.overrides.found)
        settle(draft, self.overrides, defaults.chosen, self.presets)
        self.volatile = bool(re.search(r"\$\{\s*now\s*:", repr(draft.values)))
        fill(draft, self.presets)  # before interpolations are followed: a default may be what they mean
        interpolate(draft)
        return draft


def _words(error: Exception) -> str:
    cause: BaseException | None = error
    while cause and not str(cause).strip():
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    advice = re.compile(r"To append|Search path|full_key|object_type|Set the environment")
    return f"cannot be composed: {'; '.join([line for line in lines if not advice.match(line)][:2])}"


def _order(problem: Problem) -> tuple[bool, str, int, int]:
    found = re.fullmatch(r"(.*?):(\d+):(\d+)", problem.place)
    if found:
        return False, found[1], int(found[2]), int(found[3])
    number = re.search(r"(\d+)$", problem.place)
    return True, "", int(number[1]) if number else 0, 0
