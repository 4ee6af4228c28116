"""One contestant: `python contestant.py NAME FOLDER` runs FOLDER/trials.pickle and prints the best score."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlops_core.contracts import Goal
from tuning_peers.trials import METRIC, Trials

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "PYTHONPATH": str(Path(__file__).parents[1]),
}
LEAN = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}


def one_process(trials: Trials, folder: Path) -> float:
    return max(map(trials.alone, range(trials.count)))


def optuna(trials: Trials, folder: Path) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    study.optimize(lambda trial: trials.alone(trial.number), n_trials=trials.count)
    return float(study.best_value)


def joblib(trials: Trials, folder: Path) -> float:
    from joblib import Parallel, delayed

    return float(max(Parallel(n_jobs=2)(delayed(trials.alone)(n) for n in range(trials.count))))


def ours(trials: Trials, folder: Path, **options: Any) -> float:
    from mlops_ray.tuner import RayTuner, Resources

    tuner = RayTuner(trials=trials.count, scheduler="none", resources=Resources(cpus=1), **options)
    goal = Goal(metric=METRIC, mode="max", seed=0)
    return tuner.search(trials, trials.space, goal, folder / "search", lambda *told: None).scores[METRIC]


def grid(trials: Trials, folder: Path) -> float:
    from mlops_local.tuner import GridTuner

    goal = Goal(metric=METRIC, mode="max", seed=0)
    found = GridTuner(workers=2).search(trials, trials.space, goal, folder / "search", lambda *told: None)
    return found.scores[METRIC]


def ray_tune(trials: Trials, folder: Path, lean: bool) -> float:
    os.environ.update(QUIET | (LEAN if lean else {}))
    import ray
    from ray import tune

    def trial(config: dict[str, Any]) -> None:
        tune.report({METRIC: trials.alone(config["number"])})

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    space = {"number": tune.grid_search(list(range(trials.count)))}
    about: dict[str, Any] = {"metric": METRIC, "mode": "max"} | ({"reuse_actors": True} if lean else {})
    run = tune.RunConfig(storage_path=str(folder / "ray"), verbose=0)
    results = tune.Tuner(trial, param_space=space, tune_config=tune.TuneConfig(**about), run_config=run).fit()
    best = float(results.get_best_result().metrics[METRIC])
    ray.shutdown()
    return best


CONTESTANTS: dict[str, Any] = {
    "one process, a loop": one_process,
    "optuna, a loop": optuna,
    "joblib, 2 processes": joblib,
    "ray tune, lean": lambda t, f: ray_tune(t, f, lean=True),
    "ray tune, Tuner(fn)": lambda t, f: ray_tune(t, f, lean=False),
    "ours, tuner: grid, 2 workers": grid,
    "ours, tuner: ray": lambda t, f: ours(t, f, sampler="grid"),
    "ours, one trial at a time": lambda t, f: ours(t, f, sampler="grid", concurrency=1),
}

if __name__ == "__main__":
    where = Path(sys.argv[2])
    print(CONTESTANTS[sys.argv[1]](pickle.loads((where / "trials.pickle").read_bytes()), where))
