"""Rows to an endpoint over HTTP, and its answer."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from mlops_core.errors import ServingError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def ask(url: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The endpoint's answer, and under `asked` the rows. Raises ServingError with what it refused, in words."""
    body = json.dumps({"rows": list(rows)}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json"})
    here = urllib.parse.urlsplit(url).hostname in LOOPBACK  # a proxy cannot reach this machine
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if here else []))
    try:
        with opener.open(request, timeout=60) as answer:
            return {"asked": list(rows), **json.load(answer)}
    except urllib.error.HTTPError as error:
        raise ServingError(_refused(error.read())) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # cut off in the middle, or no JSON
        raise ServingError(f"{url} does not answer: {error}") from error


def _refused(body: bytes) -> str:
    try:
        problem = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")[:500]
    errors = [f"row {e.get('row')}, column {e.get('column')}: {e.get('message')}" for e in problem.get("errors", [])]
    return "\n".join([str(problem.get("detail") or problem.get("title")), *errors])
