"""One machine, no cluster: tuner `grid`."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_core import hookimpl


@hookimpl
def mlops_tuner() -> Mapping[str, type]:
    from mlops_local.tuner import GridTuner

    return {"grid": GridTuner}
