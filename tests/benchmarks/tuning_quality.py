"""What a search finds with an equal number of trials: our default sampler, random points, and Optuna's default.

    python tests/benchmarks/tuning_quality.py --seeds=3 --trials=16      a quick look

The best validation score of 32 trials over ten seeds, on three data sets that ship with scikit-learn. Who is best on a
data set and seed has rank 1. Goals: our mean score is never the worse one, our mean rank is the first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mlops_core import Trials
from mlops_core.contracts import Goal, Space, Trial
from mlops_core.space import parse

Objective = Callable[[Mapping[str, Any]], float]


def halves(load: Callable[..., Any]) -> tuple[Any, ...]:
    x, y = load(return_X_y=True)
    return tuple(train_test_split(StandardScaler().fit_transform(x), y, test_size=0.4, random_state=0))


def digits() -> tuple[Space, Objective]:
    x, x_, y, y_ = halves(datasets.load_digits)
    space = {"C": "loguniform(1e-3, 1e3)", "gamma": "loguniform(1e-6, 1)", "kernel": ["rbf", "poly", "sigmoid"]}
    return parsed(space), lambda p: float(SVC(**p).fit(x[:400], y[:400]).score(x_, y_))


def cancer() -> tuple[Space, Objective]:
    x, x_, y, y_ = halves(datasets.load_breast_cancer)
    space = {
        "learning_rate": "loguniform(1e-3, 1)",
        "max_leaf_nodes": "randint(2, 32)",
        "min_samples_leaf": "randint(1, 40)",
        "l2_regularization": "loguniform(1e-6, 10)",
    }

    def score(point: Mapping[str, Any]) -> float:
        fitted = HistGradientBoostingClassifier(max_iter=30, early_stopping=False, random_state=0, **point).fit(x, y)
        return -float(log_loss(y_, fitted.predict_proba(x_)))

    return parsed(space), score


def diabetes() -> tuple[Space, Objective]:
    x, x_, y, y_ = halves(datasets.load_diabetes)
    space = {
        "alpha": "loguniform(1e-4, 1e2)",
        "gamma": "loguniform(1e-5, 10)",
        "kernel": ["rbf", "laplacian", "poly"],
        "degree": "randint(1, 5)",
    }
    return parsed(space), lambda p: float(KernelRidge(**p).fit(x, y - y.mean()).score(x_, y_ - y.mean()))


def parsed(space: Mapping[str, Any]) -> Space:
    return {name: parse(value) for name, value in space.items()}


def ours(space: Space, objective: Objective, trials: int, seed: int, sampler: str = "auto") -> float:
    """The sampler of tuner ray as a sweep uses it, without the processes."""
    from mlops_ray.points import Points
    from mlops_ray.tuner import RayTuner

    with tempfile.TemporaryDirectory() as out:
        goal, best = Goal(metric="score", mode="max", seed=seed), -np.inf
        points = Points(RayTuner(trials=trials, sampler=sampler), space, goal, Path(out), Trials(Path(out)))
        for _ in range(trials):
            point = points.next()
            if point is None:
                break
            value = objective(point.params)
            best = max(best, value)
            scores = {"score": value}
            points.tell(Trial(number=point.number, params=point.params, scores=scores, state="done", seconds=0))
        return float(best)


def optuna_default(space: Space, objective: Objective, trials: int, seed: int) -> float:
    import optuna

    def one(trial: Any) -> float:
        return objective({name: suggested(trial, name, d) for name, d in space.items()})

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(one, n_trials=trials)
    return float(study.best_value)


def suggested(trial: Any, name: str, d: Any) -> Any:
    if d.kind == "choice":
        return trial.suggest_categorical(name, d.args[0])
    if d.kind == "randint":
        return trial.suggest_int(name, d.args[0], d.args[1] - 1)
    return trial.suggest_float(name, *d.args, log=d.kind == "loguniform")


SEARCHES: dict[str, Callable[..., float]] = {
    "ours, default": ours,
    "random": lambda *given: ours(*given, sampler="random"),
    "optuna, default": optuna_default,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=32)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # points at which a fit does not converge
    ranks: dict[str, list[float]] = {name: [] for name in SEARCHES}
    for make in (digits, cancer, diabetes):
        space, objective = make()
        found: dict[str, list[float]] = {name: [] for name in SEARCHES}
        for seed in range(given.seeds):
            for name, search in SEARCHES.items():
                found[name].append(search(space, objective, given.trials, seed))
            row = [found[name][-1] for name in SEARCHES]
            for name, value in zip(SEARCHES, row, strict=True):  # those who share a place share its rank
                better, equal = sum(v > value + 1e-12 for v in row), sum(abs(v - value) <= 1e-12 for v in row)
                ranks[name].append(better + (equal + 1) / 2)
        print(f"{make.__name__}: best score of {given.trials} trials, {given.seeds} seeds")
        for name, values in found.items():
            print(f"  {name:<16} mean {statistics.mean(values):8.4f}  worst {min(values):8.4f}", flush=True)
    print("mean rank: " + ", ".join(f"{name} {statistics.mean(r):.2f}" for name, r in ranks.items()))


if __name__ == "__main__":
    main()
