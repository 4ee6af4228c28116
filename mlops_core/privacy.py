"""Names for values that must not be kept: keyed hashes, worthless without the project's secret.

An unkeyed hash of an e-mail address or a telephone number is undone by trying them all; a keyed one (BLAKE2b,
RFC 7693, 2.9 keyed hashing) is not, as long as the key is kept apart. Destroy the key and the names mean nothing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops_core.contracts import Signature
from mlops_core.errors import StoreError

KEY = "privacy.key"
DURATION = re.compile(r"([1-9]\d{0,6})\s*([hdw])")
SECONDS = {"h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def seconds(retention: str) -> float:
    """How long rows are kept: '90d' is 7,776,000; 0.0 for what is no duration (and for '': as long as you like)."""
    found = DURATION.fullmatch(retention)
    return float(found[1]) * SECONDS[found[2]] if found else 0.0


def personal(signature: Signature) -> bool:
    """Whether requests hold values that may not be told."""
    return any("pii" in c.roles for c in signature.inputs)


def trace(error: BaseException, quiet: bool) -> str:
    """An unforeseen error for the log; where it must be `quiet`, where it was raised but not its words, which may be
    those of a caller."""
    import traceback

    if not quiet:
        return "".join(traceback.format_exception(error)).rstrip()
    places = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    return f"{type(error).__name__} (its message is left out: the model takes pii columns)\n{places}"


class Pseudonyms:
    """Keyed hashes by the secret in `file`, which is made (readable by its owner only) when it is first needed."""

    def __init__(self, file: Path) -> None:
        self.file = Path(file)

    def of(self, column: str, value: Any) -> str | None:
        """32 hexadecimal digits for a plain value of a column; None for a missing one. Equal values of the same
        column have equal names; the same value in another column has another."""
        if value is None:
            return None
        said = json.dumps([column, value], ensure_ascii=False).encode()
        return hashlib.blake2b(said, key=self._key, digest_size=16).hexdigest()

    def all(self, column: str, values: Sequence[Any]) -> list[str | None]:
        return [self.of(column, v) for v in values]

    @functools.cached_property
    def _key(self) -> bytes:
        try:
            if not self.file.exists():
                self._make()
            key = bytes.fromhex(self.file.read_text())
        except OSError as error:
            raise StoreError.of(f"cannot read {self.file}, the key of pseudonyms", error) from error
        except ValueError:
            key = b""
        if len(key) != 32:
            raise StoreError(f"{self.file}, the key of pseudonyms, is damaged: expected 64 hexadecimal digits")
        return key

    def _make(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(part, self.file)  # unlike a rename, never in place of another process's key
        part.unlink()
