"""Trainer `xgboost`."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from mlops_boosting import fitting
from mlops_boosting.options import Boosting
from mlops_boosting.table import Table
from mlops_boosting.trees import Ensemble, Node
from mlops_core.contracts import Dataset, Job, Scores
from mlops_core.errors import TrainingError, did_you_mean

OBJECTIVES = {
    "auto": "reg:squarederror",
    "absolute": "reg:absoluteerror",
    "huber": "reg:pseudohubererror",
    "poisson": "count:poisson",
    "gamma": "reg:gamma",
    "tweedie": "reg:tweedie",
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
}


@dataclass(frozen=True)
class XGBoost(Boosting):
    """Gradient boosted trees of XGBoost, for regression and classification.

    Takes any mix of numbers, booleans, times, categories and arrays, missing values included; the data must fit in
    memory. Each of `score_rounds` rounds the validation split is scored: a tuner may end the fit there, the best round
    is kept, and without a better one for `patience` rounds the fit stops. A killed fit goes on after its last
    checkpoint and leaves the same bytes as one that was not.

    The model is left as ONNX, compared with XGBoost itself on the whole validation split: serving needs no XGBoost.
    A search space names options as trainer.max_depth, and what is in `params` as trainer.params.gamma.

    rounds: rounds of boosting at most
    learning_rate: how much of each tree is taken
    max_depth: levels of a tree
    min_child_weight: least sum of second derivatives (rows, for squared errors) in a leaf
    subsample: share of the rows that each tree sees
    colsample: share of the columns that each tree sees
    reg_alpha: L1 penalty on the values of leaves
    reg_lambda: L2 penalty on the values of leaves
    patience: rounds without a better metric after which the fit stops; 0 never stops early
    class_weight: balanced weighs each class by its rarity (probabilities are then no longer frequencies)
    loss: what a regression makes small; auto is squared errors, absolute and huber bear outliers, poisson, gamma and
        tweedie are for counts and amounts that are not negative
    layout: how categories are split on; native on sets of them, ordinal on their codes (the most frequent first),
        onehot on one at a time
    monotone: a number, boolean or time column -> 1 where the answer may only rise with it, -1 where it may only fall;
        for two classes the answer is the probability of the second
    score_rounds: rounds between two scores
    checkpoint_rounds: rounds between checkpoints from which a killed fit goes on; after each, the train split is
        predicted anew; another number leaves other trees
    threads: CPU threads; 0 takes as many as the job was given, else all, or fewer for a small table
    params: other parameters of XGBoost's trees, such as gamma, max_bin, max_delta_step, grow_policy or device
    """

    max_depth: Annotated[int, Ge(1), Le(64)] = 6
    min_child_weight: Annotated[float, Ge(0)] = 1.0

    continues: ClassVar[tuple[str, ...]] = (*Boosting.continues, "max_depth", "min_child_weight")

    OWN: ClassVar[Mapping[str, str]] = {
        "eta": "learning_rate", "learning_rate": "learning_rate", "max_depth": "max_depth",
        "min_child_weight": "min_child_weight", "subsample": "subsample", "colsample_bytree": "colsample",
        "alpha": "reg_alpha", "reg_alpha": "reg_alpha", "lambda": "reg_lambda", "reg_lambda": "reg_lambda",
        "objective": "loss", "monotone_constraints": "monotone", "nthread": "threads", "n_jobs": "threads",
        "num_boost_round": "rounds", "n_estimators": "rounds", "early_stopping_rounds": "patience",
    }  # fmt: skip
    FIXED: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("seed", "random_state", "seed_per_iteration"), "the seed is the declaration's"),
        **dict.fromkeys(("eval_metric", "disable_default_eval_metric"), "the metric is the declaration's"),
        **dict.fromkeys(("num_class", "num_target", "validate_parameters", "verbosity"), "the trainer sets it"),
        **dict.fromkeys(("booster", "process_type", "multi_strategy"), "the best round of such a model cannot be kept"),
        "interaction_constraints": "columns have no place of their own here",
    }

    def fit(self, dataset: Dataset, job: Job) -> Scores:
        return fitting.fit(self, _Trees, dataset, job)


class _Trees:
    """XGBoost, as `fitting.Trees` asks it. A model is its UBJSON."""

    def __init__(self, options: XGBoost, table: Table, job: Job) -> None:
        import xgboost

        self.classes = table.classes
        self.threads = options.cpus(job, table.train.size)
        self.params: dict[str, Any] = {
            "objective": OBJECTIVES[options.loss if table.task == "regression" else table.task],
            "learning_rate": options.learning_rate,
            "max_depth": options.max_depth,
            "min_child_weight": options.min_child_weight,
            "subsample": options.subsample,
            "colsample_bytree": options.colsample,
            "reg_alpha": options.reg_alpha,
            "reg_lambda": options.reg_lambda,
            "nthread": self.threads,
            "disable_default_eval_metric": True,
            "validate_parameters": True,
            "seed_per_iteration": True,
            **options.params,
        }
        if table.classes > 2:
            self.params["num_class"] = table.classes
        if any(monotone := table.monotone(options.monotone)):
            self.params["monotone_constraints"] = f"({','.join(map(str, monotone))})"
        _refuse_params(options.params, self.params)
        more = {
            "feature_types": ["c" if table.is_category(i) else "q" for i in range(table.width)],
            "enable_categorical": True,
            "nthread": self.threads,
        }
        with _told():
            self.train = xgboost.DMatrix(table.train, table.target, weight=table.weight, **more)
            self.held = xgboost.DMatrix(table.held, **more)

    def grow(self, model: bytes, rounds: int, seed: int, scored: Callable[[Callable[[], Any]], bool]) -> bytes:
        import xgboost

        class Round(xgboost.callback.TrainingCallback):  # type: ignore[misc]
            def after_iteration(_, model: Any, epoch: int, evals_log: Any) -> bool:
                return scored(lambda: model.predict(self.held))

        with _told(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters was told by `_refuse_params`
            booster = xgboost.train(
                {**self.params, "seed": seed},
                self.train,
                rounds,
                evals=[(self.held, "held")],  # what is named here is predicted a round at a time
                xgb_model=bytearray(model) if model else None,
                callbacks=[Round()],
                verbose_eval=False,
            )
        return bytes(booster.save_raw("ubj"))

    def answer(self, model: bytes, rounds: int) -> Any:
        return self._loaded(model).predict(self.held, iteration_range=(0, rounds))

    def ensemble(self, model: bytes, rounds: int) -> Ensemble:
        found = json.loads(self._loaded(model)[:rounds].save_raw("json"))["learner"]
        base = [float(v) for v in json.loads(found["learner_model_param"]["base_score"].replace("E", "e"))]
        trees = found["gradient_booster"]["model"]
        outputs = self.classes if self.classes > 2 else 1
        return Ensemble(
            trees=[_nodes(tree) for tree in trees["trees"]],
            outputs=trees["tree_info"],
            base=[_margin(v, found["objective"]["name"]) for v in (base if len(base) > 1 else base * outputs)],
        )

    def _loaded(self, model: bytes) -> Any:
        import xgboost

        return xgboost.Booster({"nthread": self.threads}, model_file=bytearray(model))


def _nodes(tree: Mapping[str, Any]) -> list[Node]:
    """XGBoost goes left where a number is less than the threshold, and where a category is none of the set."""
    sets = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    first = {node: (start, size) for node, start, size in sets}
    nodes = []
    for i, left in enumerate(tree["left_children"]):
        right, value = tree["right_children"][i], tree["split_conditions"][i]
        if left < 0:
            nodes.append(Node(mode="leaf", value=value))
        elif i in first:
            start, size = first[i]
            chosen = tuple(tree["categories"][start : start + size])
            nodes.append(Node(mode="in", feature=tree["split_indices"][i], chosen=chosen, true=right, false=left))
        else:
            missing = bool(tree["default_left"][i])
            feature = tree["split_indices"][i]
            nodes.append(Node(mode="<", feature=feature, value=value, true=left, false=right, missing=missing))
    return nodes


def _margin(base: float, objective: str) -> float:
    """The base score as what the trees add to: XGBoost keeps it as an answer."""
    if objective == "binary:logistic":
        return math.log(base / (1 - base))
    return math.log(base) if objective in ("count:poisson", "reg:gamma", "reg:tweedie") else base


@contextmanager
def _told() -> Iterator[None]:
    """Tells what XGBoost raises as a TrainingError."""
    import xgboost

    try:
        yield
    except xgboost.core.XGBoostError as error:
        lines = re.sub(r"^\[[\d:]+\] \S+: ", "", str(error)).splitlines()
        raise TrainingError(f"XGBoost refuses: {lines[0].strip()}") from error


def _refuse_params(given: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """XGBoost only warns of what it does not know, and where there is no GPU: a round on a few rows shows both."""
    import xgboost

    first = 0 if "num_class" in params or params["objective"] == OBJECTIVES["binary"] else 1  # gamma minds a 0
    labels = [float(i) for i in range(first, first + params.get("num_class", 2))]
    few = xgboost.DMatrix([[label] for label in labels], labels)
    asked = {k: params[k] for k in ("objective", "num_class", "validate_parameters", "nthread") if k in params}
    with _told(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        booster = xgboost.train({**asked, **given}, few, 1)
    for text in (str(warning.message) for warning in caught):
        if unknown := re.search(r'Parameters: \{ "(\w+)"', text):
            known = set(_names(json.loads(booster.save_config()))) - set(XGBoost.OWN) - set(XGBoost.FIXED)
            near = did_you_mean(unknown[1], sorted(known))
            raise TrainingError(f"params.{unknown[1]}: XGBoost's trees have no such parameter; {near}")
        if "Device is changed" in text:
            raise TrainingError(f"params.device: XGBoost finds no device {given.get('device')!r} here")


def _names(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        yield from _names(value) if isinstance(value, dict) else [key]
