"""Plugins of a distribution that is installed for the tests of the config room only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from mlops_core import hookimpl


@dataclass(frozen=True)
class Network:
    """The network of `GuestNet`.

    hidden: units per layer
    dropout: share of units left out
    """

    hidden: tuple[int, ...] = (64, 32)
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0


@dataclass(frozen=True)
class GuestNet:
    """A trainer with nested options.

    lr: learning rate
    epochs: passes over the data
    optimizer: which one
    model: the network
    extra: anything
    """

    lr: Annotated[float, Gt(0)] = 0.01
    epochs: Annotated[int, Ge(1)] = 10
    optimizer: Literal["adam", "sgd"] = "adam"
    model: Network = field(default_factory=Network)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def reports(self) -> tuple[str, ...] | None:
        return None if self.extra else ("size_kib",)


@dataclass(frozen=True)
class GuestForest:
    """A trainer with a mandatory option.

    estimator: its name
    params: its parameters
    """

    estimator: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GuestTable:
    """A comma-separated file, of which only the header matters here.

    path: the file
    also: more files
    """

    path: Path
    also: tuple[Path, ...] = ()

    def schema(self) -> Mapping[str, str]:
        names = self.path.read_text().splitlines()[0].split(",")
        return {n: "string" if n in ("sex", "status") else "float64" for n in names}


@dataclass(frozen=True)
class GuestSearch:
    """A tuner.

    trials: how many
    """

    trials: Annotated[int, Ge(1)] = 10


@dataclass(frozen=True)
class GuestHost:
    """A deployer.

    port: where it listens
    """

    port: Annotated[int, Ge(0), Lt(65536)] = 0


@dataclass(frozen=True)
class GuestWatch:
    """A monitor.

    alpha: rate of false alarms
    """

    alpha: float = 0.01


@dataclass(frozen=True)
class GuestHook:
    """An observer.

    url: whom to tell
    """

    url: str


@hookimpl
def mlops_data() -> Mapping[str, type]:
    return {"guest_table": GuestTable}


@hookimpl
def mlops_trainer() -> Mapping[str, type]:
    return {"guest_net": GuestNet, "guest_forest": GuestForest}


@hookimpl
def mlops_tuner() -> Mapping[str, type]:
    return {"guest_search": GuestSearch}


@hookimpl
def mlops_deployer() -> Mapping[str, type]:
    return {"guest_host": GuestHost}


@hookimpl
def mlops_monitor() -> Mapping[str, type]:
    return {"guest_watch": GuestWatch}


@hookimpl
def mlops_observer() -> Mapping[str, type]:
    return {"guest_hook": GuestHook}
