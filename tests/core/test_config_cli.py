"""`mlops config` and `mlops check --infer-contract`, as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from mlops_core.cli.main import main
from mlops_core.contracts import Choice
from mlops_core.plugins import Plugins
from mlops_core.validation import contract_problems, validate

GUESTS = Path(__file__).parent / "guests"
CONFIG = """\
name: tiny
metric: rmse
data: {plugin: guest_table, path: data.csv, target: age}
trainer: {plugin: guest_net, extra: {token: "${oc.env:GUEST_TOKEN,none}"}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(GUESTS))
    monkeypatch.setenv("GUEST_TOKEN", "s3kret-word")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG)
    (tmp_path / "data.csv").write_text("age,sex\n1,f\n2,\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "s3kret-word" not in out
    return out


def test_config_prints_the_whole_declaration(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = yaml.safe_load(said(capsys, "config", "trainer.lr=0.5"))
    assert list(found) == [
        "name", "seed", "data", "trainer", "tuner", "metric", "gate", "slices", "deployer", "rollout", "monitor",
        "observers", "trust", "privacy", "store", "signing", "launcher",
    ]  # fmt: skip
    assert found["trainer"]["lr"] == 0.5 and found["trainer"]["extra"] == {"token": "${oc.env:GUEST_TOKEN,none}"}
    assert json.loads(said(capsys, "config", "trainer.lr=0.5", "--json")) == found


def test_config_tells_where_each_value_came_from(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "config", "--origin", "trainer.lr=0.5").splitlines()
    found = {line.split()[0]: line.split(None, 2)[1:] for line in lines}
    assert found["name"] == ["tiny", "conf/config.yaml:1:7"]
    assert found["trainer.lr"] == ["0.5", "command line, override 1"]
    assert found["trainer.epochs"] == ["10", "default of trainer 'guest_net'"]
    assert found["data.split.strategy"] == ["stratified", "default of mlops_core"]
    assert found["trainer.extra.token"] == ["${oc.env:GUEST_TOKEN,none}", "conf/config.yaml:4:45"]
    as_json = json.loads(said(capsys, "config", "--origin", "--json", "trainer.lr=0.5"))
    assert as_json["trainer.lr"] == {"value": 0.5, "place": "command line, override 1", "kind": "override"}
    assert set(as_json) == set(found)


def test_a_contract_is_proposed_that_the_check_accepts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "check", "--infer-contract", "data.csv")
    assert out.startswith("# A contract proposed from data.csv: ")
    proposed = yaml.safe_load(out)
    assert proposed["columns"]["age"]["dtype"] == "int64" and proposed["columns"]["age"]["nullable"] is False
    assert json.loads(said(capsys, "check", "--infer-contract", "data.csv", "--json")) == proposed
    (project / "contract.yaml").write_text(out.replace("dtype: int64", "dtype: float64"))
    assert "the declaration is right" in said(capsys, "check", "data.contract=contract.yaml")


@pytest.mark.parametrize("infinite", ["inf", "-inf", "Infinity"])
def test_a_contract_is_proposed_for_infinities_that_come_late(
    project: Path, capsys: pytest.CaptureFixture[str], infinite: str
) -> None:
    rows = [f"{i},2026-01-{i % 28 + 1:02}" for i in range(200)]
    (project / "late.csv").write_text("\n".join(["x,day", *rows, f"{infinite},2026-02-01"]) + "\n")
    proposed = yaml.safe_load(said(capsys, "check", "--infer-contract", "late.csv"))
    assert json.loads(said(capsys, "check", "--infer-contract", "late.csv", "--json")) == proposed
    assert proposed["columns"]["x"] == {"dtype": "float64", "nullable": False, "finite": False}
    source = Plugins().build("data", Choice(plugin="csv", options={"path": str(project / "late.csv")}))
    assert contract_problems(proposed, source.schema(), "") == []
    assert validate(source.read(), proposed).valid


@pytest.mark.parametrize(
    ("file", "code", "message"),
    [
        ("data.txt", 3, "mlops: --infer-contract reads .csv and .parquet files, not 'data.txt'\n"),
        ("nothing.csv", 1, "mlops: there is no file nothing.csv\n"),
    ],
)
def test_no_contract_from_what_is_no_table(
    project: Path, capsys: pytest.CaptureFixture[str], file: str, code: int, message: str
) -> None:
    assert main(["check", "--infer-contract", file]) == code
    assert capsys.readouterr().err == message
