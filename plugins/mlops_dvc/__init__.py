"""DVC: observer `dvc` tracks data sets and bundles, data source `dvc` reads what DVC tracks."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_core import hookimpl


@hookimpl
def mlops_observer() -> Mapping[str, type]:
    from mlops_dvc.tracking import Dvc

    return {"dvc": Dvc}


@hookimpl
def mlops_data() -> Mapping[str, type]:
    from mlops_dvc.source import DvcData

    return {"dvc": DvcData}
