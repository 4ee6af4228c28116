"""Boosted trees: trainers `xgboost` and `lightgbm`."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_core.hookspecs import hookimpl


@hookimpl
def mlops_trainer() -> Mapping[str, type]:
    from mlops_boosting.lgb import LightGBM
    from mlops_boosting.xgb import XGBoost

    return {"xgboost": XGBoost, "lightgbm": LightGBM}
