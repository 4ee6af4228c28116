"""What keeps a caller with one version: a keyed hash of a header, a cookie or a field of the request."""

from __future__ import annotations

import random
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

WHERE = ("header", "cookie", "field")


class Sticky:
    """`text` is 'header:NAME', 'cookie:NAME' or 'field:NAME'. Another `salt` deals the callers anew."""

    def __init__(self, text: str, salt: str = "") -> None:
        self.where, _, self.name = text.partition(":")
        if self.where not in WHERE or not self.name:
            raise ValueError(f"sticky {text!r} is not 'header:NAME', 'cookie:NAME' or 'field:NAME'")
        self._key = blake2b(salt.encode(), digest_size=32).digest()

    def draw(self, headers: Mapping[bytes, bytes], request: Any = None) -> float:
        """A number in [0, 1), the same for the same value in every process; random where the request has none.

        Keyed, because a caller who knew the hash could choose its version; Python's own differs by process.
        """
        value = self._value(headers, request)
        if value is None:
            return random.random()
        return int.from_bytes(blake2b(value, key=self._key, digest_size=8).digest()) / 2**64

    def _value(self, headers: Mapping[bytes, bytes], request: Any) -> bytes | None:
        if self.where == "header":
            return headers.get(self.name.lower().encode())
        if self.where == "cookie":
            pairs = (p.strip().partition(b"=") for p in headers.get(b"cookie", b"").split(b";"))
            return next((value for name, _, value in pairs if name == self.name.encode()), None)
        found = field(request, self.name)
        return None if found is None else repr(found).encode()


def field(request: Any, name: str) -> Any:
    """The value of column `name` in the first row of a parsed request, whichever way that is spelled."""
    if not isinstance(request, dict):
        return None
    first = request.get("rows")
    if isinstance(first, list) and first and isinstance(first[0], dict):
        return first[0].get(name)
    for tensor in request["inputs"] if isinstance(request.get("inputs"), list) else ():
        if isinstance(tensor, dict) and tensor.get("name") == name:
            return _first(tensor.get("data"))
    if isinstance(request.get("columns"), dict):
        return _first(request["columns"].get(name))
    return request.get(name)


def _first(value: Any) -> Any:
    while isinstance(value, list):
        value = value[0] if value else None
    return value
