"""Guests from another house: data source `toy`, trainer `centroid`, monitor `mean`, observer `diary`."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_core import hookimpl


@hookimpl
def mlops_data() -> Mapping[str, type]:
    from mlops_stranger.toy import Toy

    return {"toy": Toy}


@hookimpl
def mlops_trainer() -> Mapping[str, type]:
    from mlops_stranger.centroid import Centroid

    return {"centroid": Centroid}


@hookimpl
def mlops_monitor() -> Mapping[str, type]:
    from mlops_stranger.mean import Mean

    return {"mean": Mean}


@hookimpl
def mlops_observer() -> Mapping[str, type]:
    from mlops_stranger.diary import Diary

    return {"diary": Diary}
