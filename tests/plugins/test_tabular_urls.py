"""Tables behind URLs: read as files are, fetched once for each state, and told where they cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from mlops_tabular import remote
from mlops_tabular.columnar import Parquet
from mlops_tabular.delimited import Csv

from mlops_core.contracts import Choice
from mlops_core.errors import DataError
from mlops_core.hashing import file_digest
from mlops_core.plugins import Plugins


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def source(plugin: str, url: str) -> Any:
    """As a declaration builds it."""
    return Plugins().build("data", Choice(plugin=plugin, options={"path": url}))


def test_a_table_on_s3_is_read_and_fetched_once_for_each_state(s3: str, cache: Path) -> None:
    fs = fsspec.filesystem("s3")
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    for name in ("one", "deep/two"):
        with fs.open(f"{s3}/t/{name}.parquet", "wb") as file:
            frame.write_parquet(file)
    folder = source("parquet", f"{s3}/t/")
    assert folder.schema() == {"a": "Int64", "b": "String"} and folder.read().collect().height == 4
    first = folder.fingerprint()
    assert set(first) == {"one.parquet", "deep/two.parquet"}
    copies = {p: p.stat().st_mtime_ns for p in cache.rglob("*.parquet")}
    assert folder.fingerprint() == first and {p: p.stat().st_mtime_ns for p in copies} == copies
    with fs.open(f"{s3}/t/one.parquet", "wb") as file:
        frame.head(1).write_parquet(file)
    assert folder.read().collect().height == 3 and folder.fingerprint() != first
    fs.rm(f"{s3}/t/deep/two.parquet")
    assert folder.read().collect().height == 1
    assert source("parquet", f"{s3}/t/o*.parquet").read().collect().height == 1
    with pytest.raises(DataError, match=r"s3://bucket/none.parquet does not exist"):
        source("parquet", f"{s3}/none.parquet").schema()
    with pytest.raises(DataError, match=r"s3://no-such-bucket/x.csv"):
        source("csv", "s3://no-such-bucket/x.csv").schema()


def test_the_fingerprint_is_that_of_the_same_file_here(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,no\n")
    fsspec.filesystem("memory").pipe("/urls/a.csv", b"x,y\n1,no\n")
    digest = {"a.csv": file_digest(tmp_path / "a.csv").sha256}
    for url in (str(tmp_path / "a.csv"), (tmp_path / "a.csv").as_uri(), "memory://urls/a.csv"):
        found = source("csv", url)
        assert found.fingerprint() == digest and dict(found.schema()) == {"x": "Int64", "y": "String"}


@pytest.mark.parametrize("before", [False, True])
def test_copies_are_for_their_owner_alone_and_may_be_cleared(cache: Path, before: bool) -> None:
    if before:
        (cache / "mlops" / "data").mkdir(parents=True)
        (cache / "mlops" / "data").chmod(0o755)
    fsspec.filesystem("memory").pipe("/private/deep/a.csv", b"x,y\n1,no\n")
    table = source("csv", "memory://private/")
    digest = table.fingerprint()
    kept = cache / "mlops" / "data"
    assert kept.stat().st_mode & 0o777 == 0o700
    copies = [p for p in kept.rglob("*") if p.is_file()]
    assert {p.name for p in copies} == {"a.csv", ".marks"}
    assert {p.stat().st_mode & 0o777 for p in copies} == {0o600}
    shutil.rmtree(kept)
    assert table.fingerprint() == digest and kept.stat().st_mode & 0o777 == 0o700


def test_what_a_url_is_taken_from() -> None:
    assert remote.url_of(Path("s3://bucket/x.csv")) == "s3://bucket/x.csv"
    assert remote.url_of(Path("/data/x.csv")) == "" and remote.url_of(Path("data/s3:/x")) == ""
    assert remote.here(Path("file:///shared/x.csv")) == Path("/shared/x.csv")
    assert Csv(path=Path("s3://b/x")).path and Parquet(path=Path("s3://b/x")).path


def test_what_is_not_installed_and_what_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"nosuch://x/y.csv: Protocol not known: nosuch"):
        source("csv", "nosuch://x/y.csv").schema()
    with pytest.raises(DataError) as told:
        source("csv", "sftp://ann:s3kret@127.0.0.1:1/y.csv").schema()
    assert "s3kret" not in str(told.value) and "sftp://ann:***@127.0.0.1:1/y.csv" in str(told.value)
