"""YAML in, `Declaration` out: the only room that knows Hydra.

Nothing heavy is imported until a declaration must really be composed: an unchanged one comes from a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlops_core.config.project import find_root as find_root
from mlops_core.contracts import Declaration, record
from mlops_core.errors import Problem, UsageError

if TYPE_CHECKING:
    from mlops_core.plugins import Plugins


@record
class Origin:
    """A value of the composed declaration and where it came from; `place` is file:line:column or words.

    kind: file (conf/config.yaml), preset, override (command line), default, interpolation. A value from the
    environment is its reference.
    """

    value: Any
    place: str
    kind: Literal["file", "preset", "override", "default", "interpolation"]


def declare(
    root: Path, overrides: Sequence[str] = (), plugins: Plugins | None = None, *, data: bool = True
) -> Declaration:
    """The declaration of the project at `root`. Raises DeclarationError with every problem at once.

    An unchanged declaration comes from `.mlops/cache`; one with plugins of the caller's own never does. Without `data`,
    the data source is not asked.
    """
    from mlops_core.config import cache

    root = _project(root)
    if plugins is None and (found := cache.load(root, overrides)):
        return found
    from mlops_core.config.reading import Reading

    reading = Reading(root, overrides, plugins, data=data)
    declaration = reading.declaration()
    if plugins is None and data:
        cache.save(reading, overrides, declaration)
    return declaration


def check(root: Path, overrides: Sequence[str] = (), plugins: Plugins | None = None) -> tuple[Problem, ...]:
    """Everything wrong with the declaration at `root`, in the order of the files; empty where nothing is."""
    from mlops_core.config.reading import Reading

    reading = Reading(_project(root), overrides, plugins)
    reading.verifier.keys(reading.root)
    return reading.problems


def origins(root: Path, overrides: Sequence[str] = (), plugins: Plugins | None = None) -> Mapping[str, Origin]:
    """Dotted key -> where its value came from; `data.contract.*` are the keys of the contract's file.

    Raises DeclarationError where the declaration is wrong; the data is not looked at.
    """
    return dict(_origins(_read(root, overrides, plugins)))


def composed(root: Path, overrides: Sequence[str] = (), plugins: Plugins | None = None) -> str:
    """The whole declaration as YAML, every default filled in. Raises DeclarationError."""
    from mlops_core.config.build import text

    return text(_read(root, overrides, plugins).draft.values)


def _read(root: Path, overrides: Sequence[str], plugins: Plugins | None) -> Any:
    from mlops_core.config.reading import Reading

    reading = Reading(_project(root), overrides, plugins, data=False)
    reading.declaration()
    return reading


def _origins(reading: Any) -> Iterator[tuple[str, Origin]]:
    from mlops_core.config.draft import leaves
    from mlops_core.config.secrets import reference

    for path, value in leaves(reading.draft.values):
        source = reading.draft.source(path)
        if path and source:
            yield ".".join(path), Origin(value=reference(value), place=str(source.mark.value), kind=source.kind)
    for path, value in leaves(reading.columns.contract):
        spot = reading.columns.spot(path)
        if spot:
            yield ".".join(("data", "contract", *path)), Origin(value=value, place=str(spot), kind="file")


def _project(root: Path) -> Path:
    root = Path(root).resolve()
    if not (root / "conf" / "config.yaml").is_file():
        raise UsageError(f"no project here: {root} has no conf/config.yaml")
    return root
