"""`mlops plugins`: list, show, new; a new distribution's own tests pass."""

from __future__ import annotations

import importlib.machinery
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_core.cli.main import main
from mlops_core.entries import installed
from mlops_core.errors import UsageError
from mlops_core.plugins import Plugins
from mlops_core.scaffold import KINDS, new


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["plugins", *words]) == code
    out, err = capsys.readouterr()
    return out if code == 0 else err


def test_list_tells_every_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys)
    for offer in Plugins().all():
        line = next(row for row in text.splitlines() if row.split()[:2] == [offer.kind, offer.name])
        assert offer.summary in line
        assert f"{offer.distribution} {offer.version}" in line
    assert "trainer" not in told(capsys, "list", "--kind", "monitor")


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(told(capsys, "list", "--json"))
    drift = next(p for p in found["plugins"] if p["name"] == "drift")
    assert (drift["kind"], drift["class"]) == ("monitor", "mlops_drift.drift.Drift")
    assert found["broken"] == []


def test_list_tells_what_is_broken_and_claimed_twice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "from dataclasses import dataclass\nfrom mlops_core import hookimpl\n@dataclass\nclass M:\n    '''Mine.'''\n"
    (tmp_path / "guest_drift.py").write_text(body + "@hookimpl\ndef mlops_monitor(): return {'drift': M}\n")
    (tmp_path / "guest_broken.py").write_text("import no_such_thing\n")
    info = tmp_path / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlops_core]\ndrift = guest_drift\nbroken = guest_broken\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [e.name for e in installed("mlops_core") if e.distribution == "guest"] == ["drift", "broken"]
    text = told(capsys)
    assert "monitor 'drift' is claimed twice and cannot be used; uninstall one of them" in text
    assert "broken of guest could not be used: ModuleNotFoundError: No module named 'no_such_thing'" in text


def test_show_tells_the_manual_and_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "show", "drift")
    assert text.startswith("monitor drift  (mlops-core-framework")
    assert "Alarms when feature or prediction columns" in text
    row = next(line for line in text.splitlines() if line.startswith("false_alarm_rate"))
    assert "number, more than 0, less than 1" in row
    assert "0.01" in row
    assert text.count("share of windows without any drift that may alarm") == 1  # in the table, not in the manual too
    assert told(capsys, "show", "monitor", "drift") == text == told(capsys, "show", "drift", "--kind", "monitor")


def test_every_option_of_every_plugin_has_a_line() -> None:
    plugins = Plugins()
    silent = [
        f"{offer.kind} {offer.name}: {option.name}"
        for offer in plugins.all()
        for option in plugins.options(offer.kind, offer.name)
        if not option.doc
    ]
    assert not silent, silent


def test_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = json.loads(told(capsys, "show", "grid", "--json"))
    assert {o["name"] for o in found["options"]} >= {"trials", "points"}
    assert found["manual"].startswith(found["summary"][:20])


def test_a_name_in_two_kinds_is_shown_twice(capsys: pytest.CaptureFixture[str]) -> None:
    offers = [o for o in Plugins().all() if o.name == "ray"] or [o for o in Plugins().all() if o.name == "dvc"]
    text = told(capsys, "show", offers[0].name)
    assert [line.split("  (")[0] for line in text.splitlines() if "  (mlops-core-framework" in line] == [
        f"{o.kind} {o.name}" for o in offers
    ]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["show", "drfit"], "mlops: unknown plugin 'drfit'; did you mean 'drift'?\n"),
        (["show", "zzzzz"], "mlops: unknown plugin 'zzzzz'; see 'mlops plugins list'\n"),
        (["show", "grid", "--kind", "monitor"], "mlops: unknown monitor 'grid'; see 'mlops plugins list'\n"),
        (["show"], "mlops: plugins show: which one? give its name\n"),
        (["lsit"], "mlops: plugins: unknown verb 'lsit'; did you mean 'list'?\n"),
        (["list", "drift"], "mlops: plugins list takes no name; 'mlops plugins show drift' shows one\n"),
        (["list", "--kind", "traner"], "mlops: plugins: unknown kind 'traner'; did you mean 'trainer'?\n"),
        (["new", "a", "b"], "mlops: plugins new: one name at a time, got a b\n"),
        (["new", "My-Plugin"], "mlops: plugin name 'My-Plugin' must be lower-case letters, digits and underscores, "
         "as typed in YAML\n"),
        (["new", "core"], "mlops: package mlops_core is installed already; choose another name\n"),
        (["new", "a", "--kind", "exporter"], "mlops: plugins of kind 'exporter' cannot be started from a template; "
         "there are: data, trainer, tuner, deployer, monitor, observer\n"),
    ],
)  # fmt: skip
def test_mistakes_are_told(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(capsys, *words, code=3) == error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_own_tests(
    kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = told(capsys, "new", "acme", "--kind", kind)
    folder = tmp_path / "mlops-acme"
    assert f"a {kind} in mlops-acme; next: cd mlops-acme" in text
    assert not [p for p in folder.rglob("*") if p.is_file() and "{{" in p.read_text()]
    info = folder / "src" / "mlops_acme-0.1.0.dist-info"  # what installing leaves
    info.mkdir()
    (info / "METADATA").write_text("Name: mlops-acme\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[mlops_core]\nacme = mlops_acme\n")
    env = os.environ | {"PYTHONPATH": str(folder / "src")}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    show = [sys.executable, "-m", "mlops_core", "plugins", "show", "acme"]
    for command, wanted in ((tests, "1 passed"), (show, f"{kind} acme  (mlops-acme 0.1.0, mlops_acme.plugin)")):
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert wanted in done.stdout
    assert told(capsys, "new", "acme", code=3) == "mlops: mlops-acme exists already; give another folder with --out\n"


def test_a_new_distribution_builds(tmp_path: Path) -> None:
    files = new("acme", "trainer", tmp_path / "acme")
    assert tmp_path / "acme" / "src" / "mlops_acme" / "conf" / "trainer" / "acme.yaml" in files
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=tmp_path / "acme", capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    import zipfile

    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "mlops_acme/conf/trainer/acme.yaml" in names
    assert "mlops_acme-0.1.0.dist-info/entry_points.txt" in names


def test_a_taken_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert importlib.machinery.PathFinder.find_spec("mlops_drift", sys.path)
    with pytest.raises(UsageError, match="package mlops_drift is installed already"):
        new("drift", "monitor", tmp_path / "x")
