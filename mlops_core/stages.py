"""What each kind of plugin promises.

A plugin is a frozen dataclass. Its fields are its options: plain types with defaults where a default is
right, checked before any work starts; a field's `metadata={"doc": ...}` or the class docstring's
"option: text" lines are its manual. Its class must be importable without heavy libraries: torch, ray,
pandas and their like are imported inside the verbs. It returns plain things; the core writes the records.
It never sees the flow, the composed declaration, or another plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from mlops_core.contracts import (
    Dataset,
    Endpoint,
    Gang,
    Goal,
    Job,
    Params,
    Parcel,
    Predict,
    Profile,
    Run,
    Scores,
    Serving,
    Space,
    Start,
    Submission,
    Table,
    Tuned,
    Verdict,
    Window,
)


@runtime_checkable
class DataSource(Protocol):
    """Where a table comes from. Built once per run; used in one process."""

    def read(self) -> Table:
        """The whole table: a polars LazyFrame (streams, larger than memory) or an Arrow C stream exporter.

        Raises DataError, naming the file or query, where nothing can be read.
        """
        ...

    def schema(self) -> Mapping[str, str]:
        """Column name -> polars dtype name, read cheaply (a header, a footer, a `limit 0`)."""
        ...

    def fingerprint(self) -> Mapping[str, str] | None:
        """What changes exactly when the data changes: part -> digest (file path -> sha256).

        None where only reading it all can tell; the data stage then reads at every run.
        """
        ...


@runtime_checkable
class Trainer(Protocol):
    """A way to fit a model.

    Option `modules() -> Sequence[str]` (not in this Protocol, looked up if present): import names of the
    user's own code that the fit depends on; they join the stage's key. Option `reports() -> Sequence[str] | None`
    (likewise): validation scores of its own beside the metrics of the task, which a search may have as objectives; None
    where only a fit can tell. Attribute `gangs = True` (likewise): several
    processes may fit one model, see `Job.gang`. Attribute `continues: Sequence[str]` (likewise): options, a name also
    standing for all below it, with which a fit goes on from a checkpoint that was made with other values, see
    `Job.start`.
    """

    def fit(self, dataset: Dataset, job: Job) -> Scores:
        """Fits on the train split, chooses on the validation split, leaves the model in `job.out`.

        Never touches the test split. Returns the validation scores of the model that is left, with
        `job.metric` among them. The model folder holds `model.json` (`mlops_core.features.ModelCard`):
        either format `onnx` (then the core loads it by itself, with numpy and onnxruntime only), or a
        format of the trainer's own, which `load` understands. Same seed, same data: same bytes.
        """
        ...

    def load(self, path: Path) -> Predict:
        """The predictor of a folder that `fit` left, for formats that the core does not know."""
        ...


class Objective(Protocol):
    """A trial: fits with these parameters and returns validation scores. Picklable; safe in any process.

    A tuner with an option `resources.workers` calls it in as many processes at once, in each with its place in the
    `gang` and an `out` of its own, whose folder `scratch` has the same content; what rank 0 returns counts. One that
    says `legs` gives each call its `start`, and finds what the fit left to go on from in `out/scratch`.

    For a tuner whose trials run on machines that do not see its own folders (methods not in this Protocol, looked up if
    present): `away() -> Objective` is what to call there, it keeps nothing outside of `out`. Where the search runs,
    `wants(params, scores, after) -> bool` then tells whether `keep(params, scores, out, after)` would keep something of
    what such a trial left in its `out`, brought here; `after` is that of its `start`, None where it has none.
    """

    def __call__(
        self,
        params: Params,
        out: Path,
        report: Callable[[int, Scores], None],
        resources: Mapping[str, float] | None = None,
        gang: Gang | None = None,
        start: Start | None = None,
    ) -> Scores: ...


@runtime_checkable
class Tuner(Protocol):
    """A search over the trainer's options.

    Option `refuses(goal) -> Mapping[str, str]` (not in this Protocol, looked up if present): which of its options, as
    they are set, cannot serve this goal, and why; told where they are declared, before anything runs. Option `legs() ->
    str` (likewise): the option by which its trials go on from one another, '' where they do not; the core then holds
    the trainer and the space to it.
    """

    def search(self, objective: Objective, space: Space, goal: Goal, out: Path, report: Callable[..., None]) -> Tuned:
        """The best parameters found. `out` keeps trials and comes again when a killed search is resumed.

        Calls `report(step, scores)` as trials finish (step = trials finished so far).
        """
        ...


@runtime_checkable
class Deployer(Protocol):
    """Makes a desired `Serving` so, on some host."""

    def apply(self, desired: Serving) -> Endpoint:
        """Idempotent: starts what is missing, changes what differs, without a dropped request.

        Returns when the endpoint answers as desired. Raises ServingError with the reason and the tail of
        the host's log where it does not.
        """
        ...

    def actual(self, name: str, state: Path) -> tuple[Endpoint, Serving] | None:
        """What runs now, or None. `state` is the `Serving.state` folder it was applied with."""
        ...

    def stop(self, name: str, state: Path) -> bool:
        """Stops the endpoint after draining it; False where none was running. Idempotent."""
        ...


@runtime_checkable
class Monitor(Protocol):
    """Learns what normal is, then judges windows of the prediction log."""

    def profile(self, reference: Table, columns: tuple[str, ...]) -> Profile:
        """Learned once per version from a reference that the model did not train on.

        `reference` holds the feature columns named in `columns` plus `prediction` (and `probability`).
        """
        ...

    def judge(self, profile: Profile, window: Window) -> Verdict:
        """Healthy, alarm, or unknown (too few rows), with the statistic and the limit per column."""
        ...


@runtime_checkable
class Launcher(Protocol):
    """Sends a project to run on another machine, and tells how it stands there.

    Each verb raises LaunchError or UsageError at once, in words, where that machine does not answer, is another
    one than its client can talk to, or knows no submission of that id.
    """

    def submit(self, parcel: Parcel) -> Submission:
        """Sends it. The values of `parcel.secrets` are read from the environment here, and are never kept or shown."""
        ...

    def follow(self, id: str, out: Callable[[str], None], notice: Callable[[str], None]) -> Submission:
        """Gives each piece of its output to `out`, from the first, and returns when it is over.

        A cut connection is made anew without a piece lost or told twice; `notice` is told of it in a line.
        """
        ...

    def status(self, id: str) -> Submission: ...

    def all(self) -> Sequence[Submission]:
        """Every submission of this plugin there, the latest first."""
        ...

    def stop(self, id: str) -> bool:
        """Ends it, with what it started; False where it was over."""
        ...


class Observer(Protocol):
    """Watches: an object with any of the watching hooks of `mlops_core.hookspecs` as methods, each marked
    with `mlops_core.hookimpl`. It cannot change or stop a run; what it raises is told and passed over."""


class Exporter(Protocol):
    """Writes a declaration for another system."""

    def export(self, project: Path, out: Path, run: Run) -> tuple[Path, ...]:
        """The files written under `out`."""
        ...
