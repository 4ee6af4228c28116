"""A search for a front, from YAML to the model: with a real trainer, by the grid; tuner `ray` has tests of its own."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import rare_kit

from mlops_core import api
from mlops_core.contracts import ModelVersion
from mlops_core.errors import TrainingError

CONFIG = """\
defaults:
  - base
  - data: csv
  - trainer: sklearn
  - tuner: grid
  - _self_
name: rare
seed: 1
data: {path: data.csv, target: label}
trainer:
  estimator: LogisticRegression
tuner:
  objectives: {balanced_accuracy: max}
  space:
    trainer.params.class_weight: [null, balanced]
    trainer.params.C: [1e-9, 1]
metric: accuracy
"""


@pytest.fixture
def rare(tmp_path: Path) -> Path:
    rare_kit.write(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG)
    return tmp_path


def latest(root: Path, *overrides: str) -> ModelVersion:
    done = api.run(root, list(overrides))
    return api.version(root, done.version)


def weight(version: ModelVersion) -> Any:
    return version.model.params["trainer.params.class_weight"]


def test_the_tolerance_says_which_model_of_the_front_is_taken_and_asks_for_no_other_search(rare: Path) -> None:
    plain, due = latest(rare), {s.stage: s for s in api.plan(rare, ["tuner.tolerance=0.5"]).steps}
    assert due["tune"].state == "unchanged"
    assert {c.key.partition(".")[0] for c in due["train"].causes} == {"tuned"}
    told = api.run(rare, ["tuner.tolerance=0.5"])
    fair = api.version(rare, told.version)
    assert weight(plain) is None and weight(fair) == "balanced"
    assert "tune" in told.skipped and "train" in told.performed
    (accuracy, recall), (less, more) = [
        [v.model.scores[name] for name in ("accuracy", "balanced_accuracy")] for v in (plain, fair)
    ]
    assert accuracy > less and recall < more
    given_up = accuracy - less
    assert latest(rare, f"tuner.tolerance={given_up * 0.99}").model == plain.model
    assert latest(rare, f"tuner.tolerance={given_up}").model == fair.model


def test_the_models_of_the_front_are_those_of_its_trials(rare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fit after the search, whichever is taken; but where its model was lost."""
    from mlops_tabular.estimator import Sklearn

    fits: list[Any] = []
    fit = Sklearn.fit
    monkeypatch.setattr(Sklearn, "fit", lambda self, dataset, job: (fits.append(self), fit(self, dataset, job))[1])
    plain, fair = latest(rare), latest(rare, "tuner.tolerance=0.5")
    assert len(fits) == 4
    for folder in ("models", "objects"):
        shutil.rmtree(rare / ".mlops" / folder)
    again = latest(rare, "tuner.tolerance=0.5")
    assert len(fits) == 5 and again.model.params == fair.model.params != plain.model.params
    assert again.model.digest == fair.model.digest
    assert latest(rare, "tuner.retrain_best=true").model.scores == plain.model.scores
    assert len(fits) == 6


def test_another_order_of_objectives_is_another_search_and_a_tolerance_is_none(rare: Path) -> None:
    latest(rare, "tuner.objectives.brier=min")
    assert not api.plan(rare, ["tuner.objectives.brier=min"]).due
    (rare / "conf" / "config.yaml").write_text(CONFIG.replace("{balanced", "{brier: min, balanced"))
    causes = {s.stage: s for s in api.plan(rare).steps}["tune"].causes
    assert [c.key for c in causes] == ["tuner.objectives"]


def test_an_objective_that_is_nowhere_a_number_leaves_the_best_in_the_metric(
    rare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops_tabular.estimator import Sklearn

    fit = Sklearn.fit
    monkeypatch.setattr(Sklearn, "fit", lambda *told: fit(*told) | {"balanced_accuracy": math.nan})
    assert weight(latest(rare, "tuner.tolerance=0.5")) is None


def test_what_a_run_tells_of_a_front(rare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mlops_core.cli.main import main

    main(["run", "--project", str(rare), "--until", "train"])
    told = capsys.readouterr().out
    assert re.search(r"tune .* 4 trials, \d of them the front; best: ", told)
    assert re.search(r"the model of trial \d: accuracy 0\.\d+, balanced_accuracy 0\.\d+, ", told)


def test_a_trainer_that_does_not_report_an_objective_ends_the_search_at_once(
    rare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops_tabular.estimator import Sklearn

    fit = Sklearn.fit
    poor = lambda self, dataset, job: {"accuracy": fit(self, dataset, job)["accuracy"]}  # noqa: E731
    monkeypatch.setattr(Sklearn, "fit", poor)
    with pytest.raises(TrainingError, match=r"objective 'balanced_accuracy' is not among the scores .* did you mean"):
        api.run(rare)


def test_the_size_of_the_model_is_an_objective(rare: Path) -> None:
    text = CONFIG.replace("LogisticRegression", "RandomForest").replace("balanced_accuracy: max", "model_bytes: min")
    text = text.replace("class_weight: [null, balanced]", "n_estimators: [1, 30]")
    text = text.replace("C: [1e-9, 1]", "max_depth: [3]").replace("metric: accuracy", "metric: log_loss")
    (rare / "conf" / "config.yaml").write_text(text)
    large, small = latest(rare), latest(rare, "tuner.tolerance=10")
    assert [v.model.params["trainer.params.n_estimators"] for v in (large, small)] == [30, 1]
    assert 1000 < small.model.scores["model_bytes"] < large.model.scores["model_bytes"] / 10


def test_a_score_of_the_trainers_own_is_an_objective(here: Any) -> None:
    trainer, config = here.plugin / "toyplug" / "trainer.py", here.root / "conf" / "config.yaml"
    own = '        found = {**found, "reach": 2 - abs(self.shift)}\n        job.report(1, found)\n'
    reports = '    def reports(self):\n        return ["reach"]\n\n    def modules('
    text = trainer.read_text().replace("        job.report(1, found)\n", own).replace("    def modules(", reports)
    trainer.write_text(text)
    search = "tuner:\n  objectives: {reach: min}\n  space: {trainer.shift: [0.0, 0.01, 1.5]}\nmetric"
    config.write_text(
        config.read_text().replace("metric", search, 1).replace("toy\n  - _", "toy\n  - tuner: grid\n  - _")
    )
    first, last = latest(here.root), latest(here.root, "tuner.tolerance=0.5")
    assert [v.model.params["trainer.shift"] for v in (first, last)] == [0.01, 1.5]
    assert last.model.scores["reach"] == 0.5
