"""The raw request: its path, its body within limits, its id."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from mlops_core.serving.problems import Refused

Scope = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MODEL = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<verb>ready|infer|feedback))?")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
JSON = b"application/json"


class Gone(Exception):
    """The caller hung up before the request was whole."""


async def body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's body. What is over `limit` is read and thrown away for a while, so that the caller gets to
    see the answer."""
    chunks, size, more = [], 0, True
    while more and size <= 4 * limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    if size > limit:
        raise Refused(
            413, f"the body is larger than the {limit} bytes that one request may have; send fewer rows at once"
        )
    _check_type(dict(scope["headers"]))
    return b"".join(chunks)


def _check_type(headers: dict[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", JSON).split(b";")[0].strip().lower()
    coding = headers.get(b"content-encoding", b"identity").lower()
    if b"inference-header-content-length" in headers:
        kind = JSON  # and raw tensors behind it
    if kind != JSON and not kind.endswith(b"+json"):
        raise Refused(415, f"content type {kind.decode('latin-1')!r} is not supported; send {JSON.decode()}")
    if coding != b"identity":
        raise Refused(415, f"content encoding {coding.decode('latin-1')!r} is not supported; send plain JSON")


def parse(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Refused(400, _malformed(data, error)) from None


def _malformed(data: bytes, error: orjson.JSONDecodeError) -> str:
    if not data:
        return "the body is empty; send JSON"
    hint = ""
    if re.search(rb"\b(NaN|Infinity)\b", data[max(0, error.pos - 12) : error.pos + 12]):
        hint = "; NaN and Infinity are no JSON, send null for a missing value"
    return f"the body is no JSON from line {error.lineno}, column {error.colno} on{hint}"


def allow(scope: Scope, *methods: str) -> None:
    if scope["method"] not in methods:
        refused = Refused(405, f"{scope['path'][:80]} takes {' or '.join(methods)}, not {scope['method']}")
        refused.headers.append((b"allow", ", ".join(methods).encode()))
        raise refused


def request_id(scope: Scope) -> str:
    """The caller's `x-request-id`, or a new one."""
    given = dict(scope["headers"]).get(b"x-request-id")
    return new_id() if given is None else checked_id(given.decode("latin-1"))


def checked_id(given: Any) -> str:
    if not isinstance(given, str) or not REQUEST_ID.fullmatch(given):
        raise Refused(400, "the request id must be 1 to 128 letters, digits or any of . _ : -")
    return given


def new_id() -> str:
    """A UUIDv7 (RFC 9562): sorts by time, unique without coordination."""
    noise = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | (noise >> 68) << 64 | 2 << 62 | noise & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def lost(path: str, found: re.Match[str] | None, name: str) -> Refused:
    if found:
        return Refused(404, f"there is no model {found['name'][:80]!r} here; this is {name!r}")
    return Refused(404, f"there is nothing at {path[:80]!r}; /docs tells what there is")
