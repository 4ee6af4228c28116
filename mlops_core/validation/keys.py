"""Row keys: numbers by which a table is divided. The lowest keys go to train, the highest to test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_core.contracts import Split
from mlops_core.errors import DataError
from mlops_core.validation.dtypes import SIGNED, TIMES, UNSIGNED, dtype_name

if TYPE_CHECKING:
    import polars as pl

Keys = Callable[["pl.DataFrame", int], Any]


def mixed(rows: Any, seed: int) -> Any:
    """Row numbers (uint64) scattered over all of uint64, each onto its own (splitmix64, Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        z = rows + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def keys_of(split: Split, schema: Any) -> Keys:
    """(batch, number of its first row) -> a uint64 per row, the same on every machine and for every batch size.

    random and stratified: the mixed row number. group: a digest of the group, so that a group has one key.
    time: the time itself, so that ties have one key.
    """
    if split.strategy in ("random", "stratified"):
        return lambda batch, first: mixed(np.arange(first, first + batch.height, dtype=np.uint64), split.seed)
    if split.strategy == "group":
        return lambda batch, first: _of_groups(batch[split.column], split.seed)
    dtype = dtype_name(schema[split.column])
    if dtype not in (*TIMES, *SIGNED, *UNSIGNED) or dtype == "int128":
        raise DataError(
            f"a split by time needs a date, datetime or whole-number column, and {split.column!r} is {dtype}; "
            "convert it in the contract (dtype: datetime, coerce: true) or name another in data.split.column"
        )
    return lambda batch, first: _of_times(batch[split.column])


def _of_groups(column: pl.Series, seed: int) -> Any:
    import polars as pl

    text = column.cast(pl.String).fill_null("")
    names = text.unique()
    found = [hashlib.blake2b(f"{seed}:{n}".encode(), digest_size=8).digest() for n in names]
    digests = np.frombuffer(b"".join(found), np.uint64) if found else np.empty(0, np.uint64)
    return text.replace_strict(names, pl.Series(digests, dtype=pl.UInt64), return_dtype=pl.UInt64).to_numpy()


def _of_times(column: pl.Series) -> Any:
    import polars as pl

    if column.dtype == pl.UInt64:
        return column.fill_null(0).to_numpy()
    return column.to_physical().cast(pl.Int64).fill_null(0).to_numpy().view(np.uint64) ^ np.uint64(2**63)
