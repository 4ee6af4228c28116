"""What a deployer promises."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlops_core.contracts import Endpoint, Route, Serving
from mlops_core.errors import BundleError, ServingError
from mlops_core.testing.promises import BrokenPromise, broken, check_options, inside, nothing_written, promise
from mlops_core.testing.samples import make_bundle, make_route

NAME = "kit"
BETWEEN = 1.0  # version 1 says yes above 0, version 2 above 2


def check_deployer(deployer: Any, folder: Path) -> None:
    """Checks the deployer `deployer` with two versions of a small model, with `folder` (tmp_path) to work in.

    It starts an endpoint, replaces its version under load, breaks a bundle, and stops the endpoint.
    """
    check_options(deployer)
    first = make_route(1, make_bundle(folder / "bundles" / "1", middle=0.0))
    second = make_route(2, make_bundle(folder / "bundles" / "2", middle=2.0))
    state = folder / "state"
    with inside(folder / "elsewhere") as here, nothing_written(here, folder / "bundles", doing="a deployer"):
        promise(deployer.actual(NAME, state) is None, "actual() must be None before anything was applied")
        promise(deployer.stop(NAME, state) is False, "stop() must be False where nothing runs")
        try:
            endpoint = _check_applied(deployer, _serving(first, folder))
            _check_again(deployer, _serving(first, folder), endpoint)
            _check_replaced(deployer, _serving(second, folder), endpoint)
            _check_broken(deployer, folder, second)
            _check_stopped(deployer, state)
        finally:
            deployer.stop(NAME, state)


def _serving(route: Route, folder: Path) -> Serving:
    return Serving(name=NAME, routes=(route,), state=folder / "state", log=folder / "log")


def _check_applied(deployer: Any, desired: Serving) -> Endpoint:
    endpoint: Endpoint = deployer.apply(desired)
    promise(isinstance(endpoint, Endpoint), f"apply() must return an Endpoint, not {type(endpoint).__name__}")
    promise(
        endpoint.name == NAME and endpoint.versions == (1,), f"the endpoint must tell its name and versions: {endpoint}"
    )
    promise(_ask(endpoint.url, BETWEEN) == (1, "yes"), "apply() must return when the endpoint answers as desired")
    _check_actual(deployer, desired, endpoint)
    return endpoint


def _check_actual(deployer: Any, desired: Serving, endpoint: Endpoint) -> None:
    actual = deployer.actual(NAME, desired.state)
    promise(actual is not None, "actual() must tell what runs after apply()")
    promise(actual[0].url == endpoint.url, f"actual() must tell where it answers: {actual[0].url}, not {endpoint.url}")
    promise(actual[1].routes == desired.routes, f"actual() must tell what is served: {actual[1].routes}")
    other = deployer.actual("another", desired.state)
    promise(other is None, "actual() must be None for a name that was never applied")


def _check_again(deployer: Any, desired: Serving, endpoint: Endpoint) -> None:
    with _load(endpoint.url) as answers:
        again = deployer.apply(desired)
    promise(
        again.url == endpoint.url and again.pid == endpoint.pid,
        f"apply() of what runs must change nothing: {endpoint} became {again}",
    )
    _check_undropped(answers, {1})


def _check_replaced(deployer: Any, desired: Serving, endpoint: Endpoint) -> None:
    with _load(endpoint.url) as answers:
        replaced = deployer.apply(desired)
        promise(_ask(replaced.url, BETWEEN) == (2, "no"), "apply() must return when the new version answers")
    promise(
        replaced.url == endpoint.url,
        f"a new version must answer at the same address: {replaced.url}, not {endpoint.url}",
    )
    promise(replaced.versions == (2,), f"the endpoint must tell its versions: {replaced.versions}, not (2,)")
    _check_undropped(answers, {1, 2})
    _check_actual(deployer, desired, replaced)


def _check_undropped(answers: list[Any], versions: set[int]) -> None:
    failed = [a for a in answers if isinstance(a, str)]
    promise(
        not failed,
        f"no request may be dropped by a change; {len(failed)} of {len(answers)} were: {(failed or [''])[0]}",
    )
    promise(answers, "no request was answered while a change was made")
    seen = {a[0] for a in answers}
    promise(seen <= versions, f"requests were answered by versions {seen}, expected {versions}")
    right = all(a in ((1, "yes"), (2, "no")) for a in answers)
    promise(right, "an answer must be the answer of the version that it names")


def _check_broken(deployer: Any, folder: Path, good: Route) -> None:
    """A bundle with one flipped byte is refused, and what ran goes on."""
    path = make_bundle(folder / "altered" / "3", middle=5.0)
    route = make_route(3, path)
    model = path / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    try:
        deployer.apply(_serving(route, folder))
    except (ServingError, BundleError) as error:
        promise(str(error).strip(), "the error for a bundle that cannot be served must say why")
    except Exception as error:
        kind = type(error).__name__
        raise BrokenPromise(f"apply() must raise ServingError where it cannot serve, not {kind}: {error}") from error
    else:
        broken("apply() must refuse a bundle that was altered; it served it")
    actual = deployer.actual(NAME, folder / "state")
    promise(actual is not None, "what ran must go on when a new version cannot be served; nothing runs")
    promise(_ask(actual[0].url, BETWEEN) == (2, "no"), "what ran must go on when a new version cannot be served")
    promise(deployer.apply(_serving(good, folder)).versions == (2,), "apply() must work again after a refused version")


def _check_stopped(deployer: Any, state: Path) -> None:
    url = deployer.actual(NAME, state)[0].url
    promise(deployer.stop(NAME, state) is True, "stop() must be True where it stopped an endpoint")
    promise(deployer.stop(NAME, state) is False, "stop() must be False when it was stopped already")
    promise(deployer.actual(NAME, state) is None, "actual() must be None after stop()")
    try:
        _ask(url, BETWEEN)
    except urllib.error.HTTPError:
        pass  # a refusal is an answer, too
    except OSError:
        return
    broken(f"nothing may answer at {url} after stop()")


def _ask(url: str, size: float) -> tuple[int, str]:
    """Which version answered a row, and what: POST /predict as every endpoint takes it."""
    body = json.dumps({"rows": [{"size": size}]}).encode()
    request = urllib.request.Request(f"{url.rstrip('/')}/predict", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        answer = json.load(reply)
    return int(answer["version"]), str(answer["predictions"][0]["prediction"])


@contextlib.contextmanager
def _load(url: str) -> Iterator[list[Any]]:
    """Two callers who ask without pause; collects (version, prediction), or what went wrong as text."""
    answers: list[Any] = []
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            try:
                answers.append(_ask(url, BETWEEN))
            except Exception as error:
                answers.append(f"{type(error).__name__}: {error}")

    callers = [threading.Thread(target=call, daemon=True) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        yield answers
    finally:
        done.set()
        for caller in callers:
            caller.join(30)
