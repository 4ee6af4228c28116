"""One trial: the trainer with these parameters, on the frozen data. Picklable; runs in any process.

The models of the best trials so far are kept, each in a folder of its own with what made it, so that the search need
not be followed by the same fit again:

    <models>/<digest of its parameters>/model/    <models>/<digest of its parameters>/trial.json
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_core.contracts import Choice, Dataset, Job, Mode, Params, Scores, plain
from mlops_core.objects.disk import replace_folder
from mlops_core.plugins import Plugins
from mlops_core.trials import key_of

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

    def __call__(
        self,
        params: Params,
        out: Path,
        report: Callable[[int, Scores], None],
        resources: Mapping[str, float] | None = None,
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
        )
        scores = dict(trainer.fit(self.dataset, job))
        if self.models is not None and (model / "model.json").exists():
            self._keep(self.models, params, model, scores)
        return scores

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

    def _keep(self, models: Path, params: Params, model: Path, scores: Scores) -> None:
        """Among the kept, unless a better one is there; what is worse goes."""
        from filelock import FileLock

        value = scores.get(self.metric, math.nan)
        if not math.isfinite(value):
            return
        cost = -value if self.mode == "max" else value
        mine = home(models, params)
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / "lock"):
            others = {told.parent: json.loads(told.read_text())["cost"] for told in models.glob("*/trial.json")}
            others.pop(mine, None)
            if cost > min(others.values(), default=math.inf):
                return
            for other, its in others.items():
                if its > cost:
                    shutil.rmtree(other)
            fresh = models / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            shutil.copytree(model, fresh / "model", copy_function=_link)
            told = {"cost": cost, "scores": plain(scores), "params": plain(params)}
            (fresh / "trial.json").write_text(json.dumps(told))
            replace_folder(fresh, mine)


def home(models: Path, params: Params) -> Path:
    """Where the model of the trial at `params` is kept."""
    return models / hashlib.sha256(key_of(params).encode()).hexdigest()[:16]


def kept(models: Path, params: Params, scores: Scores) -> Path | None:
    """The model of the trial with these parameters and scores, where it was kept."""
    try:
        told = json.loads((home(models, params) / "trial.json").read_bytes())
    except FileNotFoundError:  # it ran on another machine, or its trainer left no model
        return None
    return home(models, params) / "model" if told["scores"] == plain(scores) else None


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


def _link(one: str, other: str) -> None:
    """The trial's folder and this one go one after the other; neither is written to again."""
    try:
        os.link(one, other)
    except OSError:
        shutil.copyfile(one, other)


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, Mapping) else value
