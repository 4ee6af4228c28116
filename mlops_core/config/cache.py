"""A composed declaration, kept as long as nothing it was made of changes.

A hit costs a few dozen `stat` calls and imports neither Hydra, OmegaConf, pydantic nor PyYAML. What the
environment gave is kept as a reference and looked up again at each hit.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.config import secrets
from mlops_core.contracts import Declaration, Secret, plain, restore

if TYPE_CHECKING:
    from mlops_core.config.reading import Reading

FORMAT = 1
KEPT = 8


def place(root: Path) -> Path:
    return root / ".mlops" / "cache" / "declaration.json"


def load(root: Path, overrides: Sequence[str]) -> Declaration | None:
    """The declaration as last composed, where everything it was made of is as it was; else None."""
    entry = _entries(root).get(_key(overrides))
    try:
        if not entry or entry["seen"] != _seen(entry["seen"]) or entry["environment"] != _marks(entry["environment"]):
            return None
        return restore(Declaration, secrets.resolve(entry["declaration"]))
    except (KeyError, TypeError, ValueError, AttributeError, secrets.Unset):
        return None


def save(reading: Reading, overrides: Sequence[str], declaration: Declaration) -> None:
    """Keeps a declaration; where that cannot be (a read-only project), the next reading composes again."""
    tokens, values = _tokens(declaration), reading.draft.values
    if reading.volatile or restore(Declaration, secrets.resolve(tokens)) != declaration:  # a path of the environment's
        return
    files = {str(p) for p in (*(d.path for d in reading.presets.documents), *reading.presets.listed, *_code(reading))}
    entry = {
        "declaration": tokens,
        "environment": _marks(secrets.names(values)),
        "seen": _seen(files),
    }
    entries = {**_entries(reading.root), _key(overrides): entry}
    _write(place(reading.root), dict(list(entries.items())[-KEPT:]))


def _key(overrides: Sequence[str]) -> str:
    return json.dumps([FORMAT, sys.version, _sites(), list(overrides)])


def _sites() -> dict[str, Any]:
    """Installing or removing a distribution touches the folders on the import path."""
    return _seen(dict.fromkeys(p for p in sys.path if os.path.isdir(p) and p != os.getcwd()))


def _code(reading: Reading) -> Iterable[str]:
    """The files of this room and of every plugin class: their fields are part of the declaration's meaning."""
    here = Path(__file__).parent
    yield from map(str, (*here.glob("*.py"), *here.parent.glob("contracts/*.py"), here.parent / "options.py"))
    for offer in reading.plugins.all():
        file = getattr(sys.modules.get(offer.cls.__module__), "__file__", None)
        if file:
            yield file


def _seen(paths: Iterable[str]) -> dict[str, Any]:
    return {p: _stat(p) for p in sorted(paths)}


def _stat(path: str) -> list[int] | None:
    try:
        s = os.stat(path)
    except OSError:
        return None
    return [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]


def _marks(names: Iterable[str]) -> dict[str, int | None]:
    """16 bits of each variable's digest: enough to notice a change, too few to find what it holds."""
    return {n: _mark(os.environ.get(n)) for n in sorted(names)}


def _mark(value: str | None) -> int | None:
    import hashlib

    return None if value is None else int.from_bytes(hashlib.sha256(value.encode()).digest()[:2], "big")


def _tokens(value: Any) -> Any:
    """The record as plain data, each secret as its token."""
    if isinstance(value, Secret):
        return secrets.hide(value.reference)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _tokens(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: _tokens(v) for k, v in value.items()}
    return [_tokens(v) for v in value] if isinstance(value, list | tuple) else plain(value)


def _entries(root: Path) -> dict[str, Any]:
    try:
        found = json.loads(place(root).read_bytes())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _write(path: Path, entries: Mapping[str, Any]) -> None:
    import tempfile

    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".declaration-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(entries, file)
            os.replace(scratch, path)
        except OSError:
            os.unlink(scratch)
            raise
