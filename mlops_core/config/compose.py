"""Hydra's Compose API on a project: groups, presets and overrides in, one mapping and its sources out."""

from __future__ import annotations

import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops_core.config.documents import Document, Path_
from mlops_core.config.presets import GROUPS, Presets
from mlops_core.config.project import PRIMARY
from mlops_core.contracts import record

_LOCK = threading.Lock()  # Hydra's state is one per process


@record
class Layer:
    """One config in the order of composition: its file (None for a bare plugin), and where its content stands."""

    name: str
    document: Document | None
    prefix: Path_


def compose(presets: Presets, lines: Sequence[str]) -> tuple[dict[str, Any], tuple[Layer, ...]]:
    """The composed mapping, interpolations unresolved, and its layers. Raises Hydra's and OmegaConf's errors.

    Mended files are composed from a copy of the project's conf/, which is then thrown away.
    """
    with _LOCK, _mended(presets) as start, _offered(presets), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra's advice on _self_ and on folders that are not there
        return _composed(presets, start, lines)


def _composed(presets: Presets, start: Path, lines: Sequence[str]) -> tuple[dict[str, Any], tuple[Layer, ...]]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    path = ",".join(f'"file://{folder}"' for folder in presets.folders[1:])
    overrides = [f"hydra.searchpath=[{path}]", *lines]
    with initialize_config_dir(str(start), version_base="1.3", job_name="mlops"):
        found = hydra_compose(PRIMARY, overrides)
        order = GlobalHydra.instance().config_loader().compute_defaults_list(PRIMARY, overrides, RunMode.RUN)
    values: dict[str, Any] = OmegaConf.to_container(found, resolve=False)  # type: ignore[assignment]
    return values, tuple(_layer(presets, d) for d in order.defaults if not d.config_path.startswith("hydra/"))


def _layer(presets: Presets, default: Any) -> Layer:
    path = presets.find(default.config_path)
    prefix = tuple(p for p in (default.package or "").split(".") if p)
    return Layer(name=default.config_path, document=presets.document(path) if path else None, prefix=prefix)


@contextmanager
def _mended(presets: Presets) -> Iterator[Path]:
    conf = presets.root / "conf"
    mended = [d for d in presets.documents if d.mended]
    if not mended:
        yield conf
        return
    with tempfile.TemporaryDirectory(prefix="mlops-check-") as scratch:
        copy = Path(scratch, "conf")
        shutil.copytree(conf, copy)
        for document in mended:
            folder = next(f for f in presets.folders if document.path.is_relative_to(f))
            target = copy / document.path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(document.dump(), encoding="utf-8")
        yield copy


@contextmanager
def _offered(presets: Presets) -> Iterator[None]:
    """Every plugin as an option of its group, where no file is; Hydra's store is left as it was."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    before = store.repo
    store.repo = {}
    try:
        for group in GROUPS:
            for name in presets.plugins.names(group):
                if presets.find(f"{group}/{name}") is None:
                    store.store(group=group, name=name, node={"plugin": name})
        # Hydra's own schema nodes stay in place beside ours
        store.repo = {**before, **{g: {**before.get(g, {}), **n} for g, n in store.repo.items()}}
        yield
    finally:
        store.repo = before
