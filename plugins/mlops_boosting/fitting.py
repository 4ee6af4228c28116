"""A fit, from the frozen data to the model folder: grown leg by leg, so that a killed one goes on as the whole one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from mlops_boosting.options import Boosting
from mlops_boosting.progress import Progress, read_progress, read_start, write_progress
from mlops_boosting.table import Table, read
from mlops_boosting.trees import Ensemble, write_onnx
from mlops_core.contracts import Columns, Dataset, Goal, Job, Scores
from mlops_core.errors import TrainingError

PARITY = 1e-4


class Trees(Protocol):
    """What a fit asks of a library. Models are bytes in the library's own format, which holds no code."""

    def grow(self, model: bytes, rounds: int, seed: int, scored: Callable[[Callable[[], Any]], bool]) -> bytes:
        """The model after `rounds` more; b'' is the model of no round. After each it calls `scored` with what gives
        the answers on the validation split, and stops where that says so."""
        ...

    def answer(self, model: bytes, rounds: int) -> Any:
        """The library's own answers of the first rounds on the validation split."""
        ...

    def ensemble(self, model: bytes, rounds: int) -> Ensemble:
        """The trees of the first rounds."""
        ...


def fit(options: Any, library: Callable[[Any, Table, Job], Trees], dataset: Dataset, job: Job) -> Scores:
    """See `mlops_core.stages.Trainer.fit`."""
    from mlops_core import refuse_empty, refuse_metric

    refuse_metric(job.metric, dataset.task)
    refuse_empty(dataset)
    link = options.link(dataset.task)
    table = read(options, dataset)
    trees = library(options, table, job)
    model, progress = _grown(options, trees, table, job)
    if not progress.best:
        raise TrainingError(
            f"{job.metric} was never a finite number in {progress.rounds} rounds; "
            "look at the validation split: does it hold every class?"
        )
    _leave(trees.ensemble(model, progress.best), link, table, dataset, job, progress)
    scores = _scores(table, _checked(trees.answer(model, progress.best), table, job))
    if job.start is not None and progress.rounds >= options.rounds:
        for file in job.scratch.iterdir():  # there is nothing to go on with
            file.unlink()
    return scores


def _grown(options: Boosting, trees: Trees, table: Table, job: Job) -> tuple[bytes, Progress]:
    """The model after its last round, and which round was its best.

    A leg begins from the bytes of the model alone, with a seed of its own, whether it follows another or a kill: both
    libraries sum anew when they go on with a model, so a fit in one piece would leave other trees than a resumed one.
    """
    model, progress = read_progress(job.scratch)
    end = options.rounds
    if job.start is not None:
        if not model and job.start.scratch is not None:
            model, progress = read_start(job.start.scratch)
        end = min(end, progress.began + job.start.steps)
        if progress.best and (progress.finished or progress.rounds >= end):
            job.report(progress.rounds, progress.scores)  # it was killed after its last round
    goal = Goal(metric=job.metric, mode=job.mode, seed=job.seed)

    def scored(answers: Callable[[], Any]) -> bool:
        nonlocal progress
        progress = dataclasses.replace(progress, rounds=progress.rounds + 1)
        if progress.rounds % options.score_rounds and progress.rounds < end:
            return False
        scores = _scores(table, _as_answer(table, answers()))
        progress = progress.after(scores, goal, patience=options.patience)
        job.report(progress.rounds, scores)
        return progress.finished

    while not progress.finished and progress.rounds < end:
        leg = min(options.checkpoint_rounds, end - progress.rounds)
        model = trees.grow(model, leg, _seed(job.seed, progress.rounds), scored)
        write_progress(job.scratch, model, progress)
    return model, progress


def _seed(seed: int, rounds: int) -> int:
    import numpy as np

    return int(np.random.SeedSequence((seed, rounds)).generate_state(1)[0] >> 1)  # the libraries take 31 bits


def _leave(ensemble: Ensemble, link: str, table: Table, dataset: Dataset, job: Job, progress: Progress) -> None:
    from mlops_core import ModelFile, save_onnx

    write_onnx(ensemble, table.encoder, link, job.out / "model.onnx")
    file = ModelFile(
        format="onnx",
        task=dataset.task,
        target=dataset.target,
        target_dtype=next(c.dtype for c in dataset.columns if c.name == dataset.target),
        classes=dataset.classes,
        extra={"rounds": progress.best, "trees": len(ensemble.trees)},
    )
    save_onnx(job.out, table.encoder, file)


def _checked(wanted: Any, table: Table, job: Job) -> Columns:
    """What the folder that was left answers on the validation split; refused where the library itself differs."""
    import numpy as np

    from mlops_core import load_onnx

    answer = load_onnx(job.out)(table.held_columns)
    name = "prediction" if table.task == "regression" else "probability"
    true = _as_answer(table, wanted)[name]
    apart = np.abs(answer[name] - true) / max(1.0, float(np.abs(true).max()))
    if not np.all(apart <= PARITY):
        rows = int((~(apart <= PARITY)).reshape(len(apart), -1).any(1).sum())
        (job.out / "model.onnx").unlink()
        raise TrainingError(
            f"the ONNX export differs from the trained model by up to {np.nanmax(apart):.2g} on {rows:,} of "
            f"{len(apart):,} validation rows (allowed: {PARITY:g}), so it is not kept; choose another trainer.layout"
        )
    return answer


def _as_answer(table: Table, raw: Any) -> Columns:
    """A library's answer as a predictor's: of two classes both give the second alone."""
    import numpy as np

    raw = np.asarray(raw, np.float64)
    if table.task == "regression":
        return {"prediction": raw.reshape(-1)}
    return {"probability": raw if raw.ndim == 2 else np.column_stack([1 - raw, raw])}


def _scores(table: Table, answer: Columns) -> dict[str, float]:
    from mlops_core import score

    return score(table.task, table.held_target, answer)
