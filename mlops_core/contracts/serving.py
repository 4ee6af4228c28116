"""The endpoint as it is wanted and as it is, and what is seen of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mlops_core.records import field, record


@record
class Route:
    """One version behind an endpoint: its share of traffic in percent and its role.

    stable and warm versions live in the serving process (a warm one has weight 0 and may become stable at
    once), candidate and shadow versions in a process beside it. `arm` is its name in an experiment.
    """

    version: int
    bundle: Path
    sha256: str
    weight: float = 100.0
    role: Literal["stable", "candidate", "shadow", "warm"] = "stable"
    arm: str = ""


@record
class Serving:
    """The desired state of an endpoint. Weights of the stable and candidate routes sum to 100.

    `state` is the deployer's folder, `log` the prediction log's; `trust` as in the declaration. `sticky` names
    what keeps a caller with one version ('header:NAME', 'cookie:NAME' or 'field:NAME'), `salt` deals the callers
    anew. A candidate may take `deadline` seconds to answer, then the stable version answers in its place.

    `auth` keys: callers are asked for a key of `state`/keys.json; a key's rate is shared out to `replicas`
    processes. A caller may take `request_timeout` seconds to send a request. With `access_log` each request leaves a
    line in `state`/access.log. `batching` {size, wait}: requests of one version are predicted together, up to `size`
    rows, for which the first may wait `wait` seconds; empty for those that come at the same moment. ONNX Runtime uses
    `threads` for a prediction. `privacy`: the log drops columns with role pii, or keeps hashes of their values, keyed
    by `state`/privacy.key. What was logged or labelled more than `retention` seconds ago is removed; 0: nothing is.
    """

    name: str
    routes: tuple[Route, ...]
    state: Path
    log: Path
    max_rows: int = 10_000
    max_bytes: int = 16 * 1024 * 1024
    trust: tuple[str, ...] = ()
    sticky: str = ""
    salt: str = ""
    deadline: float = 0.25
    auth: Literal["none", "keys"] = "none"
    replicas: int = 1
    request_timeout: float = 30.0
    privacy: Literal["drop", "hash"] = "drop"
    retention: float = 0.0
    access_log: bool = False
    batching: Mapping[str, float] = field(default_factory=dict)
    threads: int = 1


@record
class Endpoint:
    """A running endpoint: where it answers, and by which process it can be stopped."""

    name: str
    url: str
    deployer: str
    versions: tuple[int, ...]
    pid: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@record
class Profile:
    """What a monitor learned from the reference; plain data of the monitor's own making."""

    monitor: str
    rows: int
    state: Mapping[str, Any]


@record
class Window:
    """A stretch of the prediction log, as one Parquet file of features, predictions and times."""

    endpoint: str
    version: int
    start: str
    end: str
    rows: int
    path: Path


@record
class Verdict:
    """A monitor's judgement of one window. `scores` hold the statistic per column, `limits` its threshold."""

    monitor: str
    state: Literal["healthy", "alarm", "unknown"]
    scores: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@record
class Alert:
    window: Window
    verdict: Verdict


@record
class Rollout:
    """A change of traffic: from which version to which, by which strategy, and how far it is.

    state: running, paused, waiting (decided, a person has the last word); then promoted, rolled_back, aborted or
    superseded; done for a change all at once. `step` counts from 0 and began at `since` (Unix seconds). `plan` is
    the declared `rollout:` as it was at the beginning, `arms` the versions of an experiment by name, `overrides`
    those of the command that began it. `revision` is the ledger's entry.
    """

    name: str
    strategy: str
    stable: int
    candidate: int
    state: str
    reason: str = ""
    id: str = ""
    step: int = 0
    since: float = 0.0
    plan: Mapping[str, Any] = field(default_factory=dict)
    arms: Mapping[str, int] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    revision: int = 0

    @property
    def active(self) -> bool:
        """Whether it still has a say in who answers."""
        return self.state in ("running", "paused", "waiting")
