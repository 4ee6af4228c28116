"""What a trainer promises."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops_core.contracts import Columns, Dataset, Job, Predict, Pruned, Scores, Start, Task
from mlops_core.errors import MlopsError
from mlops_core.features import ModelFile, load_onnx, target_values, to_columns
from mlops_core.metrics import METRICS, score
from mlops_core.testing.promises import BrokenPromise, broken, check_options, inside, nothing_written, promise, snapshot
from mlops_core.testing.samples import make_dataset

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
METRIC: Mapping[Task, str] = {"binary": "auroc", "multiclass": "log_loss", "regression": "rmse"}


def check_trainer(
    trainer: Any,
    folder: Path,
    *,
    tasks: Sequence[Task] = TASKS,
    dataset: Dataset | None = None,
    tolerance: float = 1e-3,
) -> None:
    """Checks the trainer `trainer` on a small data set for each of `tasks`, with `folder` (tmp_path) to work in.

    The data have numbers and a category with missing values, and a boolean. `dataset`: one of your own
    instead. `tolerance`: how far the returned scores may be from those of the model that is left.
    """
    check_options(trainer)
    found = [dataset] if dataset else [make_dataset(folder / task / "data", task) for task in tasks]
    for one in found:
        _check(trainer, folder / one.task, one, tolerance)


def _check(trainer: Any, folder: Path, dataset: Dataset, tolerance: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / "hidden-test.parquet"
    shutil.move(dataset.split("test"), hidden)
    fit = _Fit(trainer, dataset, folder)
    try:
        with inside(folder / "elsewhere") as here, nothing_written(here, dataset.path, doing="fit"):
            scores = fit("first")
            fit.check_reports()
            model = _moved(folder / "first" / "out", folder / "moved")
            fit("second")
            _check_same(model, folder / "second" / "out")
        with inside(folder / "elsewhere") as here, nothing_written(here, model, doing="a predictor"):
            _check_model(trainer, model, dataset, scores, tolerance)
        fit.check_pruned()
        if getattr(trainer, "continues", ()):
            fit.check_legs()
    finally:
        shutil.move(hidden, dataset.split("test"))


class _Fit:
    """Fits the trainer into folders of its own, and listens to what it reports."""

    def __init__(self, trainer: Any, dataset: Dataset, folder: Path) -> None:
        self.trainer, self.dataset, self.folder = trainer, dataset, folder
        self.metric = METRICS[METRIC[dataset.task]]
        self.reports: list[tuple[int, dict[str, float]]] = []

    def __call__(
        self, name: str, report: Callable[[int, Scores], None] | None = None, start: Start | None = None
    ) -> dict[str, float]:
        out, scratch = self.folder / name / "out", self.folder / name / "scratch"
        out.mkdir(parents=True)
        scratch.mkdir()
        job = Job(
            out=out,
            scratch=scratch,
            project=self.folder / "elsewhere",
            seed=7,
            metric=self.metric.name,
            mode=self.metric.mode,
            report=report or self._listen,
            start=start,
        )
        try:
            scores = self.trainer.fit(self.dataset, job)
        except (MlopsError, OSError) as error:
            if "test.parquet" in str(error):
                raise BrokenPromise(f"fit() must never touch the test split; it raised {error}") from error
            raise
        promise(isinstance(scores, Mapping), f"fit() must return the validation scores, not {type(scores).__name__}")
        return _finite(scores, self.metric.name, "fit() returned")

    def _listen(self, step: int, scores: Scores) -> None:
        self.reports.append((step, dict(scores)))

    def check_reports(self) -> None:
        promise(self.reports, "fit() must call job.report(step, scores) at least once: a tuner judges and prunes by it")
        steps = [s for s, _ in self.reports]
        whole = all(isinstance(s, int) and not isinstance(s, bool) for s in steps)
        promise(whole and steps == sorted(set(steps)), f"report() must get whole steps that grow, got {steps[:10]}")
        for _, scores in self.reports:
            _finite(scores, self.metric.name, "report() got")

    def check_legs(self) -> None:
        """A trainer that says what it `continues` ends where it is told, and goes on from there."""
        self.reports.clear()
        self("leg", start=Start(steps=2))
        made = [s for s, _ in self.reports]
        promise(made[-1:] <= [2], f"a leg must end after the steps of its start, 2; it made {made}")
        scratch = self.folder / "leg" / "scratch"
        left = snapshot(scratch)
        if not left:  # it had no more to make
            return
        promise(made[-1:] == [2], f"a fit that ends before its leg must leave no checkpoint in scratch; it made {made}")
        self.reports.clear()
        self("next leg", start=Start(steps=2, scratch=scratch, after=0))
        more = [s for s, _ in self.reports]
        promise(
            more and more[0] > 2 and more[-1] <= 4,
            f"a leg must count its steps on from those of the one before, 3 and 4; it made {more}",
        )
        promise(snapshot(scratch) == left, "a leg must not write where it goes on from")

    def check_pruned(self) -> None:
        """What a tuner raises in `report` to end a trial comes out of `fit` as it is."""

        def prune(step: int, scores: Scores) -> None:
            raise Pruned

        try:
            self("pruned", prune)
        except Pruned:
            return
        except Exception as error:
            kind = type(error).__name__
            raise BrokenPromise(
                f"Pruned, raised by report(), must pass through fit(); it came out as {kind}"
            ) from error
        broken("Pruned, raised by report(), must pass through fit(); fit() went on and returned")


def _finite(scores: Mapping[str, Any], metric: str, what: str) -> dict[str, float]:
    promise(metric in scores, f"{what} no {metric!r}, the metric of the job; it has {', '.join(scores) or 'nothing'}")
    for name, value in scores.items():
        number = isinstance(value, int | float | np.floating) and math.isfinite(value)
        promise(number, f"{what} {name!r} = {value!r}; scores are finite numbers")
    return {k: float(v) for k, v in scores.items()}


def _moved(out: Path, to: Path) -> Path:
    """The model elsewhere, for a bundle is another place: it must not need the folder where it was made."""
    shutil.copytree(out, to)
    return to


def _check_same(first: Path, second: Path) -> None:
    old, new = snapshot(first), snapshot(second)
    promise(old.keys() == new.keys(), f"two fits must leave the same files; they left {sorted(old)} and {sorted(new)}")
    for name in old:
        promise(
            old[name] == new[name],
            f"the same seed and data must give the same bytes; {name!r} differs between two fits",
        )


def _check_model(trainer: Any, model: Path, dataset: Dataset, scores: Mapping[str, float], tolerance: float) -> None:
    import polars as pl

    promise((model / "model.json").exists(), "fit() must leave model.json in job.out (mlops_core.ModelFile)")
    file = ModelFile.read(model)
    for name in ("task", "target", "classes"):
        wanted, found = getattr(dataset, name), getattr(file, name)
        promise(found == wanted, f"model.json says {name} {found!r}, the data set has {wanted!r}")
    predict: Predict = load_onnx(model) if file.format == "onnx" else trainer.load(model)
    frame = pl.read_parquet(dataset.split("validation"))
    columns = {k: np.array(v) for k, v in to_columns(frame, dataset.having("feature")).items()}
    answer = _check_answer(predict, columns, dataset, len(frame))
    _check_alone(predict, columns, dataset, answer)
    _check_unseen(predict, columns, dataset, len(frame))
    again = score(dataset.task, target_values(frame, dataset), answer, [n for n in scores if n in METRICS])
    for name, value in again.items():
        near = abs(value - scores[name]) <= tolerance * max(1.0, abs(value))
        promise(
            near,
            f"fit() returned {name} {scores[name]:.6g}; the model that is left has {value:.6g} on the validation split",
        )


def _check_answer(predict: Predict, columns: Columns, dataset: Dataset, rows: int) -> Columns:
    before = {k: np.copy(v) for k, v in columns.items()}
    answer = predict(columns)
    for name, old in before.items():
        same = all(
            a is b or a == b or (a != a and b != b) for a, b in zip(old.ravel(), np.ravel(columns[name]), strict=True)
        )
        promise(same, f"a predictor must not change the columns it is given; it changed {name!r}")
    promise(isinstance(answer, Mapping) and "prediction" in answer, "a predictor must return columns with 'prediction'")
    prediction = np.asarray(answer["prediction"])
    promise(
        prediction.shape == (rows,),
        f"'prediction' must have one value per row, [{rows}]; its shape is {prediction.shape}",
    )
    if dataset.task == "regression":
        promise(prediction.dtype.kind == "f" and np.isfinite(prediction).all(), "'prediction' must be finite floats")
        return answer
    promise("probability" in answer, "a classifier's predictor must return 'probability' beside 'prediction'")
    shares, shape = np.asarray(answer["probability"]), (rows, len(dataset.classes))
    promise(shares.shape == shape, f"'probability' must be [rows, classes] {shape}; its shape is {shares.shape}")
    promise(np.isfinite(shares).all() and (shares >= 0).all(), "'probability' must be finite and not negative")
    promise(
        np.allclose(shares.sum(1), 1, atol=1e-3),
        f"'probability' must sum to 1 per row; sums go up to {shares.sum(1).max():.4g}",
    )
    best = [dataset.classes[i] for i in shares.argmax(1)]
    promise([str(p) for p in prediction] == best, "'prediction' must be the class of the largest 'probability'")
    return answer


def _check_alone(predict: Predict, columns: Columns, dataset: Dataset, answer: Columns) -> None:
    """A row has one answer, alone or among others: serving sends rows one by one."""
    what = "prediction" if dataset.task == "regression" else "probability"
    one = np.asarray(predict({k: v[:1] for k, v in columns.items()})[what], float)
    near = np.allclose(one, np.asarray(answer[what], float)[:1], rtol=1e-3, atol=1e-4)
    promise(
        near, f"a row must get the same {what!r} alone as among others: {one.tolist()}, {np.asarray(answer[what])[0]}"
    )


def _check_unseen(predict: Predict, columns: Columns, dataset: Dataset, rows: int) -> None:
    """Nothing but missing values, and a category that training never saw."""
    strange = dict(columns)
    for column in dataset.having("feature"):
        if column.kind in ("category", "text"):
            strange[column.name] = np.array(["never seen"] * rows, object)
        elif column.kind == "number" and column.nullable:
            strange[column.name] = np.full(rows, np.nan)
    try:
        _check_answer(predict, strange, dataset, rows)
    except BrokenPromise as error:
        raise BrokenPromise(f"with missing numbers and unseen categories: {error}") from error
    except Exception as error:
        kind = type(error).__name__
        raise BrokenPromise(
            f"a predictor must answer rows with missing numbers and unseen categories, not raise {kind}: {error}"
        ) from error
