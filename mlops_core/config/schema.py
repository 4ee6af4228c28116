"""The keys that are the core's own, as dataclasses; a plugin's options are its own fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from mlops_core.contracts import KINDS
from mlops_core.rollout.plan import RolloutKeys

SECTIONS = tuple(k for k in KINDS if k not in ("observer", "exporter"))
LATER = ("retrain",)


@dataclass(frozen=True)
class SplitKeys:
    strategy: Literal["random", "stratified", "time", "group"] = "stratified"
    validation: Annotated[float, Gt(0), Lt(1)] = 0.15
    test: Annotated[float, Gt(0), Lt(1)] = 0.15
    column: str = ""
    seed: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class DataKeys:
    plugin: str
    target: str
    task: Literal["auto", "binary", "multiclass", "regression"] = "auto"
    contract: str | Mapping[str, Any] | None = None
    split: SplitKeys = field(default_factory=SplitKeys)


@dataclass(frozen=True)
class TunerKeys:
    plugin: str
    space: Mapping[str, Any]
    retrain_best: bool = False
    objectives: Mapping[str, Literal["max", "min"]] = field(default_factory=dict)
    tolerance: Annotated[float, Ge(0)] = 0.0


@dataclass(frozen=True)
class LauncherKeys:
    plugin: str
    env: tuple[str, ...] = ()
    requirements: str = ""
    max_mb: Annotated[int, Ge(1)] = 50


@dataclass(frozen=True)
class PluginKeys:
    plugin: str


@dataclass(frozen=True)
class RuleKeys:
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    versus: Literal["", "champion", "challenger"] = ""
    slice: str = ""


@dataclass(frozen=True)
class PrivacyKeys:
    pii: Literal["drop", "hash"] = "drop"
    retention: str = ""


@dataclass(frozen=True)
class StoreKeys:
    ledger: str = ""
    objects: str = ""


@dataclass(frozen=True)
class SigningKeys:
    key: str = ""
    public: str = ""


@dataclass(frozen=True)
class Keys:
    """The top level of a declaration."""

    name: str
    data: Mapping[str, Any]
    trainer: Mapping[str, Any]
    metric: str
    seed: Annotated[int, Ge(0)] = 0
    tuner: Mapping[str, Any] | None = None
    gate: tuple[RuleKeys, ...] = ()
    slices: tuple[str, ...] = ()
    deployer: Mapping[str, Any] | None = None
    monitor: Mapping[str, Any] | None = None
    launcher: Mapping[str, Any] | None = None
    observers: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    trust: tuple[Literal["pickle"], ...] = ()
    rollout: RolloutKeys = field(default_factory=RolloutKeys)
    privacy: PrivacyKeys = field(default_factory=PrivacyKeys)
    store: StoreKeys = field(default_factory=StoreKeys)
    signing: SigningKeys = field(default_factory=SigningKeys)


ORDER = (
    "name", "seed", "data", "trainer", "tuner", "metric", "gate", "slices", "deployer", "rollout", "monitor",
    "observers", "trust", "privacy", "store", "signing", "launcher",
)  # fmt: skip
"""The keys as a person reads them: along the life of a model."""

OWN: Mapping[str, type] = {"data": DataKeys, "tuner": TunerKeys, "launcher": LauncherKeys}
"""The core's keys in a section, where there is more than `plugin`."""


def own(section: str) -> type:
    return OWN.get(section, PluginKeys)
