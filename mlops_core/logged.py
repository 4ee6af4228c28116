"""What a line of the prediction log says, as typed rows.

    {"id", "time", "version", "rows", "features": {column: values}, "answer": {...}, ...}   rows that were answered
    {"id", "time", "version", "rows", "error": "..."}                                       a failure: no rows here

`hashed` holds keyed hashes of pii columns where they are kept; `numbers` the rows of the request that are left where
some were erased.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlops_core import segments
from mlops_core.contracts import Column, Signature, record, restore
from mlops_core.errors import StoreError

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger("mlops_core.windows")


@record
class Kept:
    """What the columns of one version's rows are, and whether those with role pii are kept as keyed hashes."""

    signature: Signature
    target_dtype: str
    pii: Literal["drop", "hash"] = "drop"

    @property
    def logged(self) -> tuple[Column, ...]:
        return tuple(c for c in self.signature.inputs if "pii" not in c.roles)

    @property
    def hashed(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.signature.inputs if "pii" in c.roles) if self.pii == "hash" else ()

    def named(self, name: str) -> str:
        """What our own column `name` is called beside the features."""
        return name + "_" * any(c.name == name for c in self.signature.inputs)


def kept(folder: Path, version: int) -> Kept:
    """Raises StoreError where the log does not say what this version's rows are."""
    path = folder / f"signature-{version}.json"
    try:
        found: Mapping[str, Any] = json.loads(path.read_bytes())
        return restore(Kept, found)
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} says what the logged rows of version {version} are, and cannot be read: {error}"
        ) from error


def answers(segment: Path) -> Iterator[dict[str, Any]]:
    """The lines that hold an answer. What is no line of ours is passed over, and told."""
    import orjson

    for number, line in enumerate(segments.lines(segment), 1):
        try:
            found = orjson.loads(line)
            found["id"], found["time"], found["version"], found["rows"]
            if "error" in found:
                continue
            found["features"], found["answer"]
        except (ValueError, KeyError, TypeError):
            log.warning("%s:%d: no logged prediction; passed over", segment, number)
            continue
        yield found


def numbers(line: Mapping[str, Any]) -> list[int]:
    """The rows of its request that a line holds."""
    found: list[int] = line.get("numbers") or list(range(line["rows"]))
    return found


def typed(lines: list[dict[str, Any]], kept: Kept) -> pl.DataFrame:
    """One row for each row that was answered: features, prediction, probability, hashes, id, time, version."""
    import polars as pl

    signature = kept.signature
    series = [_series(c, [v for line in lines for v in line["features"][c.name]]) for c in kept.logged]
    ids = [f"{line['id']}-{i}" for line in lines for i in numbers(line)]
    moments = [round(line["time"] * 1e6) for line in lines for _ in range(line["rows"])]
    versions = [line["version"] for line in lines for _ in range(line["rows"])]
    series.append(target([v for line in lines for v in line["answer"]["prediction"]], kept).alias("prediction"))
    if signature.classes:
        shares = [v for line in lines for v in line["answer"]["probability"]]
        series.append(pl.Series("probability", shares, pl.Array(pl.Float64, len(signature.classes))))
    for name in kept.hashed:
        found = [v for line in lines for v in line.get("hashed", {}).get(name, [None] * line["rows"])]
        series.append(pl.Series(f"{name}_hash", found, pl.String))
    series.append(pl.Series(kept.named("id"), ids, pl.String))
    series.append(pl.Series(kept.named("time"), moments, pl.Int64).cast(pl.Datetime("us")))
    series.append(pl.Series(kept.named("version"), versions, pl.Int64))
    return pl.DataFrame(series)


def target(values: list[Any], kept: Kept) -> pl.Series:
    """Predictions or labels in the dtype that the target has."""
    import polars as pl

    if kept.signature.task == "regression":
        return pl.Series("target", values, pl.Float64)
    whole = kept.target_dtype.startswith(("int", "uint"))
    kind = pl.Int64 if whole else pl.Boolean if kept.target_dtype == "boolean" else pl.String
    return pl.Series("target", values, kind)


def _series(column: Column, values: list[Any]) -> pl.Series:
    import numpy as np
    import polars as pl

    if column.kind == "array":
        cells = np.array(values, np.float32).reshape(len(values), *column.shape)
        return pl.Series(column.name, cells, pl.Array(pl.Float32, column.shape))
    if column.kind == "time":
        moments = pl.Series(column.name, values, pl.String).str.to_datetime(time_unit="us")
        return moments.cast(pl.Date) if column.dtype == "date" else moments
    if column.dtype == "boolean" and column.kind in ("boolean", "number"):  # either is sent and kept as a number
        return pl.Series(column.name, values, pl.Float64).cast(pl.Boolean)
    if column.kind == "number":
        whole = column.dtype.startswith(("int", "uint"))
        return pl.Series(column.name, values, pl.Float64).cast(pl.Int64 if whole else pl.Float64)
    return pl.Series(column.name, values, pl.String)
