"""The stranger's own tests: the kits that mlops_core ships."""

from pathlib import Path

from mlops_stranger.centroid import Centroid
from mlops_stranger.diary import Diary
from mlops_stranger.mean import Mean
from mlops_stranger.toy import Toy

from mlops_core.testing import check_data, check_monitor, check_observer, check_trainer


def test_toy(tmp_path: Path) -> None:
    check_data(Toy(), tmp_path, missing=Toy(rows=0))


def test_centroid(tmp_path: Path) -> None:
    check_trainer(Centroid(), tmp_path, tasks=("binary", "multiclass"))


def test_mean(tmp_path: Path) -> None:
    check_monitor(Mean(), tmp_path)


def test_diary(tmp_path: Path) -> None:
    check_observer(Diary(path=tmp_path / "diary.jsonl"), tmp_path)
    assert len((tmp_path / "diary.jsonl").read_text().splitlines()) == 5
