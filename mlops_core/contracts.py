"""The records that pass from room to room: frozen, JSON-able, standard library only.

`plain(record)` gives a record as plain data (str, int, float, bool, None, list, dict) and
`restore(cls, data)` gives it back, so that a record can be stored, sent and compared as JSON.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from mlops_core.records import Secret as Secret
from mlops_core.records import field as field
from mlops_core.records import plain as plain
from mlops_core.records import record as record
from mlops_core.records import restore as restore

Kind = Literal["data", "trainer", "tuner", "deployer", "monitor", "launcher", "observer", "exporter"]
KINDS: tuple[Kind, ...] = typing.get_args(Kind)
Task = Literal["binary", "multiclass", "regression"]
Mode = Literal["max", "min"]
Role = Literal["feature", "target", "id", "time", "group", "protected", "pii", "weight", "ignore"]
ROLES: tuple[Role, ...] = typing.get_args(Role)
ColumnKind = Literal["number", "category", "boolean", "time", "array", "text"]
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

# Columns: what a predictor takes and gives. One array per column, rows on the first axis. A missing
# number is NaN, a missing category or text None in an object array; an array column is n x shape.
Columns = Mapping[str, Any]
Predict = Callable[[Columns], Columns]
# A table is anything that exports the Arrow C stream, or a polars LazyFrame (which streams).
Table = Any
Scores = Mapping[str, float]
Params = Mapping[str, Any]


@record
class Choice:
    """A plugin named in a declaration, with its options as plain data."""

    plugin: str
    options: Mapping[str, Any] = field(default_factory=dict)


@record
class Artifact:
    """A file or folder that the object store holds.

    `address` is its place in a DVC cache (md5 of the file, or md5 of the listing + '.dir'); `sha256` is
    what integrity rests on: of the file, or of the sorted lines 'sha256  relative/path' of a folder.
    """

    address: str
    sha256: str
    size: int
    files: int


@record
class Column:
    """One column of a data set or of a model's signature.

    `kind` says how it is treated, `dtype` how it is stored (polars names, lower case: int64, float32,
    string, boolean, date, datetime, array). `shape` is the shape of one cell of an array column.
    `categories` are the known values of a category, most frequent first where they were counted.
    """

    name: str
    kind: ColumnKind
    dtype: str
    roles: tuple[Role, ...] = ("feature",)
    nullable: bool = True
    categories: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()


@record
class Dataset:
    """A validated, split and frozen table: `path` holds train.parquet, validation.parquet, test.parquet.

    `rows` counts per split; `rejected` counts rows sent to quarantine; `classes` are the target's values
    as strings in the order of the probability columns (for binary, the second is the positive one).
    `source` tells where it came from (plugin, options, fingerprint).
    """

    name: str
    artifact: Artifact
    path: Path
    columns: tuple[Column, ...]
    rows: Mapping[str, int]
    task: Task
    target: str
    classes: tuple[str, ...] = ()
    rejected: int = 0
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return self.artifact.sha256

    def split(self, name: SplitName) -> Path:
        """The Parquet file of one split."""
        return self.path / f"{name}.parquet"

    def having(self, role: Role) -> tuple[Column, ...]:
        """The columns that have `role`, in table order."""
        return tuple(c for c in self.columns if role in c.roles)


@record
class Signature:
    """What a model takes and gives: validated at every request."""

    inputs: tuple[Column, ...]
    task: Task
    target: str
    classes: tuple[str, ...] = ()


@record
class Gang:
    """The place of one process among the `workers` that fit one model together; `rank` counts from 0.

    `meet` is host:port of the machine of rank 0, which listens there and nowhere else; the others come to it.
    """

    rank: int
    workers: int
    meet: str


@record
class Job:
    """What a trainer is told beside its data.

    Leaves its model in `out` (an empty folder); keeps checkpoints in `scratch`, which comes again with the
    same content when a killed job is resumed. Calls `report(step, scores)` after each epoch or round, with
    validation scores that include `metric`; `report` may raise `Pruned`, which must pass through. `resources` is
    what it may take where others work beside it: `cpus`, `gpus` (parts of one included), `memory` in bytes.

    `gang` is only there for a trainer whose class says `gangs = True`, and then every process of the gang is given the
    same data and seed, a `scratch` with the same content, and an `out`: rank 0 alone reports and leaves a model. What
    `report` raises there ends the fit of all, each with `Pruned` or an error of its own. A process that ends takes
    nobody with it who waits for ever: those that wait for it raise.
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
    """One tried point: its parameters, best scores, state and seconds."""

    number: int
    params: Params
    scores: Scores
    state: Literal["done", "pruned", "failed"]
    seconds: float
    error: str = ""


@record
class Goal:
    """What a search is for: the validation metric, its direction, and the seed.

    `objectives` are further scores with their directions, where the search is for a front of trials; a tuner that knows
    nothing of them searches for the best metric, and the core finds the front among its trials.
    `earlier` are the trials of the last search of this name, perhaps over another space or other data: a tuner may
    learn from them.
    """

    metric: str
    mode: Mode
    seed: int
    earlier: tuple[Trial, ...] = ()
    objectives: Mapping[str, Mode] = field(default_factory=dict)


@record
class Tuned:
    """What a search leaves: the best parameters, their scores, and every trial.

    `model` is where the core laid out the model of the best trial, if it was kept; a tuner leaves it out. `report` is
    a page that a tuner may leave in its folder to show the search; the core keeps it in `.mlops/reports`.

    `front` has the numbers of the trials that no other beats in all objectives, the best in the metric first; empty
    where the search is for the metric alone. `model` then holds a folder for each of them whose model was kept, named
    after its number in four digits.
    """

    params: Params
    scores: Scores
    trials: tuple[Trial, ...] = ()
    model: Path | None = None
    report: Path | None = None
    front: tuple[int, ...] = ()


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


@record
class Score:
    """A metric on a split with its bootstrap interval."""

    value: float
    low: float
    high: float
    rows: int


@record
class Evaluation:
    """Scores on the test split: overall, and per slice ('sex=female'). `metric` is the one declared."""

    metrics: Mapping[str, Score]
    slices: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    rows: int = 0
    metric: str = ""

    def told(self, count: int = 3) -> str:
        """The first scores in words, the declared metric before the others."""
        names = sorted(self.metrics, key=lambda name: (name != self.metric, name))
        return ", ".join(f"{name} {self.metrics[name].value:.4f}" for name in names[:count])


@record
class GateRule:
    """One condition for promotion: a bound on a metric, absolute or against another alias."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    versus: str = ""
    slice: str = ""


@record
class Check:
    """How one gate rule came out, in words and numbers."""

    rule: GateRule
    passed: bool
    reason: str


@record
class ModelVersion:
    """A numbered model with its lineage. `status` is accepted or rejected; `reasons` say why.

    `signature` is that of its bundle, as `model_signing` writes and verifies it (JSON); '' where nobody signed it.
    """

    name: str
    number: int
    model: Model
    status: Literal["accepted", "rejected"]
    reasons: tuple[str, ...]
    evaluation: Evaluation
    created: str
    code: Mapping[str, Any]
    config: Mapping[str, Any]
    run: str = ""
    signature: str = ""


@record
class Route:
    """One version behind an endpoint: its share of traffic in percent and its role.

    stable and warm versions live in the serving process (a warm one has weight 0 and may become stable at
    once), candidate and shadow versions in a process beside it. `arm` is its name in an experiment.
    """

    version: int
    bundle: Path
    sha256: str
    weight: float = 100.0
    role: Literal["stable", "candidate", "shadow", "warm"] = "stable"
    arm: str = ""


@record
class Serving:
    """The desired state of an endpoint. Weights of the stable and candidate routes sum to 100.

    `state` is the deployer's folder, `log` the prediction log's; `trust` as in the declaration. `sticky` names
    what keeps a caller with one version ('header:NAME', 'cookie:NAME' or 'field:NAME'), `salt` deals the callers
    anew. A candidate may take `deadline` seconds to answer, then the stable version answers in its place.

    `auth` keys: callers are asked for a key of `state`/keys.json; a key's rate is shared out to `replicas`
    processes. A caller may take `request_timeout` seconds to send a request. With `access_log` each request leaves a
    line in `state`/access.log. `batching` {size, wait}: requests of one version are predicted together, up to `size`
    rows, for which the first may wait `wait` seconds; empty for those that come at the same moment. ONNX Runtime uses
    `threads` for a prediction. `privacy`: the log drops columns with role pii, or keeps hashes of their values, keyed
    by `state`/privacy.key.
    """

    name: str
    routes: tuple[Route, ...]
    state: Path
    log: Path
    max_rows: int = 10_000
    max_bytes: int = 16 * 1024 * 1024
    trust: tuple[str, ...] = ()
    sticky: str = ""
    salt: str = ""
    deadline: float = 0.25
    auth: Literal["none", "keys"] = "none"
    replicas: int = 1
    request_timeout: float = 30.0
    privacy: Literal["drop", "hash"] = "drop"
    access_log: bool = False
    batching: Mapping[str, float] = field(default_factory=dict)
    threads: int = 1


@record
class Endpoint:
    """A running endpoint: where it answers, and by which process it can be stopped."""

    name: str
    url: str
    deployer: str
    versions: tuple[int, ...]
    pid: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@record
class Profile:
    """What a monitor learned from the reference; plain data of the monitor's own making."""

    monitor: str
    rows: int
    state: Mapping[str, Any]


@record
class Window:
    """A stretch of the prediction log, as one Parquet file of features, predictions and times."""

    endpoint: str
    version: int
    start: str
    end: str
    rows: int
    path: Path


@record
class Verdict:
    """A monitor's judgement of one window. `scores` hold the statistic per column, `limits` its threshold."""

    monitor: str
    state: Literal["healthy", "alarm", "unknown"]
    scores: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@record
class Alert:
    window: Window
    verdict: Verdict


@record
class Rollout:
    """A change of traffic: from which version to which, by which strategy, and how far it is.

    state: running, paused, waiting (decided, a person has the last word); then promoted, rolled_back, aborted or
    superseded; done for a change all at once. `step` counts from 0 and began at `since` (Unix seconds). `plan` is
    the declared `rollout:` as it was at the beginning, `arms` the versions of an experiment by name, `overrides`
    those of the command that began it. `revision` is the ledger's entry.
    """

    name: str
    strategy: str
    stable: int
    candidate: int
    state: str
    reason: str = ""
    id: str = ""
    step: int = 0
    since: float = 0.0
    plan: Mapping[str, Any] = field(default_factory=dict)
    arms: Mapping[str, int] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    revision: int = 0

    @property
    def active(self) -> bool:
        """Whether it still has a say in who answers."""
        return self.state in ("running", "paused", "waiting")


@record
class Run:
    """One `mlops run`: its id, the project's name, when and why it began, and the project's folder."""

    id: str
    name: str
    started: str
    cause: str = "manual"
    project: str = ""


@record
class Parcel:
    """A project packed for another machine, and the `mlops` command (`words`) that is to run there.

    `project` is a zip of its files, `beside` one of what must be importable there beside what is installed (None
    where that is nothing). `expects` names the distributions that must be there, with their versions, 'python'
    among them; `requirements` are pinned lines for pip. `secrets` are names of environment variables: their values
    are read when the parcel is sent, and are in no record and no file. `settings` are variables for the command that
    anybody may read: who sent it, and from which revision.
    """

    name: str
    words: tuple[str, ...]
    project: Path
    beside: Path | None = None
    expects: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@record
class Submission:
    """A command that was sent to another machine, and how it stands there.

    `exit_code` is that of the command; None until it has ended. Times are ISO 8601, '' while unknown.
    """

    id: str
    project: str
    words: tuple[str, ...]
    state: Literal["waiting", "running", "succeeded", "failed", "stopped"]
    message: str = ""
    exit_code: int | None = None
    began: str = ""
    ended: str = ""

    @property
    def over(self) -> bool:
        return self.state in ("succeeded", "failed", "stopped")


@record
class Split:
    """How rows are divided. `column` is the time or group column where the strategy needs one."""

    strategy: Literal["random", "stratified", "time", "group"] = "stratified"
    validation: float = 0.15
    test: float = 0.15
    column: str = ""
    seed: int = 0


@record
class Declaration:
    """The whole life of a model, as declared: composed, checked, and free of Hydra.

    `contract` is the parsed contract (validation room's schema as plain data); `origin` of values is kept by
    the config room, not here. `travel` is what a launcher's section says of what travels (`env`, `requirements`,
    `max_mb`). `objectives` are the further ones of a search beside `metric`, `tolerance` what of `metric` may be given
    up for the first of them. `text` is the composed YAML, stored with every version.
    """

    name: str
    seed: int
    data: Choice
    target: str
    task: Literal["auto", "binary", "multiclass", "regression"]
    contract: Mapping[str, Any]
    split: Split
    trainer: Choice
    metric: str
    tuner: Choice | None = None
    space: Space = field(default_factory=dict)
    retrain_best: bool = False
    objectives: Mapping[str, Mode] = field(default_factory=dict)
    tolerance: float = 0.0
    gate: tuple[GateRule, ...] = ()
    slices: tuple[str, ...] = ()
    deployer: Choice | None = None
    monitor: Choice | None = None
    observers: tuple[Choice, ...] = ()
    trust: tuple[str, ...] = ()
    rollout: Mapping[str, Any] = field(default_factory=dict)
    privacy: Mapping[str, str] = field(default_factory=dict)
    store: Mapping[str, str] = field(default_factory=dict)
    signing: Mapping[str, str] = field(default_factory=dict)
    launcher: Choice | None = None
    travel: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
