"""The stages that learn: data, tune, train."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlops_core.contracts import Dataset, Goal, Job, Mode, Params, Scores, Start, Trial, Tuned, plain, restore
from mlops_core.errors import TrainingError
from mlops_core.flow.best import kept, kept_front
from mlops_core.flow.context import Context, flatten, key_of
from mlops_core.flow.objective import TrainerObjective, import_project, with_params
from mlops_core.ledger import Outcome
from mlops_core.pareto import front_of, taken
from mlops_core.space import changeable, spelled
from mlops_core.trials import lineage


class Data:
    """Reads the source, holds it to its contract, splits it and freezes it."""

    name, home, spare = "data", "data", False

    def declared(self, context: Context) -> bool:
        return True

    def own(self, context: Context) -> dict[str, Any]:
        d = context.declaration
        offer = context.offer("data", d.data)
        return {
            **context.options("data", d.data),
            "data.target": d.target,
            "data.task": d.task,
            **flatten("data.split", plain(d.split)),
            **flatten("data.contract", d.contract),
            **context.code([offer.cls.__module__, "mlops_core.validation"], [offer.package]),
        }

    def inputs(self, context: Context) -> dict[str, Any]:
        found = context.build("data", context.declaration.data).fingerprint()
        if found is None:  # only reading can tell: this run's own mark makes the stage due
            return {"source": f"read by run {context.run.id}" if context.run else "can only be told by reading it"}
        return {f"source.{part}": digest for part, digest in found.items()}

    def perform(self, context: Context, work: Path, key: str) -> tuple[Mapping[str, Any], Path | None]:
        from mlops_core.validation import freeze

        d, out = context.declaration, work / "data"
        for old in work.parent.glob(f"data-{'?' * 12}-{d.name}"):  # of runs cut off under another key: begun anew
            shutil.rmtree(old if old != work else out, ignore_errors=True)
        out.mkdir()
        source = context.build("data", d.data)
        if source.fingerprint() is None:  # read at every run: one file, not one a run
            key = key_of(self.own(context))
        quarantine = context.workspace.state / "quarantine" / f"{key[:12]}.parquet"
        quarantine.parent.mkdir(exist_ok=True)
        pseudonyms = context.workspace.pseudonyms if d.privacy.get("pii") == "hash" else None
        before = self._rows_before(context)
        frozen = freeze(source.read(), d, out, quarantine, previous=before, pseudonyms=pseudonyms)
        found = {"quarantine": str(quarantine.relative_to(context.workspace.root))} if frozen.rejected else {}
        fields = ("columns", "rows", "task", "target", "classes", "rejected", "report")
        return plain({f: getattr(frozen, f) for f in fields}) | found, out

    def _rows_before(self, context: Context) -> int | None:
        """How many rows the data set before had, for the contract's `rows.change`."""
        latest = context.workspace.ledger.latest(context.declaration.name, self.name)
        return sum(latest.record["rows"].values()) + latest.record["rejected"] if latest else None

    def result(self, context: Context, outcome: Outcome, path: Path | None) -> Dataset:
        kept = {k: v for k, v in outcome.record.items() if k not in ("report", "quarantine")}
        source = {"plugin": context.declaration.data.plugin} | {
            k: v for k, v in outcome.parts.items() if k.startswith("source")
        }
        artifact = plain(outcome.artifacts[0])
        return restore(
            Dataset,
            kept | {"name": context.declaration.name, "artifact": artifact, "path": str(path), "source": source},
        )


class Tune:
    """Searches the declared space for the best options of the trainer; leaves the model of the best trial, or with
    several objectives those of the front."""

    name, home, spare = "tune", "models", True

    def declared(self, context: Context) -> bool:
        return context.declaration.tuner is not None

    def own(self, context: Context) -> dict[str, Any]:
        d = context.declaration
        assert d.tuner is not None
        offer = context.offer("tuner", d.tuner)
        space = {f"tuner.space.{k}": spelled(v) for k, v in d.space.items()}
        return {
            **context.options("tuner", d.tuner),
            **space,
            **({"tuner.objectives": _spelled(d.objectives)} if d.objectives else {}),
            **_trainer(context),
            **context.code([offer.cls.__module__], [offer.package]),
        }

    def inputs(self, context: Context) -> dict[str, Any]:
        return {"input.data": context.results["data"].digest}

    def perform(self, context: Context, work: Path, key: str) -> tuple[Mapping[str, Any], Path | None]:
        d = context.declaration
        assert d.tuner is not None
        goal = _goal(context)
        import_project(context.workspace.root)
        objective = TrainerObjective(
            trainer=d.trainer,
            dataset=context.results["data"],
            project=context.workspace.root,
            seed=d.seed,
            metric=d.metric,
            mode=goal.mode,
            trust=d.trust,
            models=None if d.retrain_best else work / "models",
            objects=context.workspace.objects.url,
            objectives=d.objectives,
        )
        latest = context.workspace.ledger.latest(d.name, self.name)
        earlier = restore(Tuned, latest.record).trials if latest else ()
        goal = replace(goal, earlier=earlier)
        (work / "objectives.json").write_text(json.dumps([d.metric, *d.objectives]))  # which scores a table shows
        found = context.build("tuner", d.tuner).search(objective, d.space, goal, work, _reporter(context, self.name))
        unknown = [k for k in found.params if k not in d.space]
        if unknown:
            raise TrainingError(f"tuner {d.tuner.plugin!r} gave parameter {unknown[0]!r}, which is not in the space")
        front = front_of(found.trials, goal) if d.objectives else ()
        page = _keep(context, found.report, f"{self.name}-{key[:12]}.html")
        found = replace(found, model=None, report=page, front=tuple(t.number for t in front))
        if d.objectives:
            return plain(found), kept_front(work / "models", front, d.metric)
        best = _best(found)
        after = best.after if best else None
        return plain(found), kept(work / "models", found.params, found.scores, d.metric, after)

    def result(self, context: Context, outcome: Outcome, path: Path | None) -> Tuned:
        return replace(restore(Tuned, outcome.record), model=path)


class Train:
    """Leaves the model folder: of the best trial, or of a fit with the best parameters."""

    name, home, spare = "train", "models", False

    def declared(self, context: Context) -> bool:
        return True

    def own(self, context: Context) -> dict[str, Any]:
        again = {"tuner.retrain_best": True} if context.declaration.retrain_best else {}
        return {**_trainer(context), **again}

    def inputs(self, context: Context) -> dict[str, Any]:
        found = {"input.data": context.results["data"].digest}
        if context.declaration.tuner is not None:
            tuned = _chosen(context)
            found |= {f"tuned.{k}": v for k, v in tuned.params.items()}
            for i, leg in enumerate(_schedule(tuned), 1):  # the same parameters end many a schedule
                found |= {f"tuned.legs.{i}.{k}": v for k, v in {"steps": leg["steps"], **leg["params"]}.items()}
        return found

    def perform(self, context: Context, work: Path, key: str) -> tuple[Mapping[str, Any], Path | None]:
        d = context.declaration
        tuned = _chosen(context) if d.tuner is not None else None
        out, params, legs = work / "model", tuned.params if tuned else {}, _schedule(tuned) if tuned else []
        found = {"params": plain(params), "metric": d.metric} | ({"schedule": legs} if legs else {})
        shutil.rmtree(out, ignore_errors=True)
        if tuned and tuned.model and not d.retrain_best:
            shutil.copytree(tuned.model, out)
            best = _best(tuned)
            return found | {"scores": plain(tuned.scores)} | ({"trial": best.number} if best else {}), out
        for leg, scratch, start in _legs(params, legs, work / "scratch"):
            shutil.rmtree(out, ignore_errors=True)
            found["scores"] = self._fit(context, leg, out, scratch, start)
        return found, out

    def _fit(self, context: Context, params: Params, out: Path, scratch: Path, start: Start | None) -> Scores:
        d = context.declaration
        import_project(context.workspace.root)
        out.mkdir()
        scratch.mkdir(parents=True, exist_ok=True)
        job = Job(
            out=out,
            scratch=scratch,
            project=context.workspace.root,
            seed=d.seed,
            metric=d.metric,
            mode=_mode(d.metric),
            report=_reporter(context, self.name),
            trust=d.trust,
            start=start,
        )
        scores = context.build("trainer", with_params(d.trainer, params)).fit(context.results["data"], job)
        if not (out / "model.json").exists():
            raise TrainingError(f"trainer {d.trainer.plugin!r} left no model.json in its model folder")
        return _scored(d.trainer.plugin, d.metric, scores)

    def result(self, context: Context, outcome: Outcome, path: Path | None) -> dict[str, Any]:
        about = {"objectives": tuple(context.declaration.objectives), "key": outcome.key}
        return {**outcome.record, **about, "path": path, "artifact": outcome.artifacts[0]}


def _keep(context: Context, page: Path | None, name: str) -> Path | None:
    """A tuner's page outlives the stage's folder; its path is from the project's."""
    if page is None:
        return None
    home = context.workspace.state / "reports" / name
    home.parent.mkdir(exist_ok=True)
    shutil.copyfile(page, home)  # the search may be resumed yet: what follows may fail
    return home.relative_to(context.workspace.root)


def _goal(context: Context) -> Goal:
    d = context.declaration
    changes = changeable(d.space, getattr(context.offer("trainer", d.trainer).cls, "continues", ()))
    return Goal(metric=d.metric, mode=_mode(d.metric), seed=d.seed, objectives=d.objectives, changes=changes)


def _chosen(context: Context) -> Tuned:
    """The search with the parameters, scores and model that go on: what is declared of `tolerance` takes another trial
    of the front without another search."""
    d = context.declaration
    tuned: Tuned = context.results["tune"]
    trial = taken(tuned.trials, _goal(context), d.tolerance) if tuned.front else None
    if trial is None:  # one objective; or no trial has them all, and no model is kept
        return tuned
    model = tuned.model / f"{trial.number:04d}" if tuned.model else None
    model = model if model and model.exists() else None
    return replace(tuned, params=trial.params, scores=trial.scores, model=model, best=trial.number)


def _best(tuned: Tuned) -> Trial | None:
    """The trial whose parameters and model go on; a tuner may leave out its number."""
    numbered = (t for t in tuned.trials if t.number == tuned.best)
    return next(numbered if tuned.best is not None else (t for t in tuned.trials if t.params == tuned.params), None)


def _schedule(tuned: Tuned) -> list[dict[str, Any]]:
    """The legs of the fit that ends in the best trial: the step at which each ended, and its parameters."""
    best = _best(tuned)
    if best is None or not best.steps:
        return []
    return [{"steps": t.steps, "params": plain(t.params)} for t in lineage(tuned.trials, best)]


def _legs(params: Params, legs: Sequence[Any], scratch: Path) -> Iterator[tuple[Params, Path, Start | None]]:
    """The fits that lead to a model, each with its scratch and its start: one, or each leg of a schedule again."""
    if not legs:
        yield params, scratch, None
    made, last = 0, None
    for i, leg in enumerate(legs, 1):
        home = scratch / str(i)
        yield leg["params"], home, Start(steps=leg["steps"] - made, scratch=last)
        made, last = leg["steps"], home


def _spelled(objectives: Mapping[str, Mode]) -> str:
    """In one part of a key, for their order counts."""
    return ", ".join(f"{name} {mode}" for name, mode in objectives.items())


def _trainer(context: Context) -> dict[str, Any]:
    d = context.declaration
    offer = context.offer("trainer", d.trainer)
    modules, own = [offer.cls.__module__], [offer.package]
    if hasattr(offer.cls, "modules"):
        users = list(context.build("trainer", d.trainer).modules())
        modules, own = modules + users, own + [m.split(".")[0] for m in users]
    about = {"metric": d.metric, "seed": d.seed, **flatten("trust", list(d.trust))}
    return {**context.options("trainer", d.trainer), **about, **context.code(modules, own)}


def _scored(trainer: str, metric: str, scores: Any) -> dict[str, float]:
    """The validation scores as floats, whatever numbers they are. Raises TrainingError where they say nothing."""
    given = scores if isinstance(scores, Mapping) else {}
    if metric not in given:
        told = ", ".join(sorted(given)) or "none"
        raise TrainingError(f"trainer {trainer!r} gave no validation score {metric!r}; it gave {told}")
    try:
        found = {str(name): float(value) for name, value in given.items()}
    except (TypeError, ValueError) as error:
        raise TrainingError(f"trainer {trainer!r} gave a score that is no number: {error}") from error
    if not math.isfinite(found[metric]):
        raise TrainingError(f"trainer {trainer!r} gave {found[metric]} for {metric!r}: the fit came to nothing")
    return found


def _mode(metric: str) -> Mode:
    from mlops_core.metrics import METRICS  # numpy: only when there is work

    return METRICS[metric].mode


def _reporter(context: Context, stage: str) -> Any:
    def report(step: int, scores: Mapping[str, float]) -> None:
        context.tell("mlops_progress", stage=stage, step=step, scores=dict(scores))

    return report
