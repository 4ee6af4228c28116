"""One machine, no cluster: deployer `http`, tuner `grid`."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_core import hookimpl


@hookimpl
def mlops_deployer() -> Mapping[str, type]:
    from mlops_local.deployer import HttpDeployer

    return {"http": HttpDeployer}


@hookimpl
def mlops_tuner() -> Mapping[str, type]:
    from mlops_local.tuner import GridTuner

    return {"grid": GridTuner}
