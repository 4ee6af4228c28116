"""Trainer `sklearn`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlops_core.contracts import Columns, Dataset, Job, Predict, Scores, restore
from mlops_core.errors import TrainingError
from mlops_tabular.export import NotExpressible, to_onnx
from mlops_tabular.lookup import estimator_class, fitting_params

if TYPE_CHECKING:
    from mlops_core import Encoder

PARITY = 1e-4


@dataclass(frozen=True)
class Sklearn:
    """Any scikit-learn classifier or regressor, by name.

    The fitted estimator is exported to ONNX and compared with itself on the validation split: where any answer
    differs, no model is left. An estimator that ONNX cannot express is left as a pickle, and only if the
    declaration says so (trust: [pickle]).

    estimator: a name (LogisticRegression), an import path in scikit-learn (sklearn.svm.SVC), or a name without its
        ending (HistGradientBoosting, RandomForest), which becomes the classifier or the regressor, as the task asks
    params: the estimator's own parameters; a search space names one as trainer.params.max_depth
    layout: how columns become numbers; onehot standardises numbers and gives each category a column, ordinal keeps
        numbers and gives each category a code, auto takes ordinal for trees that know missing values
    """

    estimator: str = "HistGradientBoosting"
    params: Mapping[str, Any] = field(default_factory=dict)
    layout: Literal["auto", "onehot", "ordinal"] = "auto"

    def fit(self, dataset: Dataset, job: Job) -> Scores:
        from mlops_core import Encoder, read_split, refuse_empty, refuse_metric, score

        refuse_metric(job.metric, dataset.task)
        refuse_empty(dataset)
        made = self._made(dataset, job)
        encoder = Encoder.fit(dataset, layout=self._layout(made, dataset))
        columns, target = read_split(dataset, "train")
        self._fit(made, _matrix(encoder, columns), target, dataset, job)
        self._leave(made, encoder, dataset, job)
        columns, target = read_split(dataset, "validation")
        scores = score(dataset.task, target, self._checked(made, encoder, columns, job.out))
        job.report(1, scores)
        return scores

    def load(self, path: Path) -> Predict:
        """The predictor of a pickled model. Whoever calls this trusts the folder: a pickle runs code."""
        import json

        import joblib

        from mlops_core import Encoder, ModelFile

        model = ModelFile.read(path)
        encoder = restore(Encoder, json.loads((path / "encoder.json").read_text()))
        fitted = joblib.load(path / "model.joblib")
        return lambda columns: model.answer(_answer(fitted, _matrix(encoder, columns), model.task))

    def _made(self, dataset: Dataset, job: Job) -> Any:
        cls = estimator_class(self.estimator, dataset.task)
        params = fitting_params(cls, self.params)
        known = cls().get_params(deep=False)
        if "random_state" in known:
            params.setdefault("random_state", job.seed)
        if "n_jobs" in known and job.resources.get("cpus"):
            params.setdefault("n_jobs", _threads(job))
        made = cls(**params)
        if dataset.task != "regression" and not hasattr(made, "predict_proba"):
            raise TrainingError(f"{cls.__name__} gives no probabilities (no predict_proba); choose one that does")
        return made

    def _layout(self, made: Any, dataset: Dataset) -> Literal["onehot", "ordinal"]:
        if self.layout != "auto":
            return self.layout
        return "ordinal" if type(made).__name__.startswith("HistGradientBoosting") else "onehot"

    def _fit(self, made: Any, matrix: Any, target: Any, dataset: Dataset, job: Job) -> None:
        import numpy as np
        from threadpoolctl import threadpool_limits

        weight = _weights(dataset)
        try:
            with warnings.catch_warnings(), threadpool_limits(_threads(job)):
                # A search tries points that do not converge; the score says so.
                warnings.simplefilter("ignore")
                made.fit(matrix, target, **({} if weight is None else {"sample_weight": weight}))
        except (ValueError, TypeError) as error:
            raise TrainingError(f"{type(made).__name__} cannot be fitted: {error}") from error
        classes = getattr(made, "classes_", np.arange(len(dataset.classes)))
        if dataset.task != "regression" and len(classes) != len(dataset.classes):
            raise TrainingError(f"the train split holds {len(classes)} of {len(dataset.classes)} classes")

    def _leave(self, made: Any, encoder: Encoder, dataset: Dataset, job: Job) -> None:
        """Writes the model folder: ONNX, or a pickle where that is trusted and ONNX cannot."""
        from mlops_core import ModelFile, save_onnx, write_json

        dtype = next(c.dtype for c in dataset.columns if c.name == dataset.target)
        facts: dict[str, Any] = {"task": dataset.task, "target": dataset.target, "classes": dataset.classes}
        extra = {"estimator": type(made).__name__, "layout": encoder.layout}
        try:
            to_onnx(made, encoder, dataset.task, job.out / "model.onnx")
            save_onnx(job.out, encoder, ModelFile(format="onnx", target_dtype=dtype, extra=extra, **facts))
        except NotExpressible as error:
            if "pickle" not in job.trust:
                hint = "choose another estimator, or allow a pickle, which runs code when it is loaded: trust: [pickle]"
                raise TrainingError(f"ONNX cannot express {type(made).__name__} ({error}); {hint}") from error
            import joblib

            joblib.dump(made, job.out / "model.joblib")
            write_json(job.out / "encoder.json", encoder)
            ModelFile(format="pickle", target_dtype=dtype, extra=extra, **facts).write(job.out)

    def _checked(self, made: Any, encoder: Encoder, columns: Columns, out: Path) -> Columns:
        """What the folder that was left answers on these rows; refused where the fitted estimator differs."""
        import numpy as np

        from mlops_core import ModelFile, load_onnx

        left = load_onnx(out) if (out / "model.onnx").exists() else self.load(out)
        answer = left(columns)
        name = "probability" if "probability" in answer else "prediction"
        wanted = _answer(made, _matrix(encoder, columns), ModelFile.read(out).task)
        apart = np.abs(answer[name] - wanted) / np.maximum(1.0, np.abs(wanted))
        if not np.all(apart <= PARITY):
            rows = int((~(apart <= PARITY)).reshape(len(apart), -1).any(1).sum())
            raise TrainingError(
                f"the ONNX export of {type(made).__name__} differs from the fitted estimator by up to "
                f"{np.nanmax(apart):.2g} on {rows:,} of {len(apart):,} validation rows (allowed: {PARITY:g}); "
                "choose another estimator or layout"
            )
        return answer


def _matrix(encoder: Encoder, columns: Columns) -> Any:
    """All inputs side by side, float32: the encoder's matrix, then the array columns."""
    import numpy as np

    inputs = encoder.encode(columns)
    parts = [inputs["matrix"]] if "matrix" in inputs else []
    parts += [inputs[a.name].reshape(len(inputs[a.name]), -1) for a in encoder.arrays]
    return np.concatenate(parts, 1)


def _answer(fitted: Any, matrix: Any, task: str) -> Any:
    return (
        fitted.predict(matrix).reshape(len(matrix), -1)[:, 0] if task == "regression" else fitted.predict_proba(matrix)
    )


def _threads(job: Job) -> int | None:
    """How many threads a fit may use where the job says what it was given; part of a core is one."""
    return max(1, int(job.resources["cpus"])) if job.resources.get("cpus") else None


def _weights(dataset: Dataset) -> Any:
    """The column of role weight on the train split, or None."""
    import polars as pl

    names = [c.name for c in dataset.having("weight")]
    if not names:
        return None
    return pl.read_parquet(dataset.split("train"), columns=names)[names[0]].fill_null(0).to_numpy()
