"""The cache is right: what changes a result is noticed, what does not is not, and nothing altered is ever used."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

ALL = ["data", "train", "seal", "evaluate", "gate"]
AFTER_DATA = ALL[1:]


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_nothing_changed_does_nothing(toy) -> None:
    assert toy.performed() == ALL
    again = toy.run()
    assert again["performed"] == [] and again["restored"] == [] and again["skipped"] == ALL
    assert toy.mlops("plan").stdout.endswith("reality is as declared; nothing to do\n")


def test_edited_step_body_runs_again_and_the_plan_says_so(toy) -> None:
    toy.run()
    swap(toy.plugin / "toyplug" / "trainer.py", "* factor + self.shift", "* factor + self.shift + 0.001")
    causes = [c["key"] for c in toy.plan()["train"]["causes"]]
    assert causes == ["code.toyplug.trainer"]
    assert toy.performed() == AFTER_DATA


def test_edited_helper_of_a_plugin_runs_again(toy) -> None:
    toy.run()
    swap(toy.plugin / "toyplug" / "helper.py", "x.mean(0)", "x.mean(0) + 0.001")
    assert toy.performed() == AFTER_DATA


def test_edited_helper_of_the_users_own_module_runs_again(toy) -> None:
    toy.run()
    swap(toy.root / "more.py", "return 1.0", "return 1.001")
    assert [c["key"] for c in toy.plan()["train"]["causes"]] == ["code.more"]
    assert toy.performed() == AFTER_DATA


def test_changed_option_runs_again_and_the_plan_names_the_line(toy) -> None:
    toy.run()
    swap(toy.root / "conf" / "config.yaml", "shift: 0.0", "shift: 0.002")
    cause = toy.plan()["train"]["causes"][0]
    assert (cause["key"], cause["old"], cause["new"]) == ("trainer.shift", 0.0, 0.002)
    assert cause["place"].startswith("conf/config.yaml:12")
    assert toy.plan()["data"]["state"] == "unchanged"
    assert toy.performed() == AFTER_DATA


def test_input_edited_in_place_runs_again(toy) -> None:
    toy.run()
    data = toy.root / "data.csv"
    before = data.stat()
    data.write_text(data.read_text() + "0.5,0.5,yes\n0.1,0.2,no\n2.9,0.1,yes\n")
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
    causes = toy.plan()["data"]["causes"]
    assert any(c["key"] == "data" and c["new"] == "3 rows more" for c in causes), causes
    assert toy.performed() == ALL


@pytest.mark.parametrize("kind", ["data", "models", "bundles"])
def test_deleted_output_is_restored_without_work(toy, kind: str) -> None:
    toy.run()
    shutil.rmtree(toy.root / ".mlops" / kind)
    assert "restore" in {s["state"] for s in toy.plan().values()}
    again = toy.run()
    assert again["performed"] == [] and len(again["restored"]) == 1
    assert toy.performed() == []


@pytest.mark.parametrize("kind", ["data", "models", "bundles"])
def test_altered_output_is_never_used(toy, kind: str) -> None:
    toy.run()
    victim = next(p for p in sorted((toy.root / ".mlops" / kind).rglob("*")) if p.is_file())
    whole, before = victim.read_bytes(), victim.stat()
    victim.chmod(0o644)
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = toy.run()
    assert again["performed"] == [] and len(again["restored"]) == 1
    assert victim.read_bytes() == whole


def test_altered_output_and_altered_object_are_made_again(toy) -> None:
    toy.run()
    for folder in ("data", "objects"):
        for victim in (toy.root / ".mlops" / folder).rglob("*"):
            if victim.is_file():
                victim.chmod(0o644)
                content = victim.read_bytes()
                victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "data" in toy.performed()
    assert toy.performed() == []


def test_kill_in_the_middle_of_a_fit_goes_on(toy) -> None:
    process = toy.start("run", "trainer.sleep=60")
    deadline = time.monotonic() + 60
    while not list((toy.root / ".mlops" / "work").glob("train-*/scratch/begun")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    runs = toy.run("trainer.sleep=0.01")
    assert runs["performed"] == AFTER_DATA and runs["skipped"] == ["data"]
    assert runs["version"] == 1


def test_what_a_cut_off_reading_left_under_another_key_goes(toy) -> None:
    old, others = (toy.root / ".mlops" / "work" / f"data-0123456789ab-{name}" for name in ("toy", "not-toy"))
    for folder in (old, others):
        folder.mkdir(parents=True)
    toy.run("--until", "data")
    assert not old.exists() and others.exists()


def test_comments_formatting_and_docstrings_do_not_count(toy) -> None:
    toy.run()
    swap(toy.plugin / "toyplug" / "trainer.py", '"""The toy trainer."""', '"""Another text."""\n\n# a comment\n')
    swap(toy.root / "more.py", "return 1.0", "return (\n        1.0  # the same\n    )")
    (toy.root / "conf" / "config.yaml").write_text("# a comment\n" + (toy.root / "conf" / "config.yaml").read_text())
    assert toy.performed() == []


def test_going_back_makes_the_earlier_version_champion_again(toy) -> None:
    assert toy.run()["version"] == 1
    assert toy.run("trainer.shift=0.01")["version"] == 2
    back = toy.run()
    assert back["performed"] == ["gate"] and back["version"] == 1
    assert "champion" in toy.mlops("versions").stdout.splitlines()[1]
