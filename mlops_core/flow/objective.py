"""One trial: the trainer with these parameters, on the frozen data. Picklable; runs in any process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlops_core.contracts import Choice, Dataset, Gang, Goal, Job, Mode, Params, Scores, Start
from mlops_core.flow import best
from mlops_core.pareto import SIZE, costs_of
from mlops_core.plugins import Plugins

PREFIX = "trainer."


@dataclass(frozen=True)
class TrainerObjective:
    """Fits the declared trainer with tuned options set, as `mlops_core.stages.Objective` promises.

    `models` is where the best models are kept; None keeps none. `objects` is the store from which a machine that
    does not have the data set fetches it.
    """

    trainer: Choice
    dataset: Dataset
    project: Path
    seed: int
    metric: str
    mode: Mode
    trust: tuple[str, ...] = ()
    models: Path | None = None
    objects: str = ""
    objectives: Mapping[str, Mode] = field(default_factory=dict)

    def __call__(
        self,
        params: Params,
        out: Path,
        report: Callable[[int, Scores], None],
        resources: Mapping[str, float] | None = None,
        gang: Gang | None = None,
        start: Start | None = None,
    ) -> Scores:
        import_project(self.project)
        self._fetch()
        trainer = Plugins().build("trainer", with_params(self.trainer, params))
        model = out / "model"
        shutil.rmtree(model, ignore_errors=True)
        for folder in (model, out / "scratch"):
            folder.mkdir(parents=True, exist_ok=True)
        job = Job(
            out=model,
            scratch=out / "scratch",
            project=self.project,
            seed=self.seed,
            metric=self.metric,
            mode=self.mode,
            report=report,
            trust=self.trust,
            resources=dict(resources or {}),
            gang=gang,
            start=start,
        )
        scores = dict(trainer.fit(self.dataset, job))
        if gang is not None and gang.rank:
            return scores
        if SIZE in self.objectives:
            scores[SIZE] = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
        self.keep(params, scores, out, start.after if start else None)
        return scores

    def away(self) -> TrainerObjective:
        """See `mlops_core.stages.Objective`."""
        return replace(self, models=None)

    def wants(self, params: Params, scores: Scores, after: int | None = None) -> bool:
        """See `mlops_core.stages.Objective`."""
        costs = costs_of(scores, self._goal)
        return self.models is not None and costs is not None and best.wanted(self.models, params, costs, after)

    def keep(self, params: Params, scores: Scores, out: Path, after: int | None = None) -> None:
        """See `mlops_core.stages.Objective`."""
        model, costs = out / "model", costs_of(scores, self._goal)
        if self.models is not None and costs is not None and (model / "model.json").exists():
            best.keep(self.models, params, model, float(scores[self.metric]), costs, after)

    @property
    def _goal(self) -> Goal:
        return Goal(metric=self.metric, mode=self.mode, seed=self.seed, objectives=self.objectives)

    def _fetch(self) -> None:
        """Another node of a cluster has the project, not what is in `.mlops`; the first of its trials fetches it."""
        if not self.objects or self.dataset.path.exists():
            return
        from filelock import FileLock

        from mlops_core.hashing import FileDigests
        from mlops_core.objects import Objects

        state = self.dataset.path.parent.parent
        self.dataset.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.dataset.path}.lock"):
            digests = FileDigests(state / "cache" / "digests")
            try:
                Objects(self.objects, digests).fetch(self.dataset.artifact, self.dataset.path)
            finally:
                digests.close()


def with_params(trainer: Choice, params: Params) -> Choice:
    """The trainer's choice with dotted parameters ('trainer.model.dropout') set in its options."""
    options = _copy(trainer.options)
    for name, value in params.items():
        *path, last = name.removeprefix(PREFIX).split(".")
        node = options
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return Choice(plugin=trainer.plugin, options=options)


def import_project(project: Path) -> None:
    """Makes the user's own modules importable, before anything else of the same name."""
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, Mapping) else value
