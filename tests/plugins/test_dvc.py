"""The DVC plugin, and the object store's layout, against the real DVC command line, git and an S3 server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlops_dvc.tracking
import polars as pl
import pytest
from mlops_dvc.repository import Pointer, Repository
from mlops_dvc.source import DvcData
from mlops_dvc.tracking import Dvc

from mlops_core.contracts import Artifact, Choice, Dataset, Model, Run
from mlops_core.errors import DataError, StoreError
from mlops_core.hashing import FileDigests
from mlops_core.objects import Objects
from mlops_core.testing import check_data, check_observer

QUIET = {"DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"}
WHO = ["-c", "user.name=ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's own state is the test's own."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("MLOPS_CACHE", str(tmp_path / "kept"))


def sh(cwd: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=os.environ | QUIET, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def dvc(cwd: Path, *words: str) -> str:
    return sh(cwd, sys.executable, "-m", "dvc", *words)


def git(cwd: Path, *words: str) -> str:
    return sh(cwd, "git", *WHO, *words)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Project:
    """A project with a store, as the line leaves it: data sets and bundles stored and laid out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.digests = FileDigests(root / ".mlops" / "cache")
        self.objects = Objects(root / ".mlops" / "objects", self.digests)
        self.run = Run(id="r", name="credit", started="", project=str(root))

    def lay(self, kind: str, files: dict[str, bytes]) -> tuple[Artifact, Path]:
        work = self.root / ".mlops" / "work"
        for name, raw in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(raw)
        artifact = self.objects.put(work, own=True)
        shutil.rmtree(work)
        return artifact, self.objects.fetch(artifact, self.root / ".mlops" / kind / artifact.sha256[:12])

    def dataset(self, **files: bytes) -> Dataset:
        artifact, path = self.lay("data", {f"{name}.parquet": raw for name, raw in files.items()})
        return Dataset(
            name="credit", artifact=artifact, path=path, columns=(), rows={}, task="binary", target="y", classes=()
        )

    def model(self, **files: bytes) -> Model:
        artifact, path = self.lay("bundles", {f"model/{name}": raw for name, raw in files.items()})
        return Model(artifact=artifact, path=path, trainer=Choice(plugin="t"), dataset="", params={}, scores={})

    def finish(self, observer: Dvc, record: Any, skipped: bool = False) -> None:
        observer.mlops_finished(run=self.run, stage="data", record=record, skipped=skipped)


@pytest.fixture(params=["git", "no git", "below git", "ignored by git"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    below = request.param in ("below git", "ignored by git")
    root = tmp_path / "repo" / "below" if below else tmp_path / "project"
    made = Project(root)
    if request.param != "no git":
        git(tmp_path, "init", "-q", str(root.parent if below else root))
        (root / ".gitignore").write_text(".mlops/\n")
    if request.param == "ignored by git":
        (root.parent / ".gitignore").write_text("/below/\n")
    return made


def make_odd_tree(folder: Path) -> Path:
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "b" / "c.txt").write_text("hello\r\nwindows")
    (folder / "b-a").write_text("sorts before b/c.txt by path, after it by parts")
    (folder / "é ü").write_text("odd name")
    (folder / "same").write_text("odd name")
    (folder / "empty").write_bytes(b"")
    (folder / "big").write_bytes(os.urandom(3 << 20))
    return folder


def test_addresses_objects_and_dvc_files_are_those_of_dvc_add(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    dvc(repo, "init", "--no-scm")
    make_odd_tree(repo / "tree")
    shutil.copy(repo / "tree" / "big", repo / "one.bin")
    (repo / "none").mkdir()
    dvc(repo, "add", "tree", "one.bin", "none")
    objects = Objects(tmp_path / "store", FileDigests())
    for name in ("tree", "one.bin", "none"):
        artifact = objects.put(repo / name)
        theirs = (repo / f"{name}.dvc").read_text()
        Pointer(artifact.address, artifact.size, artifact.files).write(tmp_path / name)
        assert (tmp_path / f"{name}.dvc").read_text() == theirs
        assert Pointer.parse(theirs) == Pointer(
            artifact.address, artifact.size, artifact.files if name != "one.bin" else 0
        )
    assert content(tmp_path / "store" / "files") == content(repo / ".dvc" / "cache" / "files")
    modes = {oct(p.stat().st_mode) for p in (tmp_path / "store" / "files").rglob("*") if p.is_file()}
    theirs_modes = {oct(p.stat().st_mode) for p in (repo / ".dvc" / "cache" / "files").rglob("*") if p.is_file()}
    assert modes == theirs_modes


def test_real_dvc_knows_pushes_and_pulls_what_a_run_left(project: Project, tmp_path: Path) -> None:
    observer = Dvc(remote=str(tmp_path / "remote"))
    dataset, model = project.dataset(train=b"t" * 1000, test=b"e"), project.model(weights=b"w" * 5000, card=b"c")
    for record in (dataset, model):
        project.finish(observer, record)
    stored = content(project.root / ".mlops" / "objects")
    assert json.loads(dvc(project.root, "status", "--json")) == {}
    outs = project.root / "artifacts"
    kept = {name: content(outs / name) for name in ("credit-dataset", "credit-bundle")}
    assert kept == {"credit-dataset": content(dataset.path), "credit-bundle": content(model.path)}
    assert "6 files pushed" in dvc(project.root, "push")
    assert content(project.root / ".mlops" / "objects") == stored  # nothing is stored twice
    assert not (project.root / ".dvc" / "cache").exists()
    for name in kept:
        shutil.rmtree(outs / name)
    shutil.rmtree(project.root / ".mlops" / "objects")
    dvc(project.root, "pull")
    assert {name: content(outs / name) for name in kept} == kept
    assert json.loads(dvc(project.root, "status", "--json")) == {}
    project.objects.verify(dataset.artifact)  # what DVC pulled is our store again
    project.objects.verify(model.artifact)


def test_a_commit_names_its_data_and_git_is_kept_clean(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    git(project.root, "init", "-q")
    (project.root / ".gitignore").write_text(".mlops/\n")
    observer = Dvc()
    versions = []
    for raw in (b"old", b"new"):
        dataset = project.dataset(train=raw)
        project.finish(observer, dataset)
        git(project.root, "add", "-A")
        git(project.root, "commit", "-qm", raw.decode())
        versions.append(dataset)
    tracked = git(project.root, "ls-files").split()
    assert "artifacts/credit-dataset.dvc" in tracked
    assert not any(".parquet" in name or ".mlops" in name for name in tracked)
    git(project.root, "checkout", "-q", "HEAD~1")
    dvc(project.root, "checkout")
    assert content(project.root / "artifacts" / "credit-dataset") == {"train.parquet": b"old"}
    assert json.loads(dvc(project.root, "status", "--json")) == {}


def test_a_run_without_a_change_asks_nothing_of_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path / "project")
    observer = Dvc(remote=str(tmp_path / "remote"), push=True)
    dataset = project.dataset(train=b"t")
    project.finish(observer, dataset)
    assert len(content(tmp_path / "remote")) == 2
    before = content(project.root)

    def refuse(*words: object, **facts: object) -> str:
        raise AssertionError(words)

    monkeypatch.setattr(mlops_dvc.tracking, "dvc", refuse)
    monkeypatch.setattr(mlops_dvc.tracking, "git_top", refuse)
    project.finish(observer, dataset, skipped=True)
    assert content(project.root) == before


def test_an_output_that_was_touched_is_laid_out_again(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    dataset = project.dataset(train=b"good")
    project.finish(Dvc(), dataset)
    out = project.root / "artifacts" / "credit-dataset"
    for damage in (
        lambda: (out / "train.parquet").write_bytes(b"evil"),
        lambda: (out / "new").write_bytes(b"evil"),
        lambda: shutil.rmtree(out),
        lambda: out.with_name("credit-dataset.dvc").unlink(),
    ):
        damage()
        project.finish(Dvc(), dataset, skipped=True)
        assert content(out) == {"train.parquet": b"good"}
        assert sorted(p.name for p in out.parent.iterdir()) == ["credit-dataset", "credit-dataset.dvc"]
    assert json.loads(dvc(project.root, "status", "--json")) == {}


def test_a_repository_with_a_cache_of_its_own_keeps_it(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    dvc(project.root, "init", "--no-scm")
    config = (project.root / ".dvc" / "config").read_text()
    dataset = project.dataset(train=b"t")
    project.finish(Dvc(), dataset)
    assert (project.root / ".dvc" / "config").read_text() == config
    assert json.loads(dvc(project.root, "status", "--json")) == {}
    assert Repository(project.root).object(dataset.artifact.address).is_relative_to(project.root / ".dvc" / "cache")
    assert Repository(project.root).object(dataset.artifact.address).is_file()


def test_a_push_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    dataset = project.dataset(train=b"t")
    (tmp_path / "remote").write_text("a file where a folder should be")
    observer = Dvc(remote=str(tmp_path / "remote"), push=True)
    with pytest.raises(StoreError, match=r"^dvc push failed in .*project: "):
        project.finish(observer, dataset)
    (tmp_path / "remote").unlink()
    project.finish(observer, dataset, skipped=True)
    assert len(content(tmp_path / "remote")) == 2
    with pytest.raises(StoreError, match=r"dvc push failed in .*nowhere"):
        project.finish(Dvc(remote="nowhere", push=True), dataset)
    with pytest.raises(StoreError, match="is not inside the project"):
        project.finish(Dvc(folder=tmp_path / "elsewhere"), dataset)


def test_an_s3_remote_takes_and_gives_data_sets_and_bundles(tmp_path: Path, s3: str) -> None:
    project = Project(tmp_path / "project")
    dataset, model = project.dataset(train=b"t" * 1000), project.model(weights=b"w" * 1000)
    project.finish(Dvc(remote=f"{s3}/team"), dataset)
    project.finish(Dvc(remote=f"{s3}/team", push=True), model)
    assert "2 files pushed" in dvc(project.root, "push")  # the data set's; the bundle's are there
    shutil.rmtree(project.root / "artifacts" / "credit-bundle")
    shutil.rmtree(project.root / ".mlops" / "objects")
    dvc(project.root, "pull")
    assert content(project.root / "artifacts" / "credit-bundle") == content(model.path)
    project.objects.verify(dataset.artifact)


def test_an_object_store_on_s3_is_put_verified_and_fetched(tmp_path: Path, s3: str) -> None:
    source = make_odd_tree(tmp_path / "source")
    objects = Objects(f"{s3}/objects", FileDigests(tmp_path / "one"))
    artifact = objects.put(source)
    assert objects.has(artifact)
    objects.verify(artifact)
    fresh = Objects(f"{s3}/objects", FileDigests(tmp_path / "two"))
    assert fresh.has(artifact)
    assert content(fresh.fetch(artifact, tmp_path / "out")) == content(source)
    import fsspec

    fs = fsspec.filesystem("s3")
    path = f"bucket/objects/files/md5/{artifact.address[:2]}/{artifact.address[2:]}"
    raw = fs.cat_file(path)
    fs.pipe_file(path, raw[:-1] + b" ")
    assert not fresh.has(artifact)  # S3's own checksum tells
    with pytest.raises(StoreError, match="is altered"):
        fresh.verify(artifact)
    fresh.put(source)
    fresh.verify(artifact)
    with pytest.raises(StoreError, match=r"cannot store .* in s3://nobucket/x: The specified bucket does not exist"):
        Objects("s3://nobucket/x", FileDigests(tmp_path / "three")).put(source)


FRAME = pl.DataFrame({"age": [30, 40], "home": ["rent", None], "income": [1.5, 2.5]})


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with DVC: data/a.csv and the folder data/parts, at tags old and new; its remote beside it."""
    base = tmp_path_factory.mktemp("team")
    repo = base / "repo"
    repo.mkdir()
    git(repo, "init", "-q")
    dvc(repo, "init")
    dvc(repo, "remote", "add", "-d", "store", str(base / "store"))
    for tag, frame in (("old", FRAME.head(1)), ("new", FRAME)):
        (repo / "data" / "parts").mkdir(parents=True, exist_ok=True)
        frame.write_csv(repo / "data" / "a.csv")
        for number in range(frame.height):
            frame.slice(number, 1).write_parquet(repo / "data" / "parts" / f"{number}.parquet")
        dvc(repo, "add", "data/a.csv", "data/parts")
        git(repo, "add", "-A")
        git(repo, "commit", "-qm", tag)
        git(repo, "tag", tag)
    dvc(repo, "push", "--all-commits")
    return base


@pytest.fixture
def tracked(team: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(team / "repo", tmp_path / "team"))


def read(source: DvcData) -> pl.DataFrame:
    frame = source.read()
    assert isinstance(frame, pl.LazyFrame)
    return frame.collect()


def test_what_dvc_tracks_is_read_at_any_revision(tracked: Path, tmp_path: Path) -> None:
    (tracked / "data" / "a.csv").write_text("an edit that was not given to dvc add")
    for path in ("data/a.csv", "data/parts"):
        for rev, expected in (("", FRAME), ("new", FRAME), ("old", FRAME.head(1))):
            source = DvcData(path=path, repo=tracked, rev=rev)
            assert read(source).equals(expected)
            assert dict(source.schema()) == {"age": "Int64", "home": "String", "income": "Float64"}
    old, new = DvcData(path="data/parts", repo=tracked, rev="old"), DvcData(path="data/parts", repo=tracked)
    assert set(old.fingerprint()) == {"0.parquet"}
    assert set(new.fingerprint()) == {"0.parquet", "1.parquet"}
    assert read(DvcData(path="a.csv", repo=tracked / "data")).equals(FRAME)
    assert not (tmp_path / "kept" / "mlops-dvc").exists()  # all of it was in DVC's cache


def test_what_is_not_in_the_cache_is_fetched_and_kept(team: Path, tracked: Path, tmp_path: Path) -> None:
    shutil.rmtree(tracked / ".dvc" / "cache")
    for path in ("data/a.csv", "data/parts"):
        assert read(DvcData(path=path, repo=tracked, rev="old")).equals(FRAME.head(1))
    shutil.rmtree(tracked / ".dvc" / "cache", ignore_errors=True)
    (tracked / "data" / "a.csv").unlink()
    (team / "store").rename(team / "away")
    try:
        assert read(DvcData(path="data/a.csv", repo=tracked, rev="old")).equals(FRAME.head(1))
        with pytest.raises(DataError, match=r"data/a\.csv of the DVC repository .* cannot be fetched: dvc get failed"):
            read(DvcData(path="data/a.csv", repo=tracked))
    finally:
        (team / "away").rename(team / "store")
    kept = next((tmp_path / "kept" / "mlops-dvc").rglob("a.csv"))
    kept.write_text("altered")
    with pytest.raises(DataError, match=f"{kept} is not what DVC tracks"):
        read(DvcData(path="data/a.csv", repo=tracked, rev="old"))


def test_another_repository_is_read_by_its_url(tracked: Path) -> None:
    source = DvcData(path="data/parts/0.parquet", repo=tracked.as_uri(), rev="old")
    assert read(source).equals(FRAME.head(1))
    assert list(source.fingerprint()) == [""]


def test_what_cannot_be_read_is_told(tracked: Path, tmp_path: Path) -> None:
    (tracked / "data" / "plain.csv").write_text("a\n1\n")
    for source, said in (
        (DvcData(path="data/none.csv", repo=tracked), "data/none.csv of the DVC repository .*: dvc list failed"),
        (DvcData(path="data/a.csv", repo=tracked, rev="gone"), "data/a.csv of the DVC repository .*unknown Git"),
        (DvcData(path="data/plain.csv", repo=tracked), "data/plain.csv of .* is not tracked by DVC; run 'dvc add"),
        (DvcData(path="../x.csv", repo=tracked), "../x.csv is not inside the DVC repository"),
        (DvcData(path="a.csv", repo=tmp_path), "is no DVC repository: neither it nor a folder above it has .dvc"),
    ):
        with pytest.raises(DataError, match=said):
            source.read()


def test_the_source_keeps_the_promises_of_a_data_source(tracked: Path, tmp_path: Path) -> None:
    def change() -> None:
        FRAME.tail(1).write_csv(tracked / "data" / "a.csv")
        dvc(tracked, "add", "data/a.csv")

    missing = DvcData(path="data/none.csv", repo=tracked)
    check_data(DvcData(path="data/a.csv", repo=tracked), tmp_path, missing=missing, change=change)


def test_the_observer_keeps_the_promises_of_an_observer(tmp_path: Path) -> None:
    check_observer(Dvc(), tmp_path)


def test_a_folder_that_leads_out_of_the_project_is_refused(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    with pytest.raises(StoreError, match="is not inside the project"):
        project.finish(Dvc(folder=Path("../out")), project.dataset(train=b"a"))
    assert not (tmp_path / "out").exists()


def test_a_killed_copy_is_swept_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path / "project")
    record = project.dataset(train=b"a")
    out = project.root / "artifacts" / "credit-dataset"
    for step in ("copytree", "rmtree"):  # killed within the copy, and before the old one is gone
        pid = os.fork()
        if not pid:
            monkeypatch.setattr(mlops_dvc.tracking.shutil, step, lambda *a, **k: os._exit(9))
            mlops_dvc.tracking._lay_out(record.path, out)
            os._exit(0)
        os.waitpid(pid, 0)
        mlops_dvc.tracking._lay_out(record.path, out)
        assert [p.name for p in out.parent.iterdir()] == ["credit-dataset"]
