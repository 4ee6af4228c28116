"""The declaration, as the line reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mlops_core.contracts.data import Choice
from mlops_core.contracts.names import Mode
from mlops_core.contracts.training import Space
from mlops_core.contracts.versions import GateRule
from mlops_core.records import field, record


@record
class Split:
    """How rows are divided. `column` is the time or group column where the strategy needs one."""

    strategy: Literal["random", "stratified", "time", "group"] = "stratified"
    validation: float = 0.15
    test: float = 0.15
    column: str = ""
    seed: int = 0


@record
class Declaration:
    """The whole life of a model, as declared: composed, checked, and free of Hydra.

    `contract` is the parsed contract (validation room's schema as plain data); `origin` of values is kept by
    the config room, not here. `travel` is what a launcher's section says of what travels (`env`, `requirements`,
    `max_mb`). `objectives` are the further ones of a search beside `metric`, `tolerance` what of `metric` may be given
    up for the first of them. `text` is the composed YAML, stored with every version.
    """

    name: str
    seed: int
    data: Choice
    target: str
    task: Literal["auto", "binary", "multiclass", "regression"]
    contract: Mapping[str, Any]
    split: Split
    trainer: Choice
    metric: str
    tuner: Choice | None = None
    space: Space = field(default_factory=dict)
    retrain_best: bool = False
    objectives: Mapping[str, Mode] = field(default_factory=dict)
    tolerance: float = 0.0
    gate: tuple[GateRule, ...] = ()
    slices: tuple[str, ...] = ()
    deployer: Choice | None = None
    monitor: Choice | None = None
    observers: tuple[Choice, ...] = ()
    trust: tuple[str, ...] = ()
    rollout: Mapping[str, Any] = field(default_factory=dict)
    privacy: Mapping[str, str] = field(default_factory=dict)
    store: Mapping[str, str] = field(default_factory=dict)
    signing: Mapping[str, str] = field(default_factory=dict)
    launcher: Choice | None = None
    travel: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
