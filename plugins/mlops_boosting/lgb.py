"""Trainer `lightgbm`."""

from __future__ import annotations

import re
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
    "auto": "regression",
    "absolute": "regression_l1",
    "huber": "huber",
    "poisson": "poisson",
    "gamma": "gamma",
    "tweedie": "tweedie",
    "binary": "binary",
    "multiclass": "multiclass",
}
SEEDS = ("bagging_seed", "feature_fraction_seed", "extra_seed", "objective_seed")


@dataclass(frozen=True)
class LightGBM(Boosting):
    """Gradient boosted trees of LightGBM, for regression and classification.

    Takes any mix of numbers, booleans, times, categories and arrays, missing values included; the data must fit in
    memory. Each of `score_rounds` rounds the validation split is scored: a tuner may end the fit there, the best round
    is kept, and without a better one for `patience` rounds the fit stops. A killed fit goes on after its last
    checkpoint and leaves the same bytes as one that was not.

    The model is left as ONNX, compared with LightGBM itself on the whole validation split: serving needs no LightGBM.
    A search space names options as trainer.num_leaves, and what is in `params` as trainer.params.max_bin.

    rounds: rounds of boosting at most
    learning_rate: how much of each tree is taken
    num_leaves: leaves of a tree at most
    max_depth: levels of a tree at most; 0 sets no limit
    min_data: least rows in a leaf
    min_child_weight: least sum of second derivatives in a leaf
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
    params: other parameters of LightGBM, by their first names: max_bin, cat_smooth, path_smooth, extra_trees, ...
    """

    num_leaves: Annotated[int, Ge(2), Le(131_072)] = 31
    max_depth: Annotated[int, Ge(0)] = 0
    min_data: Annotated[int, Ge(1)] = 20
    min_child_weight: Annotated[float, Ge(0)] = 1e-3

    continues: ClassVar[tuple[str, ...]] = (
        *Boosting.continues, "num_leaves", "max_depth", "min_data", "min_child_weight",
    )  # fmt: skip

    OWN: ClassVar[Mapping[str, str]] = {
        "learning_rate": "learning_rate", "eta": "learning_rate", "num_leaves": "num_leaves", "max_depth": "max_depth",
        "min_data_in_leaf": "min_data", "min_child_samples": "min_data",
        "min_sum_hessian_in_leaf": "min_child_weight", "min_child_weight": "min_child_weight",
        "bagging_fraction": "subsample", "subsample": "subsample", "feature_fraction": "colsample",
        "colsample_bytree": "colsample", "lambda_l1": "reg_alpha", "reg_alpha": "reg_alpha",
        "lambda_l2": "reg_lambda", "reg_lambda": "reg_lambda", "objective": "loss",
        "monotone_constraints": "monotone", "num_threads": "threads", "n_jobs": "threads",
        "num_iterations": "rounds", "n_estimators": "rounds", "early_stopping_round": "patience",
        "class_weight": "class_weight", "categorical_feature": "layout",
    }  # fmt: skip
    FIXED: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("seed", "data_random_seed", "drop_seed", *SEEDS), "the seed is the declaration's"),
        **dict.fromkeys(("metric", "first_metric_only"), "the metric is the declaration's"),
        **dict.fromkeys(("num_class", "verbosity", "deterministic"), "the trainer sets it"),
        "boosting": "the best round of dart and rf cannot be kept; for goss set params.data_sample_strategy",
        **dict.fromkeys(("linear_tree", "zero_as_missing", "reg_sqrt", "sigmoid"), "ONNX cannot express such trees"),
        "interaction_constraints": "columns have no place of their own here",
    }

    def fit(self, dataset: Dataset, job: Job) -> Scores:
        return fitting.fit(self, _Trees, dataset, job)


class _Trees:
    """LightGBM, as `fitting.Trees` asks it. A model is its text."""

    def __init__(self, options: LightGBM, table: Table, job: Job) -> None:
        import lightgbm

        self.classes = table.classes
        self.threads = options.cpus(job, table.train.size)
        self.params: dict[str, Any] = {
            "objective": OBJECTIVES[options.loss if table.task == "regression" else table.task],
            "learning_rate": options.learning_rate,
            "num_leaves": options.num_leaves,
            "max_depth": options.max_depth or -1,
            "min_data_in_leaf": options.min_data,
            "min_sum_hessian_in_leaf": options.min_child_weight,
            "bagging_fraction": options.subsample,
            "bagging_freq": 1 if options.subsample < 1 else 0,
            "feature_fraction": options.colsample,
            "lambda_l1": options.reg_alpha,
            "lambda_l2": options.reg_lambda,
            "num_threads": self.threads,
            "metric": "none",
            "verbosity": -1,
            "deterministic": True,
            "data_random_seed": job.seed % 2**31,
            **options.params,
        }
        if not {"force_row_wise", "force_col_wise"} & set(options.params):
            self.params["force_col_wise"] = True  # else it takes what a stopwatch says, and the bytes with it
        if table.classes > 2:
            self.params["num_class"] = table.classes
        if any(monotone := table.monotone(options.monotone)):
            self.params["monotone_constraints"] = monotone
        self.rows = table.held  # a Dataset gives them only once it was trained with
        categories = [i for i in range(table.width) if table.is_category(i)]
        with _told():
            self.train = lightgbm.Dataset(
                table.train, table.target, weight=table.weight, categorical_feature=categories, free_raw_data=False,
                params=self.params,
            )  # fmt: skip
            self.held = lightgbm.Dataset(
                table.held, table.held_target, reference=self.train, free_raw_data=False, params=self.params
            )
            _refuse_unknown(options.params, self.train)

    def grow(self, model: bytes, rounds: int, seed: int, scored: Callable[[Callable[[], Any]], bool]) -> bytes:
        import lightgbm
        from lightgbm.callback import EarlyStopException

        def after(round: Any) -> None:
            if scored(lambda: _held(round.model)):
                raise EarlyStopException(round.iteration, [])

        with _told():
            booster = lightgbm.train(
                {**self.params, **dict.fromkeys(SEEDS, seed)},
                self.train,
                rounds,
                valid_sets=[self.held],
                init_model=lightgbm.Booster(model_str=model.decode()) if model else None,
                callbacks=[after],
                keep_training_booster=True,
            )
        text: str = booster.model_to_string(num_iteration=-1)
        return text.encode()

    def answer(self, model: bytes, rounds: int) -> Any:
        import lightgbm

        booster = lightgbm.Booster(model_str=model.decode())
        return booster.predict(self.rows, num_iteration=rounds, num_threads=self.threads)

    def ensemble(self, model: bytes, rounds: int) -> Ensemble:
        import lightgbm

        found = lightgbm.Booster(model_str=model.decode()).dump_model(num_iteration=rounds)
        each = found["num_tree_per_iteration"]
        return Ensemble(
            trees=[_nodes(tree["tree_structure"]) for tree in found["tree_info"]],
            outputs=[tree["tree_index"] % each for tree in found["tree_info"]],
            base=[0.0] * each,
        )


def _held(booster: Any) -> Any:
    """The answers on the validation split, which LightGBM keeps up to date and hands only to a metric."""
    found: list[Any] = []

    def metric(answers: Any, held: Any) -> tuple[str, float, bool]:
        found.append(answers)
        return "", 0.0, True

    booster.eval_valid(metric)
    return found[0]


def _nodes(root: Mapping[str, Any]) -> list[Node]:
    """LightGBM goes left where a number is at most the threshold, and where a category is one of the set."""
    splits: list[Any] = []
    leaves: list[Any] = []
    waiting = [root]
    while waiting:
        found = waiting.pop()
        is_split = "split_index" in found
        (splits if is_split else leaves).append(found)
        waiting += [found["left_child"], found["right_child"]] if is_split else []

    def place(found: Mapping[str, Any]) -> int:
        return int(found["split_index"] if "split_index" in found else len(splits) + found.get("leaf_index", 0))

    nodes = {place(leaf): Node(mode="leaf", value=leaf["leaf_value"]) for leaf in leaves}
    nodes |= {place(s): _split(s, place(s["left_child"]), place(s["right_child"])) for s in splits}
    return [nodes[i] for i in range(len(nodes))]


def _split(found: Mapping[str, Any], left: int, right: int) -> Node:
    feature, threshold = found["split_feature"], found["threshold"]
    if found["decision_type"] == "==":
        chosen = tuple(int(v) for v in threshold.split("||"))
        return Node(mode="in", feature=feature, chosen=chosen, true=left, false=right)
    # Where training saw no missing value, a missing one counts as 0.
    missing = found["default_left"] if found["missing_type"] == "NaN" else threshold >= 0
    return Node(mode="<=", feature=feature, value=threshold, true=left, false=right, missing=missing)


def _refuse_unknown(params: Mapping[str, Any], train: Any) -> None:
    """LightGBM passes over what it does not know."""
    import lightgbm

    text = lightgbm.Booster({"verbosity": -1, "objective": "none"}, train).model_to_string()
    known = set(re.findall(r"^\[(\w+): ", text, re.M)) - set(LightGBM.OWN) - set(LightGBM.FIXED)
    for name in params:
        if name not in known:
            near = did_you_mean(name, sorted(known))
            raise TrainingError(f"params.{name}: LightGBM has no such parameter by this name; {near}")


@contextmanager
def _told() -> Iterator[None]:
    """Tells what LightGBM raises as a TrainingError."""
    import lightgbm

    try:
        yield
    except lightgbm.basic.LightGBMError as error:
        words = re.sub(r" at \S+, line \d+ \.?\s*$", "", str(error).strip().splitlines()[0])
        raise TrainingError(f"LightGBM refuses: {words}") from error
