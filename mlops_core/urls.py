"""URLs of databases, so that all who read them read the same: the drivers, and what shows them without a password."""

from __future__ import annotations

import re
import urllib.parse

_REST = re.compile(r"([^:/@]*)(:[^/@]*)?@([^@]*)")
_RAW = re.compile(r"[^\w.~%!$&'()*+,;=:-]")


def encoded(url: str) -> str:
    """The URL of a database with a password as it should have been written, percent-encoded.

    Raises ValueError, which tells nothing of it, where a raw '@' or '/' leaves open what is password and what is host.
    """
    scheme, _, rest = url.partition("://")
    if "@" not in rest:
        return url
    found = _REST.fullmatch(rest)
    if found is None:
        raise ValueError(
            "user name and password in the URL must be percent-encoded: '@' as %40, '/' as %2F, '#' as %23, '?' as "
            "%3F, '%' as %25; as it is, their end cannot be told from the host"
        )
    user, password, rest = found.groups(default="")
    return f"{scheme}://{_RAW.sub(_hex, user + password)}@{rest}"


def _hex(found: re.Match[str]) -> str:
    return urllib.parse.quote(found[0], safe="")
