"""The whole line with a search on nodes that see nothing of `.mlops`: data go there, the best models come home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rare_kit
from away_kit import away_cluster

from mlops_core import api

CONFIG = """\
defaults:
  - base
  - data: csv
  - trainer: sklearn
  - tuner: ray
  - _self_
name: rare
seed: 1
data: {path: data.csv, target: label}
store: {objects: 'file://%s/objects'}
trainer:
  estimator: LogisticRegression
tuner:
  address: %s
  sampler: grid
  trials: 4
  space:
    trainer.params.class_weight: [null, balanced]
    trainer.params.C: [1e-9, 1]
metric: accuracy
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for folder in (root / "conf", root / ".mlops"):
        folder.mkdir(parents=True)
    rare_kit.write(root)
    return root


def test_the_models_of_the_best_trials_come_home_and_none_is_fitted_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlops_tabular.estimator import Sklearn

    fits: list[Any] = []
    fit = Sklearn.fit
    monkeypatch.setattr(Sklearn, "fit", lambda *told: fits.append(told) or fit(*told))
    with away_cluster(root / ".mlops", [1, 1], monkeypatch) as cluster:
        (root / "conf" / "config.yaml").write_text(CONFIG % (root.parent, cluster.address))
        done = api.run(root)
        best = api.version(root, done.version).model
        assert {"tune", "train"} <= set(done.performed) and fits == []
        assert best.params["trainer.params.C"] == 1 and best.scores["accuracy"] > 0.8

        several = ["tuner.objectives={balanced_accuracy: max}"]
        plain = api.version(root, api.run(root, several).version).model
    fair = api.run(root, [*several, "tuner.tolerance=0.5"])  # the cluster is gone, and the models are here
    model = api.version(root, fair.version).model
    assert "tune" in fair.skipped and "train" in fair.performed and fits == []
    assert plain.params["trainer.params.class_weight"] is None
    assert model.params["trainer.params.class_weight"] == "balanced"
    assert model.scores["balanced_accuracy"] > plain.scores["balanced_accuracy"]
