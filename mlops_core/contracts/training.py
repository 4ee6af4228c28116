"""What trainers and tuners are told, and what they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from mlops_core.contracts.data import Artifact, Choice
from mlops_core.contracts.names import Mode, Params, Scores
from mlops_core.records import field, record


@record
class Gang:
    """The place of one process among the `workers` that fit one model together; `rank` counts from 0.

    `meet` is host:port of the machine of rank 0, which listens there and nowhere else; the others come to it.
    """

    rank: int
    workers: int
    meet: str


@record
class Start:
    """Where one leg of a fit begins, and after how many `steps` (epochs, rounds) it ends.

    `scratch` is the folder that the fit before it left as its own `scratch`, to be read and never written to; None
    where the leg is the first. `after` is the number of that trial.
    """

    steps: int
    scratch: Path | None = None
    after: int | None = None


@record
class Job:
    """What a trainer is told beside its data.

    Leaves its model in `out` (an empty folder); keeps checkpoints in `scratch`, which comes again with the
    same content when a killed job is resumed. Calls `report(step, scores)` after each epoch or round, with
    validation scores that include `metric`; `report` may raise `Pruned`, which must pass through. `resources` is
    what it may take where others work beside it: `cpus`, `gpus` (parts of one included), `memory` in bytes.

    `gang` is only there for a trainer whose class says `gangs = True`, and then every process of the gang is given the
    same data and seed, a `scratch` with the same content, and an `out`; rank 0 alone reports and leaves a model. What
    `report` raises there ends the fit of all, the others with `Pruned`. The fit leaves no process group behind: the
    next trial runs in the same processes.

    `start` is only there for a trainer that says what it `continues`. The fit then goes on from the checkpoint in
    `start.scratch` with the options that it has now, and ends after `start.steps` more, with a checkpoint in `scratch`
    from which the next may go on. Steps are counted on from there; what was best, and patience, begin anew. A leg that
    was killed after its last step reports that step again: fewer steps than told are a fit's own end. One that has made
    all its epochs leaves its `scratch` empty, for there is nothing to go on with.
    """

    out: Path
    scratch: Path
    project: Path
    seed: int
    metric: str
    mode: Mode
    report: Callable[[int, Scores], None]
    trust: tuple[str, ...] = ()
    resources: Mapping[str, float] = field(default_factory=dict)
    gang: Gang | None = None
    start: Start | None = None


class Pruned(Exception):
    """A tuner ended this trial early: no failure; let it pass."""


@record
class Distribution:
    """One dimension of a search space, engine-neutral.

    kind: choice(values), grid(values), uniform(low, high), loguniform(low, high), randint(low, high) with
    high excluded, quniform(low, high, step). `args` holds the arguments in that order.

    `when` names dimensions that are a choice or a grid, with values: the parameter is only there where each of them
    has one of its values, and otherwise absent from the parameters of a trial.
    """

    kind: Literal["choice", "grid", "uniform", "loguniform", "randint", "quniform"]
    args: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


Space = Mapping[str, Distribution]


@record
class Trial:
    """One tried point: its parameters, best scores, state and seconds.

    A search may have trials that are a leg of a longer fit: `after` is then the number of the trial from whose
    checkpoint it went on, None for a first leg, and `steps` how many steps the whole fit had made at its end; 0 where
    a trial is a fit of its own.
    """

    number: int
    params: Params
    scores: Scores
    state: Literal["done", "pruned", "failed"]
    seconds: float
    error: str = ""
    after: int | None = None
    steps: int = 0


@record
class Goal:
    """What a search is for: the validation metric, its direction, and the seed.

    `objectives` are further scores with their directions, where the search is for a front of trials; a tuner that knows
    nothing of them searches for the best metric, and the core finds the front among its trials.
    `earlier` are the trials of the last search of this name, perhaps over another space or other data: a tuner may
    learn from them. `changes` are the parameters of the space with which a fit can go on from a checkpoint that was
    made with other values; none where the trainer cannot go on at all.
    """

    metric: str
    mode: Mode
    seed: int
    earlier: tuple[Trial, ...] = ()
    objectives: Mapping[str, Mode] = field(default_factory=dict)
    changes: tuple[str, ...] = ()


@record
class Tuned:
    """What a search leaves: the best parameters, their scores, and every trial.

    `model` is where the core laid out the model of the best trial, if it was kept; a tuner leaves it out. `report` is
    a page that a tuner may leave in its folder to show the search; the core keeps it in `.mlops/reports`.

    `front` has the numbers of the trials that no other beats in all objectives, the best in the metric first; empty
    where the search is for the metric alone. `model` then holds a folder for each of them whose model was kept, named
    after its number in four digits.

    `best` is the number of the best trial; a search whose trials go on from one another must tell it, for the same
    parameters occur in several.
    """

    params: Params
    scores: Scores
    trials: tuple[Trial, ...] = ()
    model: Path | None = None
    report: Path | None = None
    front: tuple[int, ...] = ()
    best: int | None = None


@record
class Model:
    """A trained and sealed model: the bundle's artifact, and what made it."""

    artifact: Artifact
    path: Path
    trainer: Choice
    dataset: str
    params: Params
    scores: Scores

    @property
    def digest(self) -> str:
        return self.artifact.sha256
