"""The signed head of the audit log, its key, and the witness file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from mlops_core.errors import StoreError


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """How many entries there are, the hash of the last, and who vouches for that."""

    count: int = 0
    hash: str = ""
    key_id: str = ""
    mac: str = ""


class Signer:
    """Signs with MLOPS_AUDIT_KEY where it is set (teams set one key on all machines), else with a key file.

    `place` is the path prefix of the key file (`.key`, readable by its owner only) and of the witness (`.head`).
    """

    def __init__(self, place: str) -> None:
        self._key_file = Path(f"{place}.key")
        self._witness = Path(f"{place}.head")

    def prepare(self) -> None:
        """Makes the key and the witness where they are missing, before the first entry needs them."""
        try:
            self._key_file.parent.mkdir(parents=True, exist_ok=True)
            if not os.environ.get("MLOPS_AUDIT_KEY") and not self._key_file.exists():
                self._make_key()
        except OSError as error:
            raise StoreError.of(f"cannot write {self._key_file}, the key of the audit log", error) from error

    def sign(self, before: Head, count: int, digest: str) -> Head:
        """The head after one more entry. A head that was forged before stays unsigned for ever, so that it shows."""
        sound = not before.mac or before.key_id != self._key_id or self._signed(before)
        forged = before.count > 0 and (not before.mac or not sound)
        return Head(count, digest, self._key_id, "" if forged else self._mac(count, digest))

    def witness(self, head: Head) -> None:
        part = self._witness.with_name(f"{self._witness.name}.{secrets.token_hex(4)}")
        try:
            part.write_text(json.dumps(dataclasses.asdict(head)))
            part.replace(self._witness)
        except OSError:  # the entry stands; the witness follows with the next one
            with contextlib.suppress(OSError):
                part.unlink()

    def verify(self, seen: Head | str | None, head: Head | None, hashes: Sequence[str]) -> str:
        """'' or what is wrong. `hashes` are those of all entries found, after '' for the beginning."""
        found = len(hashes) - 1
        if isinstance(seen, str):
            return seen
        for kind, kept in (("signed head", head), ("witness", seen)):
            if kept is None:
                continue
            if kept.count > found:
                return f"audit entries {found + 1} to {kept.count} are missing: the log was cut short"
            if hashes[kept.count] != kept.hash:
                return f"audit entry {kept.count} is not the one that the {kind} vouches for"
            if kept.count and kept.key_id == self._key_id and not self._signed(kept):
                return f"the {kind} of the audit log was forged: its signature is wrong"
            if kept.count and kept.key_id != self._key_id:
                return f"the {kind} of the audit log is signed with key {kept.key_id}; set MLOPS_AUDIT_KEY to check it"
        if found and (head is None or head.count != found):
            return f"audit entry {found} is not vouched for by the signed head"
        return ""

    def seen(self) -> Head | str | None:
        """What the witness says; in words where it cannot be read."""
        try:
            return Head(**json.loads(self._witness.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            return f"the witness of the audit log, {self._witness}, cannot be read: {error}"

    def _signed(self, head: Head) -> bool:
        return hmac.compare_digest(head.mac, self._mac(head.count, head.hash))

    def _mac(self, count: int, digest: str) -> str:
        return hmac.new(self._key, f"{count}:{digest}".encode(), "sha256").hexdigest()

    @property
    def _key_id(self) -> str:
        return hashlib.sha256(b"id:" + self._key).hexdigest()[:12] if self._key else ""

    @functools.cached_property
    def _key(self) -> bytes:
        from_environment = os.environ.get("MLOPS_AUDIT_KEY", "")
        if from_environment:
            return from_environment.encode()
        try:
            return self._key_file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreError.of(f"cannot read {self._key_file}, the key of the audit log", error) from error

    def _make_key(self) -> None:
        part = self._key_file.with_name(f"{self._key_file.name}.{secrets.token_hex(4)}")
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, secrets.token_hex(32).encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        with contextlib.suppress(FileExistsError):
            os.link(part, self._key_file)  # unlike a rename, never in place of another process's key
        part.unlink()
