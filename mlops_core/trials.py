"""The trials of a search: kept as they finish, known again after a kill, and the best of them chosen.

For authors of tuners. `Trials(out)` holds `out/trials.jsonl`: one line per finished trial, appended whole.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlops_core.contracts import Goal, Params, Scores, Trial, Tuned, plain, restore
from mlops_core.errors import TrainingError, did_you_mean
from mlops_core.pareto import front_of, taken


class NoMetric(TrainingError):
    """The trainer does not report what the search is for, so no trial can ever be judged."""


class Trials:
    """The finished trials of a search; iterating gives them in the order in which they finished.

    A search in which all failed begins anew: whatever made them fail may have been mended since.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "trials.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        kept = {key_of(trial.params, trial.after): trial for trial in self._read()}
        self._trials = kept if any(t.state != "failed" for t in kept.values()) else {}

    def __iter__(self) -> Iterator[Trial]:
        return iter(tuple(self._trials.values()))

    def __len__(self) -> int:
        return len(self._trials)

    def known(self, params: Params, after: int | None = None) -> Trial | None:
        """The trial that already finished at this point, having gone on from trial `after`."""
        return self._trials.get(key_of(params, after))

    def add(self, trial: Trial) -> None:
        """Keeps a finished trial; of two at the same point, the later counts."""
        self._trials[key_of(trial.params, trial.after)] = trial
        line = json.dumps(plain(trial), sort_keys=True) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())

    def tuned(self, goal: Goal) -> Tuned:
        """The best of the trials that ran to their end, else of the pruned ones, and with several objectives the front.

        Raises TrainingError with the reason of the first failure where no trial has a score.
        """
        trials = tuple(self)
        best = taken(trials, goal, 0) if goal.objectives else None
        if best:
            front = tuple(t.number for t in front_of(trials, goal))
            return Tuned(params=best.params, scores=best.scores, trials=trials, front=front, best=best.number)
        for state in ("done", "pruned"):
            scored = [t for t in trials if t.state == state and math.isfinite(t.scores.get(goal.metric, math.nan))]
            if scored:
                best = min(scored, key=lambda t: (_cost(t, goal), t.number))
                return Tuned(params=best.params, scores=best.scores, trials=trials, best=best.number)
        failed = [t for t in trials if t.state == "failed"]
        if not failed:
            raise TrainingError(f"no trial finished with a finite {goal.metric}")
        count, first = f"all {len(failed)} trials" if len(failed) > 1 else "the only trial", failed[0]
        raise TrainingError(f"{count} failed; trial {first.number} with {shown(first.params)}: {first.error}")

    def _read(self) -> Iterator[Trial]:
        if not self.path.exists():
            return
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:  # a kill tore the last line
            os.truncate(self.path, len(whole))
        for line in whole.splitlines():
            yield restore(Trial, json.loads(line))


def key_of(params: Params, after: int | None = None) -> str:
    """The same text for the same point, whatever the order of its parameters, that goes on from the same trial."""
    told = plain(params) if after is None else {"after": after, "params": plain(params)}
    return json.dumps(told, sort_keys=True, default=repr)


def lineage(trials: Iterable[Trial], last: Trial) -> tuple[Trial, ...]:
    """The legs whose fit `last` ends, the first of them first; `last` alone where it is a fit of its own."""
    found, numbered = [last], {t.number: t for t in trials}
    while found[0].after is not None:
        found.insert(0, numbered[found[0].after])
    return tuple(found)


def shown(params: Params) -> str:
    """A point in few words: 'lr=0.01, dropout=0.2'."""
    return ", ".join(f"{name}={_short(value)}" for name, value in params.items())


def judged(scores: Scores, goal: Goal, *, ended: bool = False) -> dict[str, float]:
    """`scores` as floats. Raises NoMetric where the metric of the search is not among them, or, of a trial that has
    ended, a further objective."""
    wanted = [(goal.metric, "metric"), *((name, "objective") for name in goal.objectives if ended)]
    for name, what in wanted:
        if name not in scores:
            told = f"it reports {', '.join(sorted(scores))}" if scores else "it reports nothing"
            hint = did_you_mean(name, scores)
            raise NoMetric(f"{what} {name!r} is not among the scores of the trainer; {told}; {hint}")
    return {name: float(value) for name, value in scores.items()}


def better(scores: Scores, than: Scores | None, goal: Goal) -> bool:
    """Whether `scores` beat `than` in the metric of the search."""
    value = scores[goal.metric]
    if than is None or math.isnan(than[goal.metric]):
        return True
    return value > than[goal.metric] if goal.mode == "max" else value < than[goal.metric]


def _cost(trial: Trial, goal: Goal) -> float:
    value = trial.scores[goal.metric]
    return -value if goal.mode == "max" else value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
