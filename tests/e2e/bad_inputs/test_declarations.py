"""Declarations and overrides that are wrong, as a person types them: the exact words, exit code 3, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_core.cli.main import main

DEFAULTS = """\
defaults:
  - base
  - data: csv
  - trainer: lightning
  - tuner: grid
  - deployer: http
  - monitor: drift
  - _self_
"""
HEAD = """\
name: credit
metric: auroc
"""
DATA = """\
data:
  path: data/credit.csv
  target: status
  task: binary
  contract: contracts/credit.yaml
"""
TUNER = """\
tuner:
  space:
    trainer.lr: loguniform(1e-4, 1e-1)
"""
RIGHT = DEFAULTS + HEAD + DATA + TUNER
CONTRACT = "columns:\n  age: {range: [0, 120]}\n  status: {role: target}\n"
ROWS = "age,sex,status\n30,f,good\n40,m,bad\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("conf", "data", "contracts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(RIGHT)
    (tmp_path / "data" / "credit.csv").write_text(ROWS)
    (tmp_path / "contracts" / "credit.yaml").write_text(CONTRACT)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(project: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What `mlops check` says, without the excerpts."""
    before = contents(project)
    code = main(["check", *words, "--project", str(project)])
    out, err = capsys.readouterr()
    assert code == 3 and out == "" and "Traceback" not in err
    assert contents(project) == before
    head, *lines = err.splitlines()
    found = [line for line in lines if " | " not in line[:9]]
    assert head == f"mlops: {len(found)} problem{'s' * (len(found) != 1)} in the declaration"
    return [line.replace(str(project), "PROJECT") for line in found]


# what is replaced in the right declaration, by what, and what is said
DECLARATIONS: dict[str, tuple[str, str, str]] = {
    "misspelt top key": (
        "metric: auroc",
        "metrik: auroc\nmetric: auroc",
        "10:1: metrik: unknown key; did you mean 'metric'?",
    ),
    "misspelt reserved key": (
        "  target:",
        "  targets: x\n  target:",
        "13:3: data.targets: unknown option; did you mean 'target'?",
    ),
    "misspelt option": (
        "  path:",
        "  separatr: ';'\n  path:",
        "12:3: data.separatr: unknown option; did you mean 'separator'?",
    ),
    "misspelt nested option": (
        "tuner:\n",
        "trainer: {model: {hiden: [8]}}\ntuner:\n",
        "16:19: trainer.model.hiden: unknown option; did you mean 'hidden'?",
    ),
    "misspelt preset": (
        "trainer: lightning",
        "trainer: lightnig",
        "4:14: defaults.trainer: unknown trainer 'lightnig'; did you mean 'lightning'?",
    ),
    "misspelt group": (
        "- monitor: drift",
        "- moniter: drift",
        "7:5: defaults: unknown group 'moniter'; did you mean 'monitor'?",
    ),
    "misspelt base": ("- base", "- bass", "2:5: defaults: no file bass.yaml is there; did you mean 'base'?"),
    "wrong type": (
        "tuner:\n",
        "trainer: {epochs: many}\ntuner:\n",
        '16:19: trainer.epochs: expected whole number, at least 1, got "many"',
    ),
    "a number in quotes": (
        "tuner:\n",
        'trainer: {lr: "0.1"}\ntuner:\n',
        '16:15: trainer.lr: expected number, more than 0, got "0.1"',
    ),
    "out of range": (
        "tuner:\n",
        "deployer: {port: 70000}\ntuner:\n",
        "16:18: deployer.port: expected whole number, at least 0, at most 65535, got 70000",
    ),
    "a boolean for a number": (
        "metric:",
        "seed: true\nmetric:",
        "10:7: seed: expected whole number, at least 0, got true",
    ),
    "missing target": ("  target: status\n", "", "11:1: data.target: missing mandatory value, expected text"),
    "missing path": ("  path: data/credit.csv\n", "", "11:1: data.path: missing mandatory value, expected path"),
    "target still to be given": (
        "target: status",
        "target: ???",
        "13:11: data.target: missing mandatory value, expected text",
    ),
    "tab": ("  target:", "\ttarget:", "13:1: a tab indents this line; YAML indents with blanks"),
    "indentation": (
        "  task:",
        "    task:",
        "14:9: a key cannot stand here: check the indentation, and quote a value that holds ': '",
    ),
    "duplicate key": (
        "  task:",
        "  target: sex\n  task:",
        "14:3: data.target: this key is there twice, first on line 13",
    ),
    "unclosed bracket": (
        "metric:",
        "slices: [sex\nmetric:",
        "10:9: this bracket is not closed: expected ',' or ']', but got ':'",
    ),
    "unresolved interpolation": (
        "metric:",
        "seed: ${data.splt.seed}\nmetric:",
        "10:7: seed: the interpolation '${data.splt.seed}' leads nowhere; did you mean '${data.split.seed}'?",
    ),
    "circular interpolation": (
        "metric:",
        "seed: ${seed}\nmetric:",
        "10:7: seed: the interpolation goes round in a circle",
    ),
    "unset variable": (
        "metric:",
        "store: {ledger: '${oc.env:MLOPS_TEST_UNSET}'}\nmetric:",
        "10:17: store.ledger: the environment variable MLOPS_TEST_UNSET is not set; "
        "set it, or give a default: ${oc.env:MLOPS_TEST_UNSET,DEFAULT}",
    ),
    "space key of no option": (
        "trainer.lr:",
        "trainer.model.dropot:",
        "18:5: tuner.space.trainer.model.dropot: no option of trainer 'lightning'; "
        "did you mean 'trainer.model.dropout'?",
    ),
    "space beyond the option": (
        "loguniform(1e-4, 1e-1)",
        "uniform(-1, 1)",
        "18:17: tuner.space.trainer.lr: it reaches a value that trainer.lr cannot have: "
        "expected number, more than 0, got -1",
    ),
    "space of an unknown kind": (
        "loguniform",
        "lognormal",
        "18:17: tuner.space.trainer.lr: unknown distribution 'lognormal'; did you mean 'loguniform'?",
    ),
    "unknown metric": (
        "metric: auroc",
        "metric: auc_roc",
        "10:9: metric: unknown metric 'auc_roc'; did you mean 'auroc'?",
    ),
    "metric of another task": (
        "metric: auroc",
        "metric: rmse",
        "10:9: metric: metric 'rmse' means nothing for task 'binary'; "
        "expected one of: auroc, auprc, accuracy, balanced_accuracy, f1, log_loss, brier",
    ),
    "gate on a score nobody reports": (
        "metric:",
        "gate: [{metric: auroch, at_least: 0.5}]\nmetric:",
        "10:17: gate.0.metric: unknown metric 'auroch'; did you mean 'auroc'?",
    ),
    "gate without a bound": (
        "metric:",
        "gate: [{metric: auroc}]\nmetric:",
        "10:8: gate.0: a rule needs a bound; add at_least or at_most",
    ),
    "gate rule twice": (
        "metric:",
        "gate: [{metric: f1, at_least: 0.5}, {metric: f1, at_least: 0.6}]\nmetric:",
        "10:37: gate.1: the same rule is there twice, first as gate.0",
    ),
    "slice of no column": (
        "metric:",
        "slices: [gender]\nmetric:",
        "10:10: slices.0: the data has no column 'gender'; expected one of: age, sex, status",
    ),
    "target that is no column": (
        "target: status",
        "target: stauts",
        "13:11: data.target: the data has no column 'stauts'; did you mean 'status'?",
    ),
    "contract that is not there": (
        "credit.yaml",
        "credits.yaml",
        "15:13: data.contract: there is no file 'contracts/credits.yaml'; did you mean 'contracts/credit.yaml'?",
    ),
    "an unknown strategy": (
        "metric:",
        "rollout: {strategy: canari}\nmetric:",
        "10:21: rollout.strategy: unknown value 'canari'; did you mean 'canary'?",
    ),
    "a key of a later version": (
        "metric:",
        "retrain: {on: [drift]}\nmetric:",
        "10:1: retrain: is not part of this version of mlops_core; take it out",
    ),
    "a name with blanks": (
        "name: credit",
        "name: My model",
        "9:7: name: expected lower-case letters, digits, '-' and '_', got 'My model'",
    ),
    "trust in everything": (
        "metric:",
        "trust: [all]\nmetric:",
        "10:9: trust.0: unknown value 'all'; expected one of: pickle",
    ),
}


@pytest.mark.parametrize("case", DECLARATIONS)
def test_declaration(project: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    old, new, expected = DECLARATIONS[case]
    assert RIGHT.count(old) >= 1
    (project / "conf" / "config.yaml").write_text(RIGHT.replace(old, new, 1))
    assert refused(project, capsys) == [f"conf/config.yaml:{expected}"]


OVERRIDES = {
    "trainer.epocs=3": "trainer.epocs: unknown option; did you mean 'epochs'?",
    "trianer.epochs=3": "trianer: unknown key; did you mean 'trainer'?",
    "trainer=sklern": "trainer: unknown trainer 'sklern'; did you mean 'sklearn'?",
    "trainer.epochs=0": "trainer.epochs: expected whole number, at least 1, got 0",
    "trainer.epochs=": 'trainer.epochs: expected whole number, at least 1, got ""',
    "deploy": "deploy: cannot be read, expected KEY=VALUE, GROUP=OPTION or ~KEY",
    "=3": "this is no key, expected KEY=VALUE, GROUP=OPTION or ~KEY",
    "trainer.lr=0.1,0.2": "trainer.lr: a sweep means nothing here; for a list write trainer.lr=[0.1,0.2], "
    "for text trainer.lr=\\'0.1,0.2\\'",
    "~gates": "gates: nothing is there to take away",
    "hydra/job_logging=none": "hydra/job_logging: Hydra's own settings mean nothing here",
    "data.path=a b(c": "data.path: the value 'a b(c' cannot be read; quote it: 'data.path=\"a b(c\"'",
    "tuner.space.trainer.lr=uniform(1)": "tuner.space.trainer.lr: uniform expects (low, high) as numbers, got (1)",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_override(project: Path, capsys: pytest.CaptureFixture[str], override: str) -> None:
    assert refused(project, capsys, "seed=1", override) == [f"command line, override 2: {OVERRIDES[override]}"]


CONTRACTS = {
    "a column that is not there": (
        "age:",
        "aeg:",
        "contracts/credit.yaml:2:3: columns.aeg: the data has no such column; did you mean 'age'?",
    ),
    "a misspelt check": (
        "range:",
        "rnage:",
        "contracts/credit.yaml:2:9: columns.age.rnage: unknown key; did you mean 'range'?",
    ),
    "a tab": ("  age", "\tage", "contracts/credit.yaml:2:1: a tab indents this line; YAML indents with blanks"),
    "a key twice": (
        "  status",
        "  age: {}\n  status",
        "contracts/credit.yaml:3:3: columns.age: this key is there twice, first on line 2",
    ),
}


@pytest.mark.parametrize("case", CONTRACTS)
def test_contract(project: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    old, new, expected = CONTRACTS[case]
    (project / "contracts" / "credit.yaml").write_text(CONTRACT.replace(old, new, 1))
    assert refused(project, capsys) == [expected]


def test_the_right_declaration_passes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(project)
    assert main(["check", "--project", str(project)]) == 0
    assert capsys.readouterr().out == f"{project}/conf/config.yaml: the declaration is right\n"
    assert contents(project) == before


def test_all_of_them_at_once_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = RIGHT.replace("lightning", "lightnig").replace("target: status", "target: stauts").replace("auroc", "aurok")
    (project / "conf" / "config.yaml").write_text(text)
    assert main(["check", "--json", "trainer.epocs=1", "--project", str(project)]) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert [(p["place"], p["key"]) for p in said["problems"]] == [
        ("conf/config.yaml:4:14", "defaults.trainer"),
        ("conf/config.yaml:10:9", "metric"),
        ("conf/config.yaml:13:11", "data.target"),
        ("command line, override 1", "trainer.epocs"),
    ]


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mlops_core", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=cwd, check=False)


def test_a_typo_in_a_process_of_its_own(project: Path) -> None:
    (project / "conf" / "config.yaml").write_text(RIGHT.replace("metric: auroc", "metrc: auroc\nmetric: auroc"))
    before = contents(project)
    found = command("check", cwd=project / "data")
    assert found.returncode == 3 and found.stdout == ""
    assert found.stderr.splitlines() == [
        "mlops: 1 problem in the declaration",
        "conf/config.yaml:10:1: metrc: unknown key; did you mean 'metric'?",
        "   10 | metrc: auroc",
        "      | ^",
    ]
    assert contents(project) == before


def test_no_project_in_a_process_of_its_own(tmp_path: Path) -> None:
    found = command("check", cwd=tmp_path)
    assert found.returncode == 3 and found.stdout == ""
    assert found.stderr == (
        f"mlops: no project here: neither {tmp_path} nor a folder above it has conf/config.yaml; "
        "go to a project, name one with --project DIR, or start one with 'mlops init NAME'\n"
    )
    assert list(tmp_path.iterdir()) == []
