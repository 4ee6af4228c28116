"""keys.json: the live keys of one endpoint, as its processes read them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from mlops_core.access.keys import Key
from mlops_core.errors import StoreError
from mlops_core.records import plain, restore

NAME = "keys.json"


def write_keys(folder: Path, keys: Callable[[], Iterable[Key]]) -> None:
    """Writes what `keys` gives, whole or not at all, for its owner's eyes only.

    Writers take turns and ask for the keys within, so that the last file holds what the last change left.
    Raises StoreError where the endpoint cannot be told.
    """
    path, work = folder / NAME, folder / f".{NAME}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "keys.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            now = datetime.now(UTC)
            live = [plain(k) for k in keys() if k.state(now) == "live"]
            work.unlink(missing_ok=True)
            with open(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({"keys": live}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            work.replace(path)
    except OSError as error:
        raise StoreError.of(f"cannot write {path}, by which the endpoint knows its keys", error) from error


def read_keys(path: Path) -> tuple[Key, ...]:
    """Raises OSError or ValueError where there is no whole file."""
    try:
        return tuple(restore(Key, k) for k in json.loads(path.read_bytes())["keys"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} is no list of keys") from error
