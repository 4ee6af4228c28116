"""What each trial scored at each step: `curves.jsonl` in the folder of the search, thinned as a trial grows long."""

from __future__ import annotations

import json
import math
from pathlib import Path

FULL = 100  # steps that are kept each; of the next 200 every second one, of the next 400 every fourth


class Curves:
    """Appends points as reports come; `read` gives them back, also those of a search that was killed."""

    def __init__(self, out: Path) -> None:
        self.path = out / "curves.jsonl"
        self._seen: dict[int, int] = {}
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):  # a kill tore the last line
            with self.path.open("a") as file:
                file.write("\n")

    def add(self, trial: int, step: int, value: float) -> None:
        seen = self._seen[trial] = self._seen.get(trial, -1) + 1
        if seen % 2 ** int(math.log2(seen / FULL + 1)):
            return
        with self.path.open("a") as file:
            file.write(json.dumps([trial, step, value]) + "\n")

    def read(self) -> dict[int, list[tuple[int, float]]]:
        """Trial -> its steps with their scores, in order; of a step that was made again, the later counts."""
        found: dict[int, dict[int, float]] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                trial, step, value = json.loads(line)
            except ValueError:  # torn
                continue
            if math.isfinite(value):
                found.setdefault(trial, {})[step] = value
        return {trial: sorted(steps.items()) for trial, steps in found.items()}
