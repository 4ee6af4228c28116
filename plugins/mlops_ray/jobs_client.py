"""A client of a cluster's Ray Jobs API that never hangs: it asks first who is there, and each request ends."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
from pathlib import Path
from typing import Any

from mlops_core.errors import LaunchError, PluginError, UsageError
from mlops_ray.runtime import SILENT, environment

CONNECT, ANSWER = 5.0, 60.0  # seconds to get through, and to get an answer
PORT = 8265
OVERRIDES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # Ray takes these before what it is told


def connect(address: str) -> Any:
    """Ray's own client of the cluster at `address`. Raises LaunchError where it does not answer, lets us not in, or is
    of another Ray or Python."""
    url = url_of(address)
    if importlib.util.find_spec("ray") is None:
        raise PluginError("launcher ray needs ray: python -m pip install 'mlops-core-framework[ray]'")
    headers = _greeted(url)
    with environment({**dict.fromkeys(OVERRIDES), "RAY_USAGE_STATS_ENABLED": SILENT["RAY_USAGE_STATS_ENABLED"]}):
        client = _client_class()(url, headers=headers)
    if client._ssl_context is None:  # aiohttp calls that old-fashioned
        client._ssl_context = True
    for name in ("job.sdk", "dashboard_sdk"):  # it tells of each connection that it closes
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.ERROR)
    return client


def url_of(address: str) -> str:
    """Where a cluster's dashboard is. Raises UsageError for what is another kind of address."""
    text = (address or os.environ.get("RAY_API_SERVER_ADDRESS", "")).strip().rstrip("/")
    if not text:
        raise UsageError("where to? give --address http://HEAD:8265, or launcher.address")
    scheme, _, rest = text.rpartition("://")
    shaped = re.fullmatch(r"(\[[\da-fA-F:]+\]|[^\s/?#:@]+)(:\d+)?(/[^\s?#]*)?", rest) and rest not in ("auto", "local")
    if scheme not in ("", "http", "https") or not shaped:
        raise UsageError(f"address {text!r} is not that of a Ray dashboard; expected http://HEAD:{PORT}")
    has_port = re.search(r":\d+$", rest.partition("/")[0])
    return f"{scheme or 'http'}://{rest}" + ("" if scheme == "https" or has_port or "/" in rest else f":{PORT}")


def send(client: Any, content: bytes, name: str = "") -> str:
    """Puts `content` into the cluster's memory, under its digest or `name`: its URI. What is there stays."""
    uri = f"gcs://{name or '_ray_pkg_' + hashlib.sha256(content).hexdigest()[:32]}.zip"
    if name or not client._package_exists(uri):
        answer = client._do_request("PUT", f"/api/packages/gcs/{uri.removeprefix('gcs://')}", data=content)
        if answer.status_code != 200:
            words = (answer.text.strip().splitlines() or [""])[-1]
            raise LaunchError(f"the cluster did not take {len(content):,} bytes: HTTP {answer.status_code} {words}")
    return uri


def _client_class() -> Any:
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]
        def _do_request(self, method: str, endpoint: str, **rest: Any) -> Any:
            import requests

            try:
                return super()._do_request(method, endpoint, timeout=(CONNECT, ANSWER), **rest)
            except requests.RequestException as error:
                raise LaunchError(_unreachable(self._address, error)) from error

    return Client


def _greeted(url: str) -> dict[str, str]:
    """The headers that let us in."""
    headers = _token() if os.environ.get("RAY_AUTH_MODE") == "token" else {}
    answer = _get(url, "/api/version", headers)
    if answer.status_code == 401 and not headers:
        headers = _token()
        if not headers:
            raise LaunchError(f"the cluster at {url} asks for a token: put it into RAY_AUTH_TOKEN or ~/.ray/auth_token")
        answer = _get(url, "/api/version", headers)
    if answer.status_code in (401, 403):
        raise LaunchError(f"the cluster at {url} refuses the token of {_token_place()}")
    try:
        version = str(answer.json()["ray_version"])
    except (ValueError, LookupError, TypeError) as error:
        what = f"HTTP {answer.status_code}" if answer.status_code != 200 else "no version"
        raise LaunchError(
            f"what answers at {url} is no Ray dashboard ({what}); its port is {PORT} by default"
        ) from error
    _refuse_other(url, version, _python(url, headers))
    return headers


def _refuse_other(url: str, ray_there: str, python_there: str) -> None:
    import platform

    import ray

    for name, here, there in (("Ray", ray.__version__, ray_there), ("Python", platform.python_version(), python_there)):
        if there and here.split(".")[:2] != there.split(".")[:2]:
            raise LaunchError(
                f"the cluster at {url} runs {name} {there}, and here is {here}; the first two numbers must be the same"
            )


def _python(url: str, headers: dict[str, str]) -> str:
    try:
        return str(_get(url, "/api/v0/cluster_metadata", headers).json()["data"]["pythonVersion"])
    except (ValueError, LookupError, TypeError):  # it is asked again there
        return ""


def _get(url: str, path: str, headers: dict[str, str]) -> Any:
    import requests

    try:
        return requests.get(url + path, headers=headers, timeout=(CONNECT, ANSWER), allow_redirects=False)
    except requests.RequestException as error:
        raise LaunchError(_unreachable(url, error)) from error


def _unreachable(url: str, error: Exception) -> str:
    import requests

    text = str(error)
    known = re.search(r"Connection refused|Name or service not known|No route to host|unreachable", text)
    why = (
        known[0].lower() if known else "the connection was cut" if "aborted" in text or "reset" in text else text[:200]
    )
    why = "no answer in time" if isinstance(error, requests.Timeout) else why
    return f"no Ray cluster answers at {url}: {why}"


def _token() -> dict[str, str]:
    place = _token_place()
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    if not token and place:
        try:
            token = Path(place).read_text().strip()
        except OSError as error:
            raise LaunchError(f"cannot read the token in {place}: {error.strerror}") from error
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token_place() -> str:
    """Where Ray's token is, in the order that Ray looks; '' where there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    home = Path.home() / ".ray" / "auth_token"
    return os.environ.get("RAY_AUTH_TOKEN_PATH") or (str(home) if home.exists() else "")
