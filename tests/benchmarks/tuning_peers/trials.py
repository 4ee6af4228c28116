"""The trials that every contestant runs, by number: nothing at all, or a short fit of the credit network."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mlops_core.contracts import Distribution, Scores, Space

METRIC = "auroc"


@dataclass(frozen=True)
class Trials:
    """`count` trials of `inner`, an objective that is fitted at points of its own; of None, which costs nothing."""

    count: int
    inner: Any = None

    @property
    def space(self) -> Space:
        return {"number": Distribution(kind="grid", args=(list(range(self.count)),))}

    def __call__(
        self,
        params: Mapping[str, Any],
        out: Path,
        report: Callable[[int, Scores], None],
        resources: Mapping[str, float] | None = None,
    ) -> Scores:
        where = (params["number"] + 0.5) / self.count
        if self.inner is None:
            return {METRIC: 1 - (where - 0.3) ** 2}
        point = {"trainer.lr": 10 ** (-3.3 + where), "trainer.model.dropout": 0.4 * where}
        found: Scores = self.inner(point, out, report, {"cpus": 1})
        return found

    def alone(self, number: int) -> float:
        """For those who know no folders and no reports."""
        with tempfile.TemporaryDirectory() as out:
            return self({"number": number}, Path(out), lambda step, scores: None)[METRIC]


class Tree:
    """CPU seconds of a process and of everything that it starts: Ray's daemons bury their workers without a trace."""

    def __init__(self, pid: int) -> None:
        self.root, self._seen = psutil.Process(pid), dict[tuple[int, float], float]()
        self.peak = 0.0

    def look(self) -> None:
        try:
            found = [self.root, *self.root.children(recursive=True)]
            self.peak = max(self.peak, self.root.memory_info().rss / 2**20)
        except psutil.NoSuchProcess:
            return
        for process in found:
            try:
                spent = sum(process.cpu_times()[:2])
                if not math.isnan(spent):
                    self._seen[process.pid, process.create_time()] = spent
            except psutil.NoSuchProcess:
                continue

    @property
    def seconds(self) -> float:
        return sum(self._seen.values())
