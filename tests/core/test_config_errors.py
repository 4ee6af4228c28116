"""Declarations that are wrong: each class of error with its exact message, and all of them at once."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mlops_core import config
from mlops_core.errors import DeclarationError

GUESTS = Path(__file__).parent / "guests"
DEFAULTS = """\
defaults:
  - base
  - data: guest_table
  - trainer: guest_net
  - _self_
"""
REST = """\
name: credit
metric: auroc
data: {path: data/credit.csv, target: status}
"""


@pytest.fixture(autouse=True)
def guests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GUESTS))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("conf", "data", "contracts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "credit.csv").write_text("age,sex,status\n")
    return tmp_path


def told(project: Path, text: str, *overrides: str) -> list[str]:
    """What is said about this declaration, without the excerpts; nothing may be left behind by the check."""
    (project / "conf" / "config.yaml").write_text(text)
    before = sorted(project.rglob("*"))
    found = [str(p).split("\n")[0] for p in config.check(project, overrides)]
    assert sorted(project.rglob("*")) == before
    return found


ONE = {
    "misspelt key at the top": (
        DEFAULTS + REST + "sed: 1\n",
        "conf/config.yaml:9:1: sed: unknown key; did you mean 'seed'?",
    ),
    "misspelt option": (
        DEFAULTS + REST + "trainer:\n  epocs: 3\n",
        "conf/config.yaml:10:3: trainer.epocs: unknown option; did you mean 'epochs'?",
    ),
    "misspelt option deep inside": (
        DEFAULTS + REST + "trainer:\n  model:\n    hiden: [3]\n",
        "conf/config.yaml:11:5: trainer.model.hiden: unknown option; did you mean 'hidden'?",
    ),
    "misspelt key of the core in a section": (
        DEFAULTS + REST.replace("{path", "{tsk: binary, path"),
        "conf/config.yaml:8:8: data.tsk: unknown option; did you mean 'task'?",
    ),
    "misspelt choice in the defaults list": (
        DEFAULTS.replace("guest_net", "guest_nett") + REST,
        "conf/config.yaml:4:14: defaults.trainer: unknown trainer 'guest_nett'; did you mean 'guest_net'?",
    ),
    "misspelt group": (
        DEFAULTS.replace("trainer:", "trainr:") + REST,
        "conf/config.yaml:4:5: defaults: unknown group 'trainr'; did you mean 'trainer'?",
    ),
    "misspelt file in the defaults list": (
        DEFAULTS.replace("- base", "- bas") + REST,
        "conf/config.yaml:2:5: defaults: no file bas.yaml is there; did you mean 'base'?",
    ),
    "a choice still to be made": (
        DEFAULTS.replace("guest_net", "???") + REST + "trainer: {plugin: guest_net}\n",
        "conf/config.yaml:4:14: defaults.trainer: missing mandatory value, choose a trainer; expected one of: "
        "{TRAINERS}",
    ),
    "misspelt plugin": (
        DEFAULTS.replace("  - trainer: guest_net\n", "") + REST + "trainer: {plugin: guest_nett}\n",
        "conf/config.yaml:8:19: trainer.plugin: unknown trainer 'guest_nett'; did you mean 'guest_net'?",
    ),
    "unknown value of an option": (
        DEFAULTS + REST + "trainer: {optimizer: adamm}\n",
        "conf/config.yaml:9:22: trainer.optimizer: unknown value 'adamm'; did you mean 'adam'?",
    ),
    "wrong type": (
        DEFAULTS + REST + 'trainer: {epochs: "3"}\n',
        'conf/config.yaml:9:19: trainer.epochs: expected whole number, at least 1, got "3"',
    ),
    "wrong type in a list": (
        DEFAULTS + REST + "trainer: {model: {hidden: [8, x]}}\n",
        'conf/config.yaml:9:31: trainer.model.hidden.1: expected whole number, got "x"',
    ),
    "out of range": (
        DEFAULTS + REST + "trainer: {model: {dropout: 1.5}}\n",
        "conf/config.yaml:9:28: trainer.model.dropout: expected number, at least 0, less than 1, got 1.5",
    ),
    "missing mandatory key": (
        DEFAULTS + REST.replace("metric: auroc\n", ""),
        "conf/config.yaml:1:1: metric: missing mandatory value, expected text",
    ),
    "missing mandatory value": (
        DEFAULTS + REST.replace("target: status", "target: '???'"),
        "conf/config.yaml:8:39: data.target: missing mandatory value, expected text",
    ),
    "missing mandatory option": (
        DEFAULTS.replace("guest_net", "guest_forest") + REST,
        "conf/config.yaml:4:14: trainer.estimator: missing mandatory value, expected text",
    ),
    "a tab": (
        DEFAULTS + REST + "trainer:\n\tepochs: 3\n",
        "conf/config.yaml:10:1: a tab indents this line; YAML indents with blanks",
    ),
    "bad indentation": (
        DEFAULTS + REST + "trainer:\n  lr: 0.1\n   epochs: 3\n",
        "conf/config.yaml:11:10: a key cannot stand here: check the indentation, and quote a value that holds ': '",
    ),
    "a key too far out": (
        DEFAULTS + REST + "trainer:\n    lr: 0.1\n  epochs: 3\n",
        "conf/config.yaml:11:3: the indentation fits no line above",
    ),
    "a key that is there twice": (
        DEFAULTS + REST + "seed: 1\nseed: 2\n",
        "conf/config.yaml:10:1: seed: this key is there twice, first on line 9",
    ),
    "an open bracket": (
        DEFAULTS + REST + "slices: [sex\n",
        "conf/config.yaml:9:9: this bracket is not closed: expected ',' or ']', but got '<stream end>'",
    ),
    "an open quote": (
        DEFAULTS + REST + "slices: ['sex]\n",
        "conf/config.yaml:9:10: this quote is not closed",
    ),
    "a value that needs quotes": (
        DEFAULTS + REST + "slices: @sex\n",
        "conf/config.yaml:9:9: a value cannot start with '@'; quote it",
    ),
    "an interpolation that needs quotes": (
        DEFAULTS + REST + "trainer: {lr: ${trainer.model.dropout}, model: {dropout: 0.5}}\n",
        "conf/config.yaml:9:10: inside brackets an interpolation needs quotes",
    ),
    "a tag": (
        DEFAULTS + REST.replace("credit\n", "!!python/name:os.getpid credit\n"),
        "conf/config.yaml:6:7: name: the tag tag:yaml.org,2002:python/name:os.getpid means nothing here, "
        "only plain values do",
    ),
    "an alias that holds itself": (
        DEFAULTS + REST + "observers: &me {guest_hook: *me}\n",
        "conf/config.yaml: holds more than 200,000 values; aliases (*name) multiply what they stand for",
    ),
    "nested without end": (DEFAULTS + REST + f"slices: {'[' * 5000}\n", "conf/config.yaml: is nested too deeply"),
    "a character of no text": (
        DEFAULTS + REST + "slices: [a\x00]\n",
        "conf/config.yaml:9:11: the character U+0000 cannot stand in YAML",
    ),
    "a key that is no word": (
        DEFAULTS + REST + "store: {[a]: 1}\n",
        "conf/config.yaml:9:9: store: expected a word as key",
    ),
    "a group chosen twice": (
        DEFAULTS.replace("  - _self_", "  - trainer: guest_forest\n  - _self_") + REST,
        "conf/config.yaml:5:5: defaults: 'trainer' is chosen twice, first at conf/config.yaml:4:5",
    ),
    "_self_ twice": (
        DEFAULTS + "  - _self_\n" + REST,
        "conf/config.yaml:6:5: defaults: _self_ is there twice",
    ),
    "a choice by an interpolation that leads nowhere": (
        DEFAULTS.replace("guest_net", "${tranier}") + REST + "trainer: {plugin: guest_net}\n",
        "conf/config.yaml:4:14: defaults.trainer: the interpolation '${tranier}' leads nowhere",
    ),
    "a defaults list that is none": (
        "defaults: base\n" + REST.replace("{path", "{plugin: guest_table, path") + "trainer: {plugin: guest_net}\n",
        "conf/config.yaml:1:11: defaults: expected a list, one '- GROUP: OPTION' a line",
    ),
    "not a mapping": ("- a\n- b\n", "conf/config.yaml:1:1: expected keys with values (KEY: VALUE)"),
    "an interpolation that leads nowhere": (
        DEFAULTS + REST + "seed: ${data.splt.seed}\n",
        "conf/config.yaml:9:7: seed: the interpolation '${data.splt.seed}' leads nowhere; "
        "did you mean '${data.split.seed}'?",
    ),
    "an interpolation that cannot be read": (
        DEFAULTS + REST + "seed: ${data\n",
        "conf/config.yaml:9:7: seed: the interpolation '${data' cannot be read, expected ${KEY}",
    ),
    "an unknown resolver": (
        DEFAULTS + REST + "seed: ${oc.envv:X}\n",
        "conf/config.yaml:9:7: seed: unknown resolver 'oc.envv'; did you mean 'oc.env'?",
    ),
    "an environment variable that is not set": (
        DEFAULTS + REST + "store: {ledger: '${oc.env:GUEST_UNSET}'}\n",
        "conf/config.yaml:9:17: store.ledger: the environment variable GUEST_UNSET is not set; "
        "set it, or give a default: ${oc.env:GUEST_UNSET,DEFAULT}",
    ),
    "an environment variable that is not set, in a list": (
        DEFAULTS + REST + "slices: [sex, '${oc.env:GUEST_UNSET}']\n",
        "conf/config.yaml:9:15: slices.1: the environment variable GUEST_UNSET is not set; "
        "set it, or give a default: ${oc.env:GUEST_UNSET,DEFAULT}",
    ),
    "an interpolation that leads nowhere, in a list": (
        DEFAULTS + REST + "slices: [sex, '${data.targett}']\n",
        "conf/config.yaml:9:15: slices.1: the interpolation '${data.targett}' leads nowhere; did you mean "
        "'${data.target}'?",
    ),
    "a name that is none": (
        DEFAULTS + REST.replace("credit\n", "My Credit\n"),
        "conf/config.yaml:6:7: name: expected lower-case letters, digits, '-' and '_', got 'My Credit'",
    ),
    "an unknown metric": (
        DEFAULTS + REST.replace("auroc", "auroc1"),
        "conf/config.yaml:7:9: metric: unknown metric 'auroc1'; did you mean 'auroc'?",
    ),
    "a metric of another task": (
        DEFAULTS + REST.replace("auroc", "rmse").replace("}", ", task: binary}"),
        "conf/config.yaml:7:9: metric: metric 'rmse' means nothing for task 'binary'; expected one of: "
        "auroc, auprc, accuracy, balanced_accuracy, f1, log_loss, brier",
    ),
    "a gate on an unknown metric": (
        DEFAULTS + REST + "gate: [{metric: auroc1, at_least: 0.5}]\n",
        "conf/config.yaml:9:17: gate.0.metric: unknown metric 'auroc1'; did you mean 'auroc'?",
    ),
    "a gate without a bound": (
        DEFAULTS + REST + "gate: [{metric: auroc}]\n",
        "conf/config.yaml:9:8: gate.0: a rule needs a bound; add at_least or at_most",
    ),
    "a gate that nothing passes": (
        DEFAULTS + REST + "gate: [{metric: auroc, at_least: 0.9, at_most: 0.8}]\n",
        "conf/config.yaml:9:8: gate.0: nothing can be at least 0.9 and at most 0.8",
    ),
    "a gate rule twice": (
        DEFAULTS + REST + "gate:\n  - {metric: auroc, at_least: 0.5}\n  - {metric: auroc, at_least: 0.6}\n",
        "conf/config.yaml:11:5: gate.1: the same rule is there twice, first as gate.0",
    ),
    "a gate on a slice of no column": (
        DEFAULTS + REST + "gate: [{metric: auroc, at_least: 0.5, slice: sx=male}]\n",
        "conf/config.yaml:9:46: gate.0.slice: the data has no column 'sx'; did you mean 'sex'?",
    ),
    "a slice that is no column": (
        DEFAULTS + REST + "slices: [agee]\n",
        "conf/config.yaml:9:10: slices.0: the data has no column 'agee'; did you mean 'age'?",
    ),
    "a target that is no column": (
        DEFAULTS + REST.replace("status", "statu"),
        "conf/config.yaml:8:39: data.target: the data has no column 'statu'; did you mean 'status'?",
    ),
    "data that cannot be read": (
        DEFAULTS + REST.replace("credit.csv", "nothing.csv"),
        "conf/config.yaml:8:14: data.path: the data cannot be read: [Errno 2] No such file or directory: "
        "'{ROOT}/data/nothing.csv'",
    ),
    "a contract that is not there": (
        DEFAULTS + REST.replace("}", ", contract: contracts/credit.yaml}"),
        "conf/config.yaml:8:57: data.contract: there is no file 'contracts/credit.yaml'; there are none",
    ),
    "a split that leaves nothing": (
        DEFAULTS + REST.replace("}", ", split: {test: 0.5, validation: 0.5}}"),
        "conf/config.yaml:8:54: data.split: validation and test leave nothing to train on, they sum to 1",
    ),
    "a split by a column that is not named": (
        DEFAULTS + REST.replace("}", ", split: {strategy: time}}"),
        "conf/config.yaml:8:47: data.split.column: missing mandatory value, strategy 'time' needs a column",
    ),
    "trust in something unknown": (
        DEFAULTS + REST + "trust: [pickl]\n",
        "conf/config.yaml:9:9: trust.0: unknown value 'pickl'; did you mean 'pickle'?",
    ),
    "an unknown strategy": (
        DEFAULTS + REST + "rollout: {strategy: canari}\n",
        "conf/config.yaml:9:21: rollout.strategy: unknown value 'canari'; did you mean 'canary'?",
    ),
    "a misspelt key of the rollout": (
        DEFAULTS + REST + "rollout: {strategy: canary, step: []}\n",
        "conf/config.yaml:9:29: rollout.step: unknown key; did you mean 'steps'?",
    ),
    "a share that does not rise": (
        DEFAULTS + REST + "rollout:\n  strategy: canary\n  steps:\n  - weight: 20\n  - weight: 10\n",
        "conf/config.yaml:13:13: rollout.steps.1.weight: shares must rise, and 10 % comes after 20 %",
    ),
    "a share of everything": (
        DEFAULTS + REST + "rollout:\n  strategy: canary\n  steps:\n  - weight: 100\n",
        "conf/config.yaml:12:13: rollout.steps.0.weight: expected a share between 0 and 100 percent, got 100; "
        "all comes after the last",
    ),
    "arms that do not sum to 100": (
        DEFAULTS
        + REST
        + "rollout:\n  strategy: ab\n  arms:\n  - {name: a, alias: champion, weight: 50}\n"
        + "  - {name: b, alias: challenger, weight: 40}\n",
        "conf/config.yaml:11:3: rollout.arms: weights sum to 90, expected 100",
    ),
    "a sticky that names nothing": (
        DEFAULTS + REST + "rollout: {strategy: ab, sticky: user}\n",
        "conf/config.yaml:9:33: rollout.sticky: 'user' names nothing of a request; "
        "expected header:NAME, cookie:NAME or field:NAME",
    ),
    "a key of a later version": (
        DEFAULTS + REST + "retrain: {on: [drift]}\n",
        "conf/config.yaml:9:1: retrain: is not part of this version of mlops_core; take it out",
    ),
    "an unknown observer": (
        DEFAULTS + REST + "observers:\n  guest_hok: {url: x}\n",
        "conf/config.yaml:10:3: observers.guest_hok: unknown observer 'guest_hok'; did you mean 'guest_hook'?",
    ),
    "a wrong option of an observer": (
        DEFAULTS + REST + "observers:\n  guest_hook: {url: 3}\n",
        "conf/config.yaml:10:21: observers.guest_hook.url: expected text, got 3",
    ),
    "an option of another trainer": (
        DEFAULTS.replace("guest_net", "guest_forest") + REST + "trainer: {estimator: SVC, epochs: 3}\n",
        "conf/config.yaml:9:27: trainer.epochs: unknown option; it belongs to trainer 'guest_net': "
        "keep it in conf/trainer/guest_net.yaml",
    ),
    "a section that is no mapping": (
        DEFAULTS + REST + "store: here\n",
        'conf/config.yaml:9:8: store: expected mapping, got "here"',
    ),
}


@pytest.mark.parametrize("case", ONE)
def test_one_error(project: Path, case: str) -> None:
    text, expected = ONE[case]
    trainers = sorted({"lightning", "sklearn", "xgboost", "lightgbm", "guest_net", "guest_forest", "guest_small"})
    expected = expected.replace("{ROOT}", str(project)).replace("{TRAINERS}", ", ".join(trainers))
    assert told(project, text) == [expected]


SPACE = {
    "trainer.lrr: uniform(0.1, 1)": ":11:5: tuner.space.trainer.lrr: no option of trainer 'guest_net'; "
    "did you mean 'trainer.lr'?",
    "trainer.model.dropot: uniform(0, 1)": ":11:5: tuner.space.trainer.model.dropot: no option of trainer "
    "'guest_net'; did you mean 'trainer.model.dropout'?",
    "lr: uniform(0.1, 1)": ":11:5: tuner.space.lr: no option of trainer 'guest_net'; did you mean 'trainer.lr'?",
    "trainer.lr: unifrm(0.1, 1)": ":11:17: tuner.space.trainer.lr: unknown distribution 'unifrm'; "
    "did you mean 'uniform'?",
    "trainer.lr: uniform(1, 0.1)": ":11:17: tuner.space.trainer.lr: uniform needs low < high, got low 1 and high 0.1",
    "trainer.lr: uniform(0, 1)": ":11:17: tuner.space.trainer.lr: it reaches a value that trainer.lr cannot have: "
    "expected number, more than 0, got 0",
    "trainer.model.dropout: uniform(0, 2)": ":11:28: tuner.space.trainer.model.dropout: it reaches a value that "
    "trainer.model.dropout cannot have: expected number, at least 0, less than 1, got 2",
    "trainer.epochs: uniform(1, 5)": "",
    "trainer.epochs: uniform(1.5, 5)": ":11:21: tuner.space.trainer.epochs: it reaches a value that trainer.epochs "
    "cannot have: expected whole number, at least 1, got 1.5",
    "trainer.optimizer: [adam, sdg]": ":11:24: tuner.space.trainer.optimizer: it reaches a value that "
    "trainer.optimizer cannot have: unknown value 'sdg'; did you mean 'sgd'?",
    "trainer.lr: 3": ":11:17: tuner.space.trainer.lr: expected a distribution such as uniform(0, 1) or a list of "
    "choices, got 3",
    "trainer.extra.any.thing: [1, two]": "",
    "trainer.lr: {uniform: [0.1, 1], when: {trainer.optimizer: sgd}}\n    trainer.optimizer: [adam, sgd]": "",
    "trainer: {lr: {uniform: [0.1, 1], when: {trainer.optimizer: [adam, sgd]}}, optimizer: [adam, sgd]}": "",
    "trainer.lr: {uniform: [0.1, 1], when: sgd}": ":11:17: tuner.space.trainer.lr: when expects conditions such as "
    "{trainer.optimizer: sgd}, got 'sgd'",
    "trainer.lr: {unifrm: [0.1, 1], when: {trainer.optimizer: sgd}}": ":11:17: tuner.space.trainer.lr: unknown "
    "distribution 'unifrm'; did you mean 'uniform'?",
    "trainer.lr: {uniform: [0.1, 1], when: {trainer.optimzer: sgd}}\n    trainer.optimizer: [adam, sgd]": ":11:62: "
    "tuner.space.trainer.lr.when.trainer.optimzer: its condition names no dimension of the space; "
    "did you mean 'trainer.optimizer'?",
    "trainer.lr: {uniform: [0.1, 1], when: {trainer.optimizer: sdg}}\n    trainer.optimizer: [adam, sgd]": ":11:63: "
    "tuner.space.trainer.lr.when.trainer.optimizer: trainer.optimizer is never 'sdg'; did you mean 'sgd'?",
    "trainer.lr: {uniform: [0.1, 1], when: {trainer.epochs: 3}}\n    trainer.epochs: randint(1, 9)": ":11:60: "
    "tuner.space.trainer.lr.when.trainer.epochs: its condition names a randint; only a choice or a grid can be one; "
    "there are none",
    "trainer.epochs: {uniform: [1.5, 5], when: {trainer.optimizer: sgd}}\n    trainer.optimizer: [sgd]": ":11:21: "
    "tuner.space.trainer.epochs: it reaches a value that trainer.epochs cannot have: expected whole number, "
    "at least 1, got 1.5",
    "trainer.model.hidden: [[8], [8, 8]]": "",
}


@pytest.mark.parametrize("line", SPACE)
def test_search_space(project: Path, line: str) -> None:
    text = DEFAULTS + REST + f"tuner:\n  space:\n    {line}\n"
    text = text.replace("  - _self_\n", "  - tuner: guest_search\n  - _self_\n").replace("metric: auroc\n", "", 1)
    text += "metric: auroc\n"
    expected = SPACE[line]
    assert told(project, text) == ([f"conf/config.yaml{expected}"] if expected else [])


GOALS = {
    "objectives: {brier: min, seconds: min}": ":11:28: tuner.objectives.seconds: unknown metric 'seconds'; expected "
    "one of: accuracy, auprc, auroc, balanced_accuracy, brier, f1, log_loss, mae, model_bytes, r2, rmse, size_kib",
    "objectives: {size_kb: min}": ":11:16: tuner.objectives.size_kb: unknown metric 'size_kb'; did you mean "
    "'size_kib'?",
    "objectives: {model_bytes: max}": ":11:29: tuner.objectives.model_bytes: model_bytes is the better the "
    "lower; write min",
    "objectives: {model_bytes: min, size_kib: min}": "",
    "objectives: {size_kib: max}": "",
    "objectives: {brierr: min}": ":11:16: tuner.objectives.brierr: unknown metric 'brierr'; did you mean 'brier'?",
    "objectives: {brier: lowest}": ":11:23: tuner.objectives.brier: unknown value 'lowest'; expected one of: max, min",
    "objectives: {brier: max}": ":11:23: tuner.objectives.brier: brier is the better the lower; write min",
    "objectives: {auroc: max}": ":11:16: tuner.objectives.auroc: it is the metric, which is an objective already; "
    "take it out",
    "objectives: {1: min}": ":11:16: tuner.objectives.1: unknown metric '1'; did you mean 'f1'?",
    "objectives: [brier]": ":11:15: tuner.objectives: expected mapping of one of 'max', 'min', got [\"brier\"]",
    "objectives: {brier: min}\n  tolerance: -1": ":12:14: tuner.tolerance: expected number, at least 0, got -1",
    "tolerance: 0.1": ":11:14: tuner.tolerance: there is no further objective to give up the metric for; name one in "
    "tuner.objectives, or take it out",
    "objectives: {brier: min}\n  scheduler: asha": ":12:14: tuner.scheduler: asha stops trials that are behind in "
    "auroc, which may be the best in brier; take it out, or write none",
    "objectives: {brier: min}\n  scheduler: none\n  tolerance: 0.1": "",
    "objectives: {brier: min, log_loss: min}": "",
    "scheduler: asha": "",
    "objectves: {brier: min}": ":11:3: tuner.objectves: unknown option; did you mean 'objectives'?",
}


@pytest.mark.parametrize("lines", GOALS)
def test_objectives(project: Path, lines: str) -> None:
    text = DEFAULTS.replace("  - _self_\n", "  - tuner: ray\n  - _self_\n") + REST
    text += f"tuner:\n  {lines}\n  space: {{trainer.lr: [0.1, 1]}}\n"
    expected = GOALS[lines]
    assert told(project, text) == ([f"conf/config.yaml{expected}"] if expected else [])


def test_scores_that_only_a_fit_can_tell_are_let_through(project: Path) -> None:
    text = DEFAULTS.replace("  - _self_\n", "  - tuner: ray\n  - _self_\n") + REST
    text += (
        "tuner: {objectives: {seconds: min, brier: max}, space: {trainer.lr: [0.1, 1]}}\ntrainer: {extra: {own: 1}}\n"
    )
    assert told(project, text) == [
        "conf/config.yaml:10:43: tuner.objectives.brier: brier is the better the lower; write min"
    ]


def test_a_metric_of_another_task_is_no_objective(project: Path) -> None:
    text = DEFAULTS.replace("  - _self_\n", "  - tuner: ray\n  - _self_\n") + REST.replace(
        "status}", "status, task: binary}"
    )
    text += "tuner: {objectives: {rmse: min}, space: {trainer.lr: [0.1, 1]}}\n"
    [said] = told(project, text)
    assert said.startswith(
        "conf/config.yaml:10:22: tuner.objectives.rmse: metric 'rmse' means nothing for task 'binary'; "
    )


def test_conditions_that_hang_on_each_other(project: Path) -> None:
    text = DEFAULTS + REST + "tuner:\n  plugin: guest_search\n  space:\n"
    text += "    trainer.optimizer: {choice: [adam, sgd], when: {trainer.epochs: 1}}\n"
    text += "    trainer.epochs: {choice: [1, 2], when: {trainer.optimizer: sgd}}\n"
    assert told(project, text)[0] == (
        "conf/config.yaml:12:69: tuner.space.trainer.optimizer.when.trainer.epochs: it hangs on itself: "
        "trainer.optimizer > trainer.epochs > trainer.optimizer; take one of these conditions out"
    )


def test_a_distribution_that_yaml_cuts_in_two_is_told_to_be_quoted(project: Path) -> None:
    text = DEFAULTS + REST + "tuner: {plugin: guest_search, space: {trainer.lr: loguniform(1e-4, 1e-1)}}\n"
    assert told(project, text) == [
        "conf/config.yaml:9:51: tuner.space.trainer.lr: 'loguniform(1e-4' has no closing bracket; "
        "inside {...} quote it: 'loguniform(1e-4, ...)'",
        "conf/config.yaml:9:68: tuner.space.1e-1): a distribution is cut in two here; "
        'quote it: "loguniform(1e-4, 1e-1)"',
    ]


OVERRIDES = {
    "trainer.epocs=3": "trainer.epocs: unknown option; did you mean 'epochs'?",
    "trainr.epochs=3": "trainr: unknown key; did you mean 'trainer'?",
    "trainer.epochs=x": 'trainer.epochs: expected whole number, at least 1, got "x"',
    "trainer=guest_nett": "trainer: unknown trainer 'guest_nett'; did you mean 'guest_net'?",
    "+trainer=guest_nett": "trainer: unknown trainer 'guest_nett'; did you mean 'guest_net'?",
    "epochs": "epochs: cannot be read, expected KEY=VALUE, GROUP=OPTION or ~KEY",
    "tra iner=3": "tra iner: this is no key, expected KEY=VALUE, GROUP=OPTION or ~KEY",
    "trainer.lr=1,2": "trainer.lr: a sweep means nothing here; for a list write trainer.lr=[1,2], "
    "for text trainer.lr=\\'1,2\\'",
    "trainer.lr=choice(1,2)": "trainer.lr: a sweep means nothing here; to search over it declare "
    "tuner.space.trainer.lr=choice(1,2)",
    "data.path=a (b": "data.path: the value 'a (b' cannot be read; quote it: 'data.path=\"a (b\"'",
    "~trainer.nothing": "trainer.nothing: nothing is there to take away",
    "hydra.run.dir=x": "hydra.run.dir: Hydra's own settings mean nothing here",
    "seed=${sed}": "seed: the interpolation '${sed}' leads nowhere; did you mean '${seed}'?",
    "data.target=statu": "data.target: the data has no column 'statu'; did you mean 'status'?",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_override(project: Path, override: str) -> None:
    found = told(project, DEFAULTS + REST, "seed=1", override)
    assert found == [f"command line, override 2: {OVERRIDES[override]}"]
    assert not any("To append" in line for line in found)


MANY = """\
defaults:
  - bas
  - data: guest_table
  - trainer: guest_nett
  - tunr: guest_search
  - _self_
nam: credit
metric: aurc
data:
  path: data/credit.csv
  targt: status
  split: {strategy: randm}
  contract: contracts/credit.yaml
trainer: {epocs: 30, model: {hiden: [64], dropout: x}, lr: "${nope}", optimizer: ${metric}}
tuner:
  trials: 0
  space:
    trainer.lrr: uniform(0.1, 1)
seed: ${store.ledger}
seed: 2
gate:
  - {metric: aurok, at_lest: 1}
slices: [agee]
store: {ledger: "${store.objects}", objects: "${store.ledger}"}
	x: 1
   y: 2
"""
KEYS = [
    "", "defaults", "defaults.trainer", "defaults", "nam", "metric", "data.targt", "data.split.strategy", "", "",
    "trainer.epocs", "trainer.model.hiden", "trainer.model.dropout", "trainer.lr", "tuner.trials",
    "tuner.space.trainer.lrr", "seed", "seed", "gate.0", "gate.0.metric", "gate.0.at_lest", "slices.0", "store.ledger",
    "store.objects", "", "x",
]  # fmt: skip


def test_all_at_once(project: Path) -> None:
    (project / "contracts" / "credit.yaml").write_text("columns:\n  agee: {range: [0, 1]}\n  age: {}\n  age: {}\n")
    (project / "conf" / "config.yaml").write_text(MANY)
    problems = config.check(project, ["trainr.lr=1", "slices.0=x,y"])
    found = {(p.place.split(":")[0], p.key) for p in problems}
    for key in KEYS:
        assert ("conf/config.yaml", key) in found, key
    assert ("command line, override 1", "trainr") in found and ("command line, override 2", "slices.0") in found
    assert [p.key for p in problems if p.place.startswith("contracts/")] == ["columns.agee", "columns.age"]
    with pytest.raises(DeclarationError) as error:
        config.declare(project)
    assert error.value.exit_code == 3 and str(error.value).startswith(f"{len(error.value.problems)} problems in ")
    assert pickle.loads(pickle.dumps(error.value)).problems == error.value.problems


def test_the_excerpt_points_at_the_place(project: Path) -> None:
    (project / "conf" / "config.yaml").write_text(DEFAULTS + REST + "trainer: {epocs: 3}\n")
    (problem,) = config.check(project)
    assert str(problem).split("\n") == [
        "conf/config.yaml:9:11: trainer.epocs: unknown option; did you mean 'epochs'?",
        "    9 | trainer: {epocs: 3}",
        "      |           ^",
    ]


def test_an_error_in_a_preset_is_told_there(project: Path) -> None:
    (project / "conf" / "trainer").mkdir()
    (project / "conf" / "trainer" / "guest_net.yaml").write_text("lr: 0.1\nepocs: 3\n")
    assert told(project, DEFAULTS + REST) == [
        "conf/trainer/guest_net.yaml:2:1: trainer.epocs: unknown option; did you mean 'epochs'?"
    ]


def test_a_preset_that_names_no_plugin(project: Path) -> None:
    (project / "conf" / "trainer").mkdir()
    (project / "conf" / "trainer" / "quick.yaml").write_text("lr: 0.1\n")
    assert told(project, DEFAULTS.replace("guest_net", "quick") + REST) == [
        "conf/config.yaml:4:14: trainer.plugin: missing mandatory value, expected text"
    ]


def test_errors_in_a_contract_are_told_in_its_file(project: Path) -> None:
    (project / "contracts" / "credit.yaml").write_text("columns:\n  age: {rnge: [0, 120]}\n  agee: {nullable: false}\n")
    text = DEFAULTS + REST.replace("}", ", contract: contracts/credit.yaml}")
    found = told(project, text)
    assert [f.split(": ")[0] for f in found] == ["contracts/credit.yaml:2:9", "contracts/credit.yaml:3:3"]
    assert "did you mean 'range'?" in found[0] and "agee" in found[1] and "did you mean 'age'?" in found[1]


def test_a_contract_beside_the_one_meant(project: Path) -> None:
    (project / "contracts" / "credit.yaml").write_text("columns: {}\n")
    text = DEFAULTS + REST.replace("}", ", contract: contracts/credt.yaml}")
    assert told(project, text) == [
        "conf/config.yaml:8:57: data.contract: there is no file 'contracts/credt.yaml'; "
        "did you mean 'contracts/credit.yaml'?"
    ]


def test_a_contract_outside_the_project_that_is_not_there(project: Path) -> None:
    other = project.parent / "shared"
    other.mkdir()
    (other / "credit.yaml").write_text("columns: {}\n")
    assert told(project, DEFAULTS + REST.replace("}", f", contract: {other}/credt.yaml}}")) == [
        f"conf/config.yaml:8:57: data.contract: there is no file '{other}/credt.yaml'; "
        f"did you mean '{other}/credit.yaml'?"
    ]


def test_an_interpolation_in_a_contract_that_cannot_be_read(project: Path) -> None:
    (project / "contracts" / "credit.yaml").write_text("description: it costs ${ a lot\ncolumns: {}\n")
    assert told(project, DEFAULTS + REST.replace("}", ", contract: contracts/credit.yaml}")) == [
        "contracts/credit.yaml:1:14: description: the interpolation 'it costs ${ a lot' cannot be read, expected ${KEY}"
    ]
