"""Features: what is learned from the train split, one code for training and serving, typed answers."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_core.contracts import Artifact, Column, Dataset, plain, restore
from mlops_core.errors import BundleError, DataError
from mlops_core.features import (
    CategoryFeature,
    Encoder,
    ModelFile,
    NumberFeature,
    load_onnx,
    read_split,
    target_values,
    to_columns,
    write_json,
)
from mlops_core.testing import make_bundle

COLUMNS = (
    Column(name="age", kind="number", dtype="int64"),
    Column(name="rate", kind="number", dtype="float64", nullable=False),
    Column(name="home", kind="category", dtype="string"),
    Column(name="job", kind="category", dtype="string", categories=("cook", "clerk")),
    Column(name="married", kind="boolean", dtype="boolean"),
    Column(name="since", kind="time", dtype="datetime"),
    Column(name="pixels", kind="array", dtype="array", shape=(2, 2)),
    Column(name="row", kind="number", dtype="int64", roles=("id",)),
    Column(name="status", kind="category", dtype="string", roles=("target",)),
)
TRAIN = pl.DataFrame(
    {
        "age": [20, None, 40, 60],
        "rate": [1.0, 1.0, 1.0, 1.0],
        "home": ["own", "rent", "rent", None],
        "job": ["clerk", "pilot", None, "cook"],
        "married": [True, False, None, True],
        "since": [datetime.datetime(1970, 1, 1, 0, 0, s) for s in (0, 10, 20)] + [None],
        "pixels": [[[1, 2], [3, 4]]] * 4,
        "row": [1, 2, 3, 4],
        "status": ["bad", "good", "good", "bad"],
    },
    schema_overrides={"pixels": pl.Array(pl.Float32, (2, 2))},
)


def dataset(folder: Path, frame: pl.DataFrame = TRAIN, columns: tuple[Column, ...] = COLUMNS, **fields: Any) -> Dataset:
    for split in ("train", "validation", "test"):
        frame.write_parquet(folder / f"{split}.parquet")
    facts = {"task": "binary", "target": "status", "classes": ("bad", "good")} | fields
    artifact = Artifact(address="a", sha256="b", size=1, files=3)
    return Dataset(name="t", artifact=artifact, path=folder, columns=columns, rows={"train": len(frame)}, **facts)


def test_the_encoder_learns_from_the_train_split_only(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    TRAIN.with_columns(age=pl.lit(1000)).write_parquet(data.split("validation"))
    found = Encoder.fit(data)
    age, rate, married, since = found.numbers
    assert (age.mean, age.scale, age.flag) == (40.0, 20.0, True)
    assert (rate.mean, rate.scale, rate.flag) == (1.0, 1.0, False)  # a constant keeps scale 1
    assert (married.name, married.flag) == ("married", True)
    assert (since.mean, since.scale) == (10.0, 10.0)
    assert found.categories == (
        CategoryFeature(name="home", values=("rent", "own")),  # most frequent first
        CategoryFeature(name="job", values=("cook", "clerk")),  # as the contract says
    )
    assert [a.name for a in found.arrays] == ["pixels"]


def test_split_layout(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    columns, target = read_split(data, "train")
    inputs = Encoder.fit(data).encode(columns)
    assert target.tolist() == [0, 1, 1, 0]
    assert {k: v.dtype.name for k, v in inputs.items()} == {
        "numbers": "float32",
        "categories": "int64",
        "pixels": "float32",
    }
    assert inputs["numbers"].shape == (4, Encoder.fit(data).width) == (4, 7)
    assert inputs["numbers"][:, 0].tolist() == [-1, 0, 0, 1]  # missing is the mean
    assert inputs["numbers"][:, 4].tolist() == [0, 1, 0, 0]  # and flagged
    assert inputs["categories"].tolist() == [[2, 2], [1, 0], [1, 0], [0, 1]]  # missing and never seen are 0
    assert inputs["pixels"].shape == (4, 2, 2)


def test_onehot_and_ordinal_layouts(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    columns, _ = read_split(data, "train")
    onehot, ordinal = Encoder.fit(data, layout="onehot"), Encoder.fit(data, layout="ordinal")
    matrix = onehot.encode(columns)["matrix"]
    assert matrix.shape == (4, onehot.width)
    assert matrix[:, 7:].tolist() == [[0, 1, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]
    raw = ordinal.encode(columns)["matrix"]
    assert raw.shape == (4, ordinal.width) == (4, 6)
    assert np.isnan(raw[1, 0])
    assert raw[:, 0].tolist()[2:] == [40.0, 60.0]
    assert raw[:, 4:].tolist() == [[2, 2], [1, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize("layout", ["split", "onehot", "ordinal"])
def test_a_row_alone_is_encoded_as_among_others(layout: Any, tmp_path: Path) -> None:
    data = dataset(tmp_path)
    encoder = restore(Encoder, json.loads(json.dumps(plain(Encoder.fit(data, layout=layout)))))
    columns, _ = read_split(data, "train")
    whole = encoder.encode(columns)
    for i in range(4):
        alone = encoder.encode({k: v[i : i + 1] for k, v in columns.items()})
        for name, value in alone.items():
            np.testing.assert_array_equal(value[0], whole[name][i])


def test_only_categories_or_only_numbers_have_no_other_input(tmp_path: Path) -> None:
    columns = (COLUMNS[2], COLUMNS[-1])
    words = dataset(tmp_path, TRAIN.select("home", "status"), columns)
    given, _ = read_split(words, "train")
    assert set(Encoder.fit(words).encode(given)) == {"categories"}
    assert Encoder.fit(words, layout="onehot").encode(given)["matrix"].shape == (4, 2)
    numbers = dataset(tmp_path, TRAIN.select("rate", "status"), (COLUMNS[1], COLUMNS[-1]))
    given, _ = read_split(numbers, "train")
    assert set(Encoder.fit(numbers).encode(given)) == {"numbers"}


@pytest.mark.parametrize("name", ["note", "len"])
def test_free_text_is_no_feature(name: str, tmp_path: Path) -> None:
    column = Column(name=name, kind="text", dtype="string")
    frame = pl.DataFrame({name: [f"n{i}" for i in range(101)], "status": ["bad"] * 101})
    with pytest.raises(
        DataError, match=rf"column '{name}' is free text \(over 100 different values\), which is no feature"
    ):
        Encoder.fit(dataset(tmp_path, frame, (column, COLUMNS[-1])))
    assert len(Encoder.fit(dataset(tmp_path, frame.head(100), (column, COLUMNS[-1]))).categories[0].values) == 100


def test_columns_of_a_frame() -> None:
    found = to_columns(TRAIN, COLUMNS[:-2])
    assert found["age"].dtype == np.float64
    assert np.isnan(found["age"][1])
    assert found["home"].tolist() == ["own", "rent", "rent", None]
    assert found["married"].tolist()[:2] == [1.0, 0.0]
    assert found["since"].dtype == "datetime64[us]"
    assert np.isnat(found["since"][3])
    assert found["pixels"].tolist() == [[[1, 2], [3, 4]]] * 4
    lists = TRAIN.with_columns(pl.Series("pixels", [[1, 2, 3, 4]] * 4, dtype=pl.List(pl.Int64)))
    assert to_columns(lists, COLUMNS[6:7])["pixels"].tolist() == [[[1, 2], [3, 4]]] * 4


def test_targets(tmp_path: Path) -> None:
    assert target_values(TRAIN, dataset(tmp_path)).tolist() == [0, 1, 1, 0]
    values = dataset(tmp_path, task="regression", target="rate", classes=())
    assert target_values(TRAIN, values).tolist() == [1.0] * 4
    numbers = dataset(tmp_path, target="row", classes=("1", "2", "3", "4"), task="multiclass")
    assert target_values(TRAIN, numbers).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("dtype", "classes", "expected"),
    [("string", ("a", "b"), ["b", "a"]), ("int64", ("0", "7"), [7, 0]), ("boolean", ("false", "true"), [True, False])],
)
def test_answers_have_the_type_of_the_target(dtype: str, classes: tuple[str, ...], expected: list[Any]) -> None:
    model = ModelFile(format="onnx", task="binary", target="t", target_dtype=dtype, classes=classes)
    answer = model.answer(np.array([[0.2, 0.8], [0.6, 0.4]]))
    assert answer["prediction"].tolist() == expected
    assert [type(v) for v in answer["prediction"].tolist()] == [type(v) for v in expected]
    value = ModelFile(format="onnx", task="regression", target="t").answer(np.array([[1.5], [2.5]], np.float32))
    assert value["prediction"].tolist() == [1.5, 2.5]
    assert set(value) == {"prediction"}


def test_a_model_file_comes_back_and_damage_is_told(tmp_path: Path) -> None:
    model = ModelFile(format="own", task="multiclass", target="t", classes=("a", "b", "c"), extra={"k": [1]})
    model.write(tmp_path)
    assert ModelFile.read(tmp_path) == model
    first = (tmp_path / "model.json").read_bytes()
    model.write(tmp_path)
    assert (tmp_path / "model.json").read_bytes() == first
    for text in ("{", "[]", "{}"):
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(BundleError, match=r"model\.json is no model description"):
            ModelFile.read(tmp_path)
    with pytest.raises(BundleError, match="is no model description"):
        ModelFile.read(tmp_path / "none")


def test_an_onnx_folder_predicts_and_is_thread_safe(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    predict = load_onnx(make_bundle(tmp_path / "bundle", middle=1.0))
    sizes = np.linspace(-3, 3, 50)
    wanted = predict({"size": sizes})["prediction"].tolist()
    assert wanted == ["yes" if s > 1 else "no" for s in sizes]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda s: predict({"size": np.array([s])})["prediction"][0], sizes))
    assert answers == wanted


def test_json_is_written_alike(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": (1, 2), "a": NumberFeature(name="x")})
    write_json(tmp_path / "b.json", {"a": NumberFeature(name="x"), "b": [1, 2]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def encoded_plainly(encoder: Encoder, columns: dict[str, Any]) -> dict[str, Any]:
    """What the encoder promises, column by column, in the words of its docstring."""
    raw = {f.name: np.asarray(columns[f.name]).astype(np.float64) for f in encoder.numbers}
    codes = {
        c.name: [(*c.values,).index(v) + 1 if v in c.values else 0 for v in columns[c.name]] for c in encoder.categories
    }
    if encoder.layout == "ordinal":
        parts = [*raw.values(), *(np.array(c, np.float64) for c in codes.values())]
        return {"matrix": np.stack(parts, 1).astype(np.float32)} if parts else {}
    numbers = [np.where(np.isnan(raw[f.name]), 0.0, (raw[f.name] - f.mean) / f.scale) for f in encoder.numbers]
    numbers += [np.isnan(raw[f.name]) for f in encoder.numbers if f.flag]
    if encoder.layout == "onehot":
        hot = [np.array(codes[c.name]) == i for c in encoder.categories for i in range(1, len(c.values) + 1)]
        return {"matrix": np.stack([*numbers, *hot], 1).astype(np.float32)} if numbers or hot else {}
    found = {"numbers": np.stack(numbers, 1).astype(np.float32)} if numbers else {}
    return found | ({"categories": np.array(list(codes.values()), np.int64).T} if codes else {})


@pytest.mark.parametrize("layout", ["split", "onehot", "ordinal"])
@pytest.mark.parametrize("seed", range(8))
def test_encoding_at_once_gives_the_same_bits_as_column_by_column(layout: Any, seed: int) -> None:
    draw = np.random.default_rng(seed)
    n = int(draw.integers(0, 40))
    numbers = [
        NumberFeature(name=f"n{i}", mean=draw.normal(), scale=0.3 + i, flag=bool(i % 2)) for i in range(seed % 5)
    ]
    words = [CategoryFeature(name=f"c{i}", values=tuple("abcdef"[: i + 1])) for i in range(seed // 2)]
    columns: dict[str, Any] = {f.name: draw.normal(size=n) * 10.0 ** draw.integers(-3, 9) for f in numbers}
    for values in columns.values():
        values[draw.random(n) < 0.3] = np.nan
    columns |= {c.name: draw.choice(np.array([*"abcdefz", None], object), n) for c in words}
    encoder = Encoder(numbers=tuple(numbers), categories=tuple(words), layout=layout)
    found, wanted = encoder.encode(columns), encoded_plainly(encoder, columns)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert value.flags.c_contiguous and (value.dtype, value.shape) == (wanted[name].dtype, wanted[name].shape)
        assert value.tobytes() == np.ascontiguousarray(wanted[name]).tobytes()
