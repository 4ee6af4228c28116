"""Data, from the column to the frozen set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_core.contracts.names import ColumnKind, Role, SplitName, Task
from mlops_core.records import field, record


@record
class Choice:
    """A plugin named in a declaration, with its options as plain data."""

    plugin: str
    options: Mapping[str, Any] = field(default_factory=dict)


@record
class Artifact:
    """A file or folder that the object store holds.

    `address` is its place in a DVC cache (md5 of the file, or md5 of the listing + '.dir'); `sha256` is
    what integrity rests on: of the file, or of the sorted lines 'sha256  relative/path' of a folder.
    """

    address: str
    sha256: str
    size: int
    files: int


@record
class Column:
    """One column of a data set or of a model's signature.

    `kind` says how it is treated, `dtype` how it is stored (polars names, lower case: int64, float32,
    string, boolean, date, datetime, array). `shape` is the shape of one cell of an array column.
    `categories` are the known values of a category, most frequent first where they were counted.
    """

    name: str
    kind: ColumnKind
    dtype: str
    roles: tuple[Role, ...] = ("feature",)
    nullable: bool = True
    categories: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()


@record
class Dataset:
    """A validated, split and frozen table: `path` holds train.parquet, validation.parquet, test.parquet.

    `rows` counts per split; `rejected` counts rows sent to quarantine; `classes` are the target's values
    as strings in the order of the probability columns (for binary, the second is the positive one).
    `source` tells where it came from (plugin, options, fingerprint).
    """

    name: str
    artifact: Artifact
    path: Path
    columns: tuple[Column, ...]
    rows: Mapping[str, int]
    task: Task
    target: str
    classes: tuple[str, ...] = ()
    rejected: int = 0
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return self.artifact.sha256

    def split(self, name: SplitName) -> Path:
        """The Parquet file of one split."""
        return self.path / f"{name}.parquet"

    def having(self, role: Role) -> tuple[Column, ...]:
        """The columns that have `role`, in table order."""
        return tuple(c for c in self.columns if role in c.roles)


@record
class Signature:
    """What a model takes and gives: validated at every request."""

    inputs: tuple[Column, ...]
    task: Task
    target: str
    classes: tuple[str, ...] = ()
