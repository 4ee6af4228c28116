"""From columns to what a network takes, and back: one code for training and serving.

A model folder holds `model.json` (a `ModelFile`), and for format `onnx` also `model.onnx` and `encoder.json`;
`load_onnx` needs nothing but numpy and onnxruntime. Column arrays: float64 for numbers (missing is NaN),
object for categories and text (missing is None), datetime64[us] for times, n x shape float32 for arrays.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlops_core.contracts import Column, Columns, Dataset, Predict, SplitName, Task, field, plain, record, restore
from mlops_core.errors import BundleError, DataError, TrainingError

if TYPE_CHECKING:
    import polars as pl

Layout = Literal["split", "onehot", "ordinal"]


@record
class NumberFeature:
    """A number, boolean or time, standardised: (x - mean) / scale. `flag` adds an is-missing column."""

    name: str
    mean: float = 0.0
    scale: float = 1.0
    flag: bool = False


@record
class CategoryFeature:
    """A category: code 0 is missing or never seen, code i is values[i - 1]."""

    name: str
    values: tuple[str, ...]


@record
class ArrayFeature:
    """An array column, passed as it is, float32."""

    name: str
    shape: tuple[int, ...]


@record
class Encoder:
    """What was fitted on the train split, and how columns are laid out for the model.

    layout `split`: inputs `numbers` float32 [n, numbers + flags] (missing is 0) and `categories` int64 [n, c];
    layout `onehot`: input `matrix` float32 [n, d], numbers, flags, then one column per category value;
    layout `ordinal`: input `matrix` float32 [n, d], raw numbers (missing stays NaN), then category codes.
    Array columns come beside, each under its own name.
    """

    numbers: tuple[NumberFeature, ...] = ()
    categories: tuple[CategoryFeature, ...] = ()
    arrays: tuple[ArrayFeature, ...] = ()
    layout: Layout = "split"

    @property
    def width(self) -> int:
        """Columns of `numbers` (split) or `matrix` (onehot, ordinal)."""
        if self.layout == "ordinal":
            return len(self.numbers) + len(self.categories)
        base = len(self.numbers) + sum(f.flag for f in self.numbers)
        return base + (sum(len(c.values) for c in self.categories) if self.layout == "onehot" else 0)

    def encode(self, columns: Columns) -> dict[str, Any]:
        """The model's inputs for these rows; see the class for names, shapes and types."""
        return self.ready()(columns)

    def ready(self) -> Callable[[Columns], dict[str, Any]]:
        """`encode` for many calls: what does not depend on the rows is laid out once."""
        return _Encoding(self).encode

    @classmethod
    def fit(cls, dataset: Dataset, layout: Layout = "split", max_categories: int = 100) -> Encoder:
        """Learns means, scales and categories from the train split, streaming. Raises DataError where a
        feature is text of more than `max_categories` values in a column that is not declared a category."""
        import polars as pl

        frame = pl.scan_parquet(dataset.split("train"))
        features = dataset.having("feature")
        numeric = [c for c in features if c.kind in ("number", "boolean", "time")]
        exprs = []
        for c in numeric:
            value = _as_number(pl.col(c.name), c)
            exprs += [
                value.mean().alias(f"{c.name}:mean"),
                value.std().alias(f"{c.name}:std"),
                pl.col(c.name).null_count().alias(f"{c.name}:null"),
            ]
        stats = frame.select(exprs).collect(engine="streaming").row(0, named=True) if exprs else {}
        numbers = tuple(
            NumberFeature(
                name=c.name,
                mean=stats[f"{c.name}:mean"] or 0.0,
                scale=stats[f"{c.name}:std"] or 1.0,
                flag=bool(stats[f"{c.name}:null"]),
            )
            for c in numeric
        )
        categories = tuple(cls._category(frame, c, max_categories) for c in features if c.kind in ("category", "text"))
        arrays = tuple(ArrayFeature(name=c.name, shape=c.shape) for c in features if c.kind == "array")
        return cls(numbers=numbers, categories=categories, arrays=arrays, layout=layout)

    @staticmethod
    def _category(frame: pl.LazyFrame, column: Column, limit: int) -> CategoryFeature:
        import polars as pl

        if column.categories:
            return CategoryFeature(name=column.name, values=column.categories)
        text = frame.select(value=pl.col(column.name).cast(pl.String)).drop_nulls()
        counts = text.group_by("value").len().sort(["len", "value"], descending=[True, False])
        found = counts.head(limit + 1).collect(engine="streaming")["value"].to_list()
        if column.kind == "text" and len(found) > limit:
            raise DataError(
                f"column {column.name!r} is free text (over {limit} different values), which is no feature; "
                "give it role 'ignore' or 'id' in the contract, or kind 'category'"
            )
        return CategoryFeature(name=column.name, values=tuple(found[:limit]))


class _Encoding:
    """An encoder's constants as arrays: all numbers are encoded at once, then all categories."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        numbers = encoder.numbers
        self.width = encoder.width
        self.names = [f.name for f in numbers]
        self.mean = np.array([[f.mean] for f in numbers], np.float64)
        self.scale = np.array([[f.scale] for f in numbers], np.float64)
        self.flagged = [i for i, f in enumerate(numbers) if f.flag]
        onehot = encoder.layout == "onehot"
        first = len(numbers) + len(self.flagged) if onehot else 1
        self.missing = -1 if onehot else 0
        self.codes: list[tuple[str, dict[str, int]]] = []
        for c in encoder.categories:
            self.codes.append((c.name, {v: i for i, v in enumerate(c.values, first)}))
            first += len(c.values) if onehot else 0

    def encode(self, columns: Columns) -> dict[str, Any]:
        encoder = self.encoder
        inputs = {a.name: np.ascontiguousarray(np.asarray(columns[a.name], np.float32)) for a in encoder.arrays}
        if encoder.layout == "split":
            if encoder.numbers:
                inputs["numbers"] = _float32(self._standard(columns))
            if encoder.categories:
                inputs["categories"] = np.ascontiguousarray(self._codes(columns).T)
        elif encoder.numbers or encoder.categories:
            inputs["matrix"] = self._onehot(columns) if encoder.layout == "onehot" else self._ordinal(columns)
        return inputs

    def _raw(self, columns: Columns) -> Any:
        """The numbers as they are, a row for each feature, float64."""
        given = [columns[name] for name in self.names]
        try:
            flat = np.concatenate(given, dtype=np.float64, casting="same_kind")
        except TypeError:  # a time, or None for a missing number
            flat = np.concatenate([_number(values) for values in given])
        return flat.reshape(len(given), -1)

    def _standard(self, columns: Columns) -> Any:
        """The numbers standardised, missing ones 0, then the flags."""
        values = self._raw(columns)
        missing = np.isnan(values)
        values -= self.mean
        values /= self.scale
        values[missing] = 0.0
        return np.concatenate([values, missing[self.flagged]]) if self.flagged else values

    def _codes(self, columns: Columns) -> Any:
        """The categories' codes, a row for each feature; in `onehot` the column that is 1, or -1."""
        none = self.missing
        return np.array([[index.get(v, none) for v in columns[name]] for name, index in self.codes], np.int64)

    def _onehot(self, columns: Columns) -> Any:
        if not self.codes:
            return _float32(self._standard(columns))
        codes = self._codes(columns)
        matrix = np.zeros((codes.shape[1], self.width), np.float32)
        if self.encoder.numbers:
            numbers = self._standard(columns)
            matrix[:, : len(numbers)] = numbers.T
        hot = codes + np.arange(len(matrix)) * self.width
        matrix.reshape(-1)[hot[codes >= 0]] = 1.0
        return matrix

    def _ordinal(self, columns: Columns) -> Any:
        parts = [self._raw(columns)] if self.encoder.numbers else []
        parts += [self._codes(columns).astype(np.float64)] if self.codes else []
        return _float32(np.concatenate(parts))


@record
class ModelFile:
    """`model.json`: what stands in a model folder.

    format `onnx`: `model.onnx` takes the encoder's inputs; for classification its output `probability` is
    [n, classes], for regression its output `prediction` is [n] or [n, 1]. Any other format is loaded by the
    trainer named in the bundle. `extra` is the trainer's own.
    """

    format: str
    task: Task
    target: str
    target_dtype: str = "string"
    classes: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        write_json(folder / "model.json", self)

    @classmethod
    def read(cls, folder: Path) -> ModelFile:
        try:
            return restore(cls, json.loads((folder / "model.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise BundleError(f"{folder / 'model.json'} is no model description: {error}") from error

    def answer(self, raw: Any) -> Columns:
        """Predictor output from probabilities [n, k] or values: `prediction`, and `probability` where it has one."""
        if self.task == "regression":
            return {"prediction": np.asarray(raw, np.float64).reshape(-1)}
        raw = np.asarray(raw)
        return {"prediction": _labels(self.classes, self.target_dtype)[raw.argmax(1)], "probability": raw}


def save_onnx(folder: Path, encoder: Encoder, model: ModelFile) -> None:
    """Writes what `load_onnx` needs beside `model.onnx`, which the trainer has written."""
    write_json(folder / "encoder.json", encoder)
    model.write(folder)


def load_onnx(folder: Path, threads: int = 1) -> Predict:
    """The predictor of a folder of format `onnx`. Thread-safe."""
    import onnxruntime as ort

    model = ModelFile.read(folder)
    encode = restore(Encoder, json.loads((folder / "encoder.json").read_text())).ready()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    wanted = [i.name for i in session.get_inputs()]
    output = "prediction" if model.task == "regression" else "probability"

    def predict(columns: Columns) -> Columns:
        inputs = encode(columns)
        return model.answer(session.run([output], {name: inputs[name] for name in wanted})[0])

    return predict


def to_columns(frame: pl.DataFrame, columns: tuple[Column, ...]) -> Columns:
    """The named columns of a polars frame as predictor input."""
    import polars as pl

    found: dict[str, Any] = {}
    for c in columns:
        series = frame[c.name]
        if c.kind == "array":
            flat = series.explode() if isinstance(series.dtype, pl.List) else series.reshape((-1,))
            found[c.name] = flat.to_numpy().astype(np.float32).reshape(len(series), *c.shape)
        elif c.kind == "time":
            found[c.name] = series.cast(pl.Datetime("us")).to_numpy()
        elif c.kind in ("number", "boolean"):
            found[c.name] = series.cast(pl.Float64).to_numpy()
        else:
            found[c.name] = np.array(series.cast(pl.String).to_list(), object)
    return found


def target_values(frame: pl.DataFrame, dataset: Dataset) -> Any:
    """The target of these rows: class indices (int64) or values (float64)."""
    import polars as pl

    series = frame[dataset.target]
    if dataset.task == "regression":
        return series.cast(pl.Float64).to_numpy()
    index = {name: i for i, name in enumerate(dataset.classes)}
    return np.array([index[v] for v in series.cast(pl.String).to_list()], np.int64)


def refuse_empty(dataset: Dataset) -> None:
    """Raises TrainingError where a trainer has nothing to learn from, or to be judged by."""
    for split in ("train", "validation"):
        if not dataset.rows[split]:
            raise TrainingError(f"the {split} split has no rows; give the data more rows or change data.split")
    if not dataset.having("feature"):
        raise TrainingError("the data has no feature column; see the roles in the contract")


def read_split(dataset: Dataset, split: SplitName) -> tuple[Columns, Any]:
    """One split in memory: feature columns and target. For data that fits; trainers stream what does not."""
    import polars as pl

    frame = pl.read_parquet(dataset.split(split))
    return to_columns(frame, dataset.having("feature")), target_values(frame, dataset)


def write_json(path: Path, value: Any) -> None:
    """Plain data or a record as sorted, indented JSON: the same value gives the same bytes."""
    path.write_text(json.dumps(plain(value), indent=1, sort_keys=True) + "\n")


@functools.lru_cache(maxsize=64)
def _labels(classes: tuple[str, ...], dtype: str) -> Any:
    return np.array([_typed(c, dtype) for c in classes], object)


def _typed(label: str, dtype: str) -> Any:
    if dtype.startswith(("int", "uint")):
        return int(label)
    return label == "true" if dtype == "boolean" else label


def _as_number(value: Any, column: Column) -> Any:
    import polars as pl

    if column.kind == "time":
        return value.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    return value.cast(pl.Float64)


def _number(values: Any) -> Any:
    array = np.asarray(values)
    if array.dtype.kind == "M":
        seconds = array.astype("datetime64[us]").astype(np.int64) / 1e6
        return np.where(np.isnat(array), np.nan, seconds)
    return array.astype(np.float64, copy=False)


def _float32(rows: Any) -> Any:
    """Features in rows become features in columns, as the model takes them."""
    return rows.T.astype(np.float32, order="C")
