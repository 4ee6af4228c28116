"""From a checked draft to the record `Declaration`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_core.config import secrets
from mlops_core.config.fill import absolute
from mlops_core.contracts import Choice, Declaration, GateRule, Split, restore
from mlops_core.plugins import RESERVED, Plugins
from mlops_core.space import parse


def text(values: Mapping[str, Any]) -> str:
    """The composed declaration as YAML; what the environment gave is written as its reference."""
    import yaml

    return yaml.safe_dump(secrets.reference(values), sort_keys=False, allow_unicode=True, width=100)


def build(values: Mapping[str, Any], contract: Mapping[str, Any], plugins: Plugins, root: Path) -> Declaration:
    """The record; `values` are whole (defaults filled in) and right."""
    real: Mapping[str, Any] = secrets.resolve(values)
    data = real["data"]
    tuner = real.get("tuner")

    def choice(kind: Any, section: Any) -> Choice:
        kept = RESERVED.get(kind, frozenset({"plugin"}))
        return _choice(plugins, root, kind, section["plugin"], {k: v for k, v in section.items() if k not in kept})

    return Declaration(
        name=real["name"],
        seed=real["seed"],
        data=choice("data", data),
        target=data["target"],
        task=data["task"],
        contract=contract,
        split=restore(Split, data["split"]),
        trainer=choice("trainer", real["trainer"]),
        metric=real["metric"],
        tuner=choice("tuner", tuner) if tuner else None,
        space={k: parse(v) for k, v in tuner["space"].items()} if tuner else {},
        retrain_best=tuner["retrain_best"] if tuner else False,
        objectives=tuner["objectives"] if tuner else {},
        tolerance=float(tuner["tolerance"]) if tuner else 0.0,
        gate=tuple(restore(GateRule, rule) for rule in real["gate"]),
        slices=tuple(real["slices"]),
        deployer=choice("deployer", real["deployer"]) if real.get("deployer") else None,
        monitor=choice("monitor", real["monitor"]) if real.get("monitor") else None,
        observers=tuple(_choice(plugins, root, "observer", n, o) for n, o in sorted(real["observers"].items())),
        trust=tuple(real["trust"]),
        rollout=real["rollout"],
        privacy=real["privacy"],
        store=real["store"],
        signing=real["signing"],
        launcher=choice("launcher", real["launcher"]) if real.get("launcher") else None,
        travel={k: v for k, v in (real.get("launcher") or {}).items() if k in RESERVED["launcher"] - {"plugin"}},
        text=text(values),
    )


def _choice(plugins: Plugins, root: Path, kind: Any, name: str, options: Mapping[str, Any]) -> Choice:
    return Choice(plugin=name, options=absolute(plugins.offer(kind, name).cls, options, root))
