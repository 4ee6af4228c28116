"""Our endpoint as a contestant: keys, validation, a choice of two versions, the prediction log, metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlops_core.access import issue, write_keys
from mlops_core.bundle import open_bundle, seal
from mlops_core.contracts import Choice, Column, Route, Serving, Signature
from mlops_core.features import Encoder, ModelFile, NumberFeature, load_onnx, save_onnx
from serving_peers import network
from serving_peers.contestants import Contestant, bodies, by_name

NAME = "bench"
COLUMNS = tuple(Column(name=n, kind="number", dtype="float64", nullable=False) for n in network.NAMES)


def bundle(folder: Path, seed: int = 0) -> Path:
    """The network, sealed."""
    if folder.exists():
        return folder
    model = folder.with_name(f"{folder.name}-model")
    model.mkdir(parents=True)
    network.write(model / "model.onnx", seed)
    encoder = Encoder(numbers=tuple(NumberFeature(name=n) for n in network.NAMES), layout="onehot")
    save_onnx(model, encoder, ModelFile(format="onnx", task="binary", target="y", classes=network.CLASSES))
    rows = network.rows(8)
    samples: dict[str, Any] = {n: network.np.array([r[n] for r in rows]) for n in network.NAMES}
    return seal(
        model,
        folder,
        signature=Signature(inputs=COLUMNS, task="binary", target="y", classes=network.CLASSES),
        trainer=Choice(plugin="bench"),
        lineage={"name": NAME, "seed": seed},
        profile=None,
        samples=samples | dict(load_onnx(model)(samples)),
    )


def serving(folder: Path, weights: dict[int, float], **fields: Any) -> Serving:
    """An endpoint of these versions, stable where `roles` says nothing else; all of them hold the same network."""
    roles, routes = fields.pop("roles", {}), []
    for version, weight in weights.items():
        path = bundle(folder / "bundles" / f"v{version}")
        sha256 = open_bundle(path).sha256
        role = roles.get(version, "stable")
        routes.append(Route(version=version, bundle=path, sha256=sha256, weight=weight, role=role))
    state = folder / "serve"
    return Serving(name=NAME, routes=tuple(routes), state=state, log=state / "log", **{"auth": "keys", **fields})


def key(folder: Path) -> dict[str, str]:
    """The headers of a caller who has a key, made now."""
    made, text = issue("admin")
    write_keys(folder / "serve", lambda: [made])
    return {"authorization": f"Bearer {text}"}


def deployer(kind: str, workers: int) -> Any:
    if kind == "http":
        from mlops_local.deployer import HttpDeployer

        return HttpDeployer(startup_timeout=180)
    from mlops_ray.deployer import RayServeDeployer

    return RayServeDeployer(replicas=workers, cpus=0.1, startup_timeout=180)


def endpoint(kind: str, folder: Path, workers: int, counts: tuple[int, ...]) -> Contestant:
    """Deployer `http` or `ray_serve`, as a project has it."""
    headers, made = key(folder), deployer(kind, workers)
    found = made.apply(serving(folder, {1: 90, 2: 10}))
    return Contestant(
        f"ours, {kind}",
        int(found.url.rpartition(":")[2]),
        "/predict",
        found.pid,
        bodies(counts),
        by_name,
        headers,
        lambda: (made.stop(NAME, folder / "serve"), None)[1],
    )


def logged_ids(folder: Path) -> dict[str, int]:
    """How often each request id stands in the prediction log."""
    found: dict[str, int] = {}
    for file in (folder / "serve" / "log").glob("*.jsonl"):
        for line in file.read_bytes().splitlines():
            id = json.loads(line)["id"]
            found[id] = found.get(id, 0) + 1
    return found
