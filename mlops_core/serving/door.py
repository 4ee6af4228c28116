"""Who may come in: the key of a request against keys.json of the endpoint's state folder.

    /healthz /readyz /v2/health/*                       open to everybody
    POST .../feedback                                   scope feedback
    / /status /metrics                                  scope admin
    everything else: /predict /v2... /docs /openapi...  scope predict

A key of scope admin opens every door. The ledger is never asked: the file is read again when it has changed,
which is looked for every 0.1 s, so that a revoked key is refused that much later by every replica.
"""

from __future__ import annotations

import hmac
import logging
import math
import os
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from mlops_core.access import Key, read_keys
from mlops_core.access.file import NAME
from mlops_core.access.keys import digest
from mlops_core.contracts import Serving
from mlops_core.serving.problems import Refused

LOOK_SECONDS = 0.1
OPEN = frozenset(("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"))
ADMIN = frozenset(("/", "/status", "/metrics"))
Headers = Iterable[tuple[bytes, bytes]]
log = logging.getLogger("mlops_core.serving")


def scope_of(path: str) -> str:
    """The scope that a path asks for; '' where everybody may come."""
    if path in OPEN:
        return ""
    if path in ADMIN:
        return "admin"
    return "feedback" if path.endswith("/feedback") else "predict"


class Door:
    """The door of one process. `share` is the part of each key's rate that this process may let in: as many
    replicas as there are, so many parts; a caller who meets only some of them gets less than its rate."""

    def __init__(self, serving: Serving) -> None:
        self._model, self.share = serving.name, 1 / max(1, serving.replicas)
        self._path = serving.state / NAME if serving.auth == "keys" else None
        self._keys: dict[bytes, _Held] = {}
        self._seen: tuple[int, ...] = ()
        self._look = 0.0

    def admit(self, headers: Headers, wanted: str, now: float | None = None) -> str:
        """The id of the key that came; '' where none is asked for. `now` is in Unix seconds.

        Raises Refused: 401 without a key that counts, 403 where it is for something else, 429 over its rate.
        """
        if self._path is None or not wanted:
            return ""
        now = time.time() if now is None else now
        if not 0 <= now - self._look < LOOK_SECONDS:
            self._look = now
            self._refresh(self._path)
        id, secret = _presented(headers)
        held = self._keys.get(id, _NOBODY)
        right = hmac.compare_digest(digest(held.salt, secret), held.digest)  # also where there is no such key
        if not right or held is _NOBODY or now >= held.expires:
            raise _unknown(bool(id))
        if held.scope not in (wanted, "admin"):
            raise Refused(403, f"this key is for {held.scope}, this needs a key for {wanted}")
        if held.model not in ("", self._model):
            raise Refused(403, "this key is for another model")
        held.take(now, self.share)
        return held.id

    def _refresh(self, path: Path) -> None:
        """Nobody comes in where the file is gone or damaged."""
        try:
            found = os.stat(path)
            seen = (found.st_mtime_ns, found.st_ino, found.st_size)
            if seen == self._seen:
                return
            keys = read_keys(path)
        except FileNotFoundError:
            self._keys, self._seen = {}, ()
            return
        except (OSError, ValueError) as error:
            log.error("%s cannot be read, every key is refused: %s", path, error)
            self._keys, self._seen = {}, ()
            return
        before, self._seen = self._keys, seen
        self._keys = {k.id.encode(): _Held(k, before.get(k.id.encode())) for k in keys}


class _Held:
    """A live key in memory, with its bucket: `rate` tokens a second, at most a second's worth, at least one."""

    def __init__(self, key: Key, before: _Held | None = None) -> None:
        self.id, self.scope, self.model = key.id, key.scope, key.model
        self.salt, self.digest = key.salt.encode(), key.digest
        self.expires = datetime.fromisoformat(key.expires).timestamp() if key.expires else math.inf
        self.rate = key.rate
        self.tokens: float = before.tokens if before else math.inf
        self.at: float = before.at if before else 0.0

    def take(self, now: float, share: float) -> None:
        if not self.rate:
            return
        rate = self.rate * share
        self.tokens = min(max(1.0, rate), self.tokens + max(0.0, now - self.at) * rate)
        self.at = now
        if self.tokens < 1:
            refused = Refused(429, "this key has used up its rate; wait and ask again")
            refused.headers.append((b"retry-after", b"%d" % math.ceil((1 - self.tokens) / rate)))
            raise refused
        self.tokens -= 1


_NOBODY = _Held(Key(id="", scope="predict", salt="0" * 32, digest="0" * 64))


def _presented(headers: Headers) -> tuple[bytes, bytes]:
    """Id and secret of the key in `authorization: Bearer KEY` or `x-api-key: KEY`; empty where there is none."""
    text = b""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            text = value[7:].strip()
            break
        if name == b"x-api-key":
            text = value
    mark, _, rest = text.partition(b"_")
    id, _, secret = rest.partition(b"_")
    return (id, secret) if mark == b"mlops" and id and secret else (b"", b"")


def shown(headers: Headers) -> str:
    """The id of the key that a caller shows, to say who sent a label; '' without one."""
    return _presented(headers)[0].decode("latin-1")


def _unknown(given: bool) -> Refused:
    """The same words for a key that never was, is wrong, revoked or expired: a guess learns nothing."""
    what = "this key is not known here" if given else "a key is needed"
    refused = Refused(401, f"{what}; send a live one as 'authorization: Bearer KEY' or 'x-api-key: KEY'")
    refused.headers.append((b"www-authenticate", b"Bearer"))
    return refused
