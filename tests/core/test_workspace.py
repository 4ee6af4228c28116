"""Where a project's things lie, wherever the command is typed, and how they come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops_core.contracts import Artifact, Choice, Declaration, Split
from mlops_core.errors import StoreError
from mlops_core.workspace import Workspace

Opened = Callable[..., Workspace]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Opens the workspace of a project with these stores; closed at the end."""
    made: list[Workspace] = []

    def workspace(folder: str = "project", name: str = "kit", **store: str) -> Workspace:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        declaration = Declaration(
            name=name,
            seed=0,
            data=Choice(plugin="csv"),
            target="y",
            task="auto",
            contract={},
            split=Split(),
            trainer=Choice(plugin="toy"),
            metric="auroc",
            store=store,
        )
        made.append(Workspace(root, declaration))
        return made[-1]

    yield workspace
    for one in made:
        one.close()


def settled(workspace: Workspace) -> tuple[Artifact, Path]:
    folder = workspace.work("train", "0123456789abcdef")
    (folder / "model").write_text("weights")
    return workspace.settle("models", folder)


@pytest.mark.parametrize("ledger", ["sqlite:///kept/led.db", "kept/led.db"])
def test_stores_count_from_the_projects_folder(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "project" / "kept").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    workspace = opened(ledger=ledger, objects="kept/objects")
    workspace.ledger.begin_run("kit", "manual")
    settled(workspace)
    assert (workspace.root / "kept" / "led.db").is_file() and (workspace.root / "kept" / "objects" / "files").is_dir()
    assert not list(elsewhere.iterdir())


def test_a_folder_whose_name_means_something_in_a_url(opened: Opened) -> None:
    workspace = opened("50% off? #1 %41")
    workspace.ledger.begin_run("kit", "manual")
    assert (workspace.state / "ledger.db").is_file()


def test_what_is_stored_and_cannot_be_laid_out_is_no_reason_to_do_the_work_again(opened: Opened) -> None:
    workspace = opened()
    artifact, home = settled(workspace)
    home.rename(workspace.root / "aside")
    home.parent.rmdir()
    home.parent.write_text("in the way")
    with pytest.raises(StoreError, match=f"cannot write {home}"):
        workspace.recover("models", artifact)
    home.parent.unlink()
    assert workspace.recover("models", artifact) == (home, "restored")


def test_what_is_altered_and_nowhere_else_is_left_for_its_owner(opened: Opened) -> None:
    workspace = opened()
    artifact, home = settled(workspace)
    (home / "model").chmod(0o644)
    (home / "model").write_text("altered")
    (workspace.state / "objects").rename(workspace.root / "aside")
    assert workspace.recover("models", artifact) is None
    assert (home / "model").read_text() == "altered"


def test_two_names_in_one_folder_do_not_work_in_each_others_way(opened: Opened) -> None:
    one, other = opened(name="one"), opened(name="other")
    assert one.work("data", "0123456789abcdef") != other.work("data", "0123456789abcdef")
    assert settled(one) == settled(other)
    one.leave("data", "0123456789abcdef")
    assert other.work("data", "0123456789abcdef").is_dir()
