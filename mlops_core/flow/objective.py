"""One trial: the trainer with these parameters, on the frozen data. Picklable; runs in any process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_core.contracts import Choice, Dataset, Job, Mode, Params, Scores
from mlops_core.plugins import Plugins

PREFIX = "trainer."


@dataclass(frozen=True)
class TrainerObjective:
    """Fits the declared trainer with tuned options set, as `mlops_core.stages.Objective` promises."""

    trainer: Choice
    dataset: Dataset
    project: Path
    seed: int
    metric: str
    mode: Mode
    trust: tuple[str, ...] = ()

    def __call__(
        self,
        params: Params,
        out: Path,
        report: Callable[[int, Scores], None],
        resources: Mapping[str, float] | None = None,
    ) -> Scores:
        import_project(self.project)
        trainer = Plugins().build("trainer", tuned(self.trainer, params))
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
        )
        return dict(trainer.fit(self.dataset, job))


def tuned(trainer: Choice, params: Params) -> Choice:
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
