"""Ray: tuner `ray` (Ray Tune), deployer `ray_serve` (Ray Serve) and launcher `ray` (Ray Jobs)."""

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


@hookimpl
def mlops_launcher() -> Mapping[str, type]:
    from mlops_ray.jobs import RayLauncher

    return {"ray": RayLauncher}
