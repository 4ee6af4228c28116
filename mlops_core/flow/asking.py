"""Rows to an endpoint over HTTP, and its answer."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_core.contracts import Endpoint
from mlops_core.errors import ServingError

LOOPBACK = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::")
KEYLESS = "set MLOPS_KEY to a key for predict; 'mlops keys create --scope predict' makes one"


def ask(endpoint: Endpoint, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The endpoint's answer, and under `asked` the rows. Raises ServingError with what it refused, in words.

    The key is that of MLOPS_KEY; the certificate must be the endpoint's own, whatever name it bears.
    """
    body, url, key = json.dumps({"rows": list(rows)}).encode(), endpoint.url, os.environ.get("MLOPS_KEY", "").strip()
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(f"{url}/predict", body, headers)
    try:
        with opener(endpoint, url).open(request, timeout=60) as answer:
            return {"asked": list(rows), **json.load(answer)}
    except urllib.error.HTTPError as error:
        hint = f"; {KEYLESS}" if error.code == 401 else ""
        raise ServingError(_refused(error.read()) + hint) from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # cut off in the middle, or no JSON
        raise ServingError(f"{url} does not answer: {error}") from error


def opener(endpoint: Endpoint, url: str) -> urllib.request.OpenerDirector:
    """What reaches a URL of this endpoint, and nobody who only says to be it."""
    handlers: list[Any] = []
    if urllib.parse.urlsplit(url).hostname in LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine
    if certificate := endpoint.details.get("certificate"):
        handlers.append(urllib.request.HTTPSHandler(context=_trusting(Path(certificate))))
    return urllib.request.build_opener(*handlers)


def _trusting(certificate: Path) -> Any:
    """TLS with whoever holds the endpoint's own certificate, and nobody else."""
    import ssl

    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False  # the address is where it listens, the name may be of the outer world
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it is trusted itself, whoever signed it
    return context


def _refused(body: bytes) -> str:
    try:
        problem = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")[:500]
    errors = [f"row {e.get('row')}, column {e.get('column')}: {e.get('message')}" for e in problem.get("errors", [])]
    return "\n".join([str(problem.get("detail") or problem.get("title")), *errors])
