"""What a tuner promises."""

from __future__ import annotations

import json
import math
import pickle
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_core.contracts import Distribution, Goal, Mode, Params, Pruned, Scores, Space, Trial, Tuned
from mlops_core.space import holds
from mlops_core.testing.promises import check_options, inside, nothing_written, promise

SPACE: Space = {
    "x": Distribution(kind="choice", args=((0.1, 0.2, 0.3, 0.4),)),
    "shape": Distribution(kind="choice", args=(("flat", "steep"),)),
    "edge": Distribution(kind="choice", args=(("round", "sharp"),), when={"shape": ("steep",)}),
}


@dataclass(frozen=True)
class Hill:
    """An objective whose best point is x 0.3, shape steep and edge sharp; what is flat has no edge.

    It fails at x 0.1, is pruned at x 0.2 and flat, and leaves a mark in `marks` at every call, whatever process
    it runs in.
    """

    marks: Path
    mode: Mode

    def __call__(
        self,
        params: Params,
        out: Path,
        report: Callable[[int, Scores], None],
        resources: Mapping[str, float] | None = None,
    ) -> Scores:
        (self.marks / uuid.uuid4().hex).write_text(json.dumps(dict(params)))
        if params["x"] == 0.1:
            raise RuntimeError("the ground is soft here")
        height = 1 - abs(params["x"] - 0.3) + 0.5 * (params["shape"] == "steep")
        height += 0.25 * (params.get("edge") == "sharp")
        scores = {"height": height if self.mode == "max" else -height}
        report(1, scores)
        if params == {"x": 0.2, "shape": "flat"}:
            raise Pruned
        (out / "note.txt").write_text("a trial may write in its folder")
        report(2, scores)
        return scores

    @property
    def called(self) -> list[dict[str, Any]]:
        return [json.loads(mark.read_text()) for mark in self.marks.iterdir()]

    @property
    def calls(self) -> int:
        """Calls at points that do not fail."""
        return sum(params["x"] != 0.1 for params in self.called)


def check_tuner(tuner: Any, folder: Path, *, space: Space = SPACE, modes: tuple[Mode, ...] = ("max", "min")) -> None:
    """Checks the tuner `tuner`, with `folder` (tmp_path) to work in.

    It must be set to try at least 8 points. `space` has `x` among 0.1, 0.2, 0.3, 0.4, `shape` among flat and steep,
    and where it is steep an `edge`, round or sharp; trials at x 0.1 fail.
    """
    check_options(tuner)
    for mode in modes:
        with inside(folder / mode / "elsewhere") as here, nothing_written(here, doing="a search"):
            _check(tuner, folder / mode, space, mode)


def _check(tuner: Any, folder: Path, space: Space, mode: Mode) -> None:
    marks, out = folder / "marks", folder / "out"
    marks.mkdir()
    out.mkdir()
    objective, goal, told = Hill(marks, mode), Goal(metric="height", mode=mode, seed=7), list[tuple[int, Scores]]()
    pickle.dumps(objective)

    def report(step: int, scores: Scores) -> None:
        told.append((step, scores))

    tuned = tuner.search(objective, space, goal, out, report)
    promise(isinstance(tuned, Tuned), f"search() must return Tuned, not {type(tuned).__name__}")
    for params in objective.called:
        _check_names(params, space, "the objective must be called")
    _check_trials(tuned.trials, space)
    _check_best(tuned, goal)
    steps = [s for s, _ in told]
    promise(steps, "search() must call report(step, scores) as trials finish")
    promise(
        steps == sorted(steps) and steps[-1] <= len(tuned.trials),
        f"report() must get the number of trials finished so far, got {steps}",
    )
    _check_resumed(tuner, objective, space, goal, out, tuned)


def _check_trials(trials: tuple[Trial, ...], space: Space) -> None:
    promise(trials, "search() must return the trials it made")
    numbers = [t.number for t in trials]
    promise(len(set(numbers)) == len(numbers), f"each trial must have a number of its own, got {numbers}")
    for trial in trials:
        _check_names(trial.params, space, f"trial {trial.number} must be told")
        for name, value in trial.params.items():
            promise(
                value in space[name].args[0],
                f"trial {trial.number} has {name} {value!r}, which is not in the space {space[name].args[0]}",
            )
        if trial.params["x"] == 0.1:
            failed = trial.state == "failed" and "the ground is soft here" in trial.error
            promise(failed, f"a trial that raises must be 'failed' with its error, not {trial.state!r} {trial.error!r}")
        else:
            promise(
                trial.state in ("done", "pruned"),
                f"trial {trial.number} at {dict(trial.params)} is {trial.state!r}: {trial.error}",
            )
        flat = trial.params == {"x": 0.2, "shape": "flat"}
        promise(
            not flat or trial.state == "pruned", f"a trial that raises Pruned must be 'pruned', not {trial.state!r}"
        )
        promise(trial.seconds >= 0, f"trial {trial.number} took {trial.seconds} seconds")


def _check_names(params: Params, space: Space, what: str) -> None:
    """Every parameter whose condition holds, and no other."""
    for name in sorted(params.keys() | space.keys()):
        promise(name in space, f"{what} without {name!r}, which is not in the space: {dict(params)}")
        wanted = holds(space[name], params)
        words = f"with {name!r}" if wanted else f"without {name!r} where its condition does not hold"
        promise((name in params) == wanted, f"{what} {words}: {dict(params)}")


def _check_best(tuned: Tuned, goal: Goal) -> None:
    value = tuned.scores.get(goal.metric, math.nan)
    promise(math.isfinite(value), f"the scores of the best trial must hold {goal.metric!r}: {dict(tuned.scores)}")
    done = [t.scores[goal.metric] for t in tuned.trials if t.state == "done"]
    promise(done, "a search whose objective works must have trials that are 'done'")
    best = (max if goal.mode == "max" else min)(done)
    promise(
        value == best,
        f"search() must return the best trial (mode {goal.mode}): {value}, the best of its trials is {best}",
    )
    found = [
        t for t in tuned.trials if t.state == "done" and t.params == tuned.params and t.scores[goal.metric] == value
    ]
    promise(found, f"the parameters of the best trial {dict(tuned.params)} must be those of a trial with its score")


def _check_resumed(tuner: Any, objective: Hill, space: Space, goal: Goal, out: Path, tuned: Tuned) -> None:
    before = objective.calls
    again = tuner.search(objective, space, goal, out, lambda step, scores: None)
    repeated = objective.calls - before
    promise(
        again.params == tuned.params,
        f"a search resumed in its folder must find the same: {dict(again.params)}, not {dict(tuned.params)}",
    )
    promise(not repeated, f"a search resumed in its folder must not repeat finished trials; it repeated {repeated}")
