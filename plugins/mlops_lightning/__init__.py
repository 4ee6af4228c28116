"""`trainer: lightning`: the built-in tabular network, or your own LightningModule, unchanged."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_core.hookspecs import hookimpl


@hookimpl
def mlops_trainer() -> Mapping[str, type]:
    from mlops_lightning.trainer import LightningTrainer

    return {"lightning": LightningTrainer}
