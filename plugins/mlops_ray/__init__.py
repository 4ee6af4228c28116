"""Ray: tuner `ray` (Ray Tune) and deployer `ray_serve` (Ray Serve)."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_core import hookimpl


@hookimpl
def mlops_tuner() -> Mapping[str, type]:
    from mlops_ray.tuner import RayTuner

    return {"ray": RayTuner}


@hookimpl
def mlops_deployer() -> Mapping[str, type]:
    from mlops_ray.deployer import RayServeDeployer

    return {"ray_serve": RayServeDeployer}
