"""The declaration against the data: the contract and every column it names, from the table's schema alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlops_core.config import secrets
from mlops_core.config.documents import Document, Path_, Spot
from mlops_core.config.draft import Draft
from mlops_core.config.grammar import unreadable
from mlops_core.config.presets import Presets
from mlops_core.config.project import label
from mlops_core.config.verify import Verifier
from mlops_core.contracts import Choice
from mlops_core.errors import Problem, did_you_mean


class Columns:
    """Reads the contract (`contract`, plain data) and the table's columns (`schema`, None where not readable)."""

    def __init__(self, draft: Draft, presets: Presets, verifier: Verifier) -> None:
        self.draft, self.presets, self.verifier = draft, presets, verifier
        data = verifier.values.get("data")
        self.data: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        self.schema: Mapping[str, str] | None = None
        self.document: Document | None = None
        self.contract: Mapping[str, Any] = {}

    def run(self, data: bool) -> None:
        self.schema = self._schema() if data else None
        self._contract()
        for path, column in self._named():
            if self.schema is not None and isinstance(column, str) and column and column not in self.schema:
                self.draft.say(path, f"the data has no column {column!r}", did_you_mean(column, self.schema))
            elif "slice" in str(path) and column in self._personal():
                message = f"column {column!r} has role pii, and a slice would keep its values with the scores"
                self.draft.say(path, message, "take it out")

    def _personal(self) -> set[str]:
        columns = self.contract.get("columns")
        rules = columns.items() if isinstance(columns, Mapping) else ()
        return {str(n) for n, r in rules if isinstance(r, Mapping) and "pii" in (r.get("role") or ())}

    def _named(self) -> Iterator[tuple[Path_, Any]]:
        yield ("data", "target"), self.data.get("target")
        split = self.data.get("split")
        if isinstance(split, Mapping):
            yield ("data", "split", "column"), split.get("column")
        slices = self.verifier.values.get("slices")
        for i, name in enumerate(slices if isinstance(slices, list) else ()):
            yield ("slices", str(i)), name
        gate = self.verifier.values.get("gate")
        for i, rule in enumerate(gate if isinstance(gate, list) else ()):
            if isinstance(rule, Mapping) and isinstance(rule.get("slice"), str):
                yield ("gate", str(i), "slice"), rule["slice"].partition("=")[0]

    def _schema(self) -> Mapping[str, str] | None:
        from mlops_core.config.fill import absolute

        choice = self.verifier.choice("data")
        wrong = self.verifier.wrong.get("data")
        if choice is None or wrong is None:
            return None
        right = {k: v for k, v in choice.options.items() if k not in wrong}
        try:
            cls = self.presets.plugins.offer("data", choice.plugin).cls
            options = absolute(cls, right, self.presets.root)
            source = self.presets.plugins.build("data", Choice(plugin=choice.plugin, options=options))
            return dict(source.schema())
        except Exception as error:  # a stranger's plugin may raise anything; it is told, not hidden
            if wrong:  # told already
                return None
            words = secrets.masked(str(error).strip() or type(error).__name__, self.draft.values)
            where = ("data", "path") if "path" in self.data else ("data",)
            self.draft.say(where, f"the data cannot be read: {words}", key=len(where) == 1)
            return None

    def _contract(self) -> None:
        from mlops_core.validation import contract_problems

        given = self.data.get("contract")
        if isinstance(given, str):
            given = self._file(given)
        if isinstance(given, Mapping):
            self.contract = given
            for p in contract_problems(given, self.schema, self._target()):
                self._say(p)

    def spot(self, path: Path_) -> Spot | None:
        """Where the contract's file says what stands at `path`."""
        mark = self.document.marks.get(path) if self.document else None
        return mark.value if mark else None

    def _target(self) -> str:
        """The target as declared; where that names nothing, the contract's own, so that it is told once."""
        target = str(self.data.get("target", ""))
        columns = self.contract.get("columns")
        if (target and target in (self.schema or [target])) or not isinstance(columns, Mapping):
            return target
        roles = ((name, rule.get("role")) for name, rule in columns.items() if isinstance(rule, Mapping))
        return next((str(name) for name, role in roles if role == "target" or role == ["target"]), target)

    def _file(self, name: str) -> Any:
        from omegaconf import OmegaConf

        path = self.presets.root / name
        if not path.is_file():
            near = sorted(label(f, self.presets.root) for f in path.parent.glob("*.yaml"))
            self.draft.say(("data", "contract"), f"there is no file {name!r}", did_you_mean(name, near))
            return None
        self.document = document = self.presets.document(path)
        unreadable(document)
        self.draft.problems += document.faults
        if document.node is None:
            return {} if not document.faults else None
        return OmegaConf.to_container(OmegaConf.create(document.dump()), resolve=False)

    def _say(self, problem: Problem) -> None:
        if self.document is None:
            self.draft.say(("data", "contract", *problem.key.split(".")), problem.message, problem.suggestion)
            return
        marks = {".".join(path): mark for path, mark in self.document.marks.items()}
        key, about_key = problem.key, bool(re.search(r"unknown key|no such column", problem.message))
        while key and key not in marks:
            key, about_key = key.rpartition(".")[0], True
        spot = self.document.top if not key else marks[key].key if about_key else marks[key].value
        self.draft.problems.append(spot.problem(problem.key, problem.message, problem.suggestion))
