"""Small files by which a deployer and its host speak, and a lock that says whether a process lives."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlops_core.contracts import plain


def read_state(path: Path) -> dict[str, Any]:
    """Raises FileNotFoundError, or ValueError where the file is no JSON object."""
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no object")
    return found


def write_state(path: Path, value: Any) -> None:
    """Whole or not at all, so that a reader never sees half a file."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    work.write_text(json.dumps(plain(value), indent=1) + "\n")
    work.replace(path)


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Holds a lock that the kernel lets go when this process ends, however it ends: unlike a process id, it is
    never somebody else's."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock at `path`."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
