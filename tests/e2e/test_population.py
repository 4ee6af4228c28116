"""Population based training from YAML to the model: its schedule in the lineage, and made again where it was lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mlops_core import api, hookimpl, lineage, open_bundle

# All over this space 30 rounds pass the recipe's gate (AUROC 0.85 to 0.87, at least 0.80 declared), so whoever wins.
POPULATION = """\
plugin: ray
scheduler: pbt
trials: 3
interval: 10
changes: [trainer.learning_rate, trainer.subsample]
space:
  trainer.learning_rate: loguniform(0.05, 0.3)
  trainer.subsample: uniform(0.8, 1)
  trainer.colsample: [0.5, 1]
"""
TOLD = ["trainer=xgboost", "tuner=population", "trainer.rounds=30", "trainer.threads=1"]


class Heard:
    """What each stage left."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}

    @hookimpl
    def mlops_finished(self, stage: str, record: Any, skipped: bool) -> None:
        self.records[stage] = record


@pytest.mark.timeout(300)
def test_the_model_of_a_population_has_a_schedule_by_which_it_is_made_again(tmp_path: Path) -> None:
    root = api.init(tmp_path / "credit", "credit")
    (root / "conf" / "tuner").mkdir(exist_ok=True)
    (root / "conf" / "tuner" / "population.yaml").write_text(POPULATION)
    heard = Heard()
    done = api.run(root, TOLD, until="gate", observers=[heard])
    tuned, model = heard.records["tune"], api.version(root, done.version).model
    best = next(t for t in tuned.trials if t.number == tuned.best)
    legs = lineage(tuned.trials, best)
    assert len(legs) == 3 and model.params == best.params and model.scores == best.scores
    told = open_bundle(model.path).manifest["lineage"]
    assert told["schedule"] == [{"steps": t.steps, "params": dict(t.params)} for t in legs]
    assert len({t["params"]["trainer.colsample"] for t in told["schedule"]}) == 1

    causes = {s.stage: [c.key for c in s.causes] for s in api.plan(root, [*TOLD, "tuner.interval=15"]).steps}
    assert causes["tune"] == ["tuner.interval"]
    for folder in ("models", "objects", "bundles"):
        shutil.rmtree(root / ".mlops" / folder)
    again = api.run(root, TOLD, until="gate")
    assert "train" in again.performed and "tune" in again.skipped
    assert api.version(root, again.version).model.digest == model.digest
