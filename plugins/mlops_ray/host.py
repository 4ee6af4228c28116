"""The process that holds an endpoint's Ray Serve up: `python -m mlops_ray.host STATE --ready FD`.

It speaks with its deployer by the files and signals of `mlops_core.serving.host`; host.json also names its
private folder, by which what is left of a killed host is found. Every process of the cluster is its child.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from mlops_core import answers, create_app, hold, read_state, reserve, say, write_state
from mlops_core import wanted as serving_of
from mlops_core.errors import MlopsError, ServingError
from mlops_ray.anew import adopt, begin_anew, goes_on, pause, pause_after
from mlops_ray.front import WANTED, living
from mlops_ray.renewal import Renewal

log = logging.getLogger("mlops_ray.host")
PATIENCE = 600.0  # the deployer gives up long before


class Lost(Exception):
    """The cluster of this host has died: everything begins anew, on the same port."""


class Host:
    """Keeps Ray Serve equal to desired.json."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.desired = read_state(state / "desired.json")
        self.woken = threading.Event()
        self.ending = False
        self.listen()

    def listen(self) -> None:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)

    def begin(self) -> None:
        """The first deployment; raises ServingError where it cannot be."""
        from mlops_ray import cluster

        self.listen()  # Ray has taken SIGTERM for itself
        self._want(self.desired)
        cluster.start(self.desired["process"])
        cluster.declare(self.desired["limits"], self.state)
        self._wait(lambda: self._made(self.desired, int(self.desired["limits"]["replicas"])) and self._answers(), True)
        self.tell(self.desired)

    def run(self, renewal: Renewal) -> None:
        """Serves until SIGTERM; SIGHUP reads desired.json again."""
        from mlops_ray import cluster

        while not self.ending:
            if self.woken.wait(1.0):
                self.woken.clear()
                self._change()
            renewal.look()
            if gone := cluster.dead():
                raise Lost(f"{gone} of this endpoint died")

    def tell(self, made: Mapping[str, Any], failed: dict[str, Any] | None = None) -> None:
        now = {"generation": made["generation"], "serving": made["serving"], "failed": failed}
        write_state(self.state / "actual.json", now)

    def _change(self) -> None:
        """As desired.json says now; where that fails, everything stays and actual.json says why."""
        from mlops_ray import cluster

        generation = self.desired["generation"]
        try:
            desired = read_state(self.state / "desired.json")
            generation = desired["generation"]
            if generation == self.desired["generation"]:
                return
            if _loads(desired) != _loads(self.desired):
                rehearse(desired)
            self._want(desired)
            if declared := desired["limits"] != self.desired["limits"]:
                cluster.declare(desired["limits"], self.state)
            least = int(desired["limits"]["replicas"]) if declared else 1  # one that starts just now follows as well
            self._wait(lambda: self._made(desired, least), declared)
        except Exception as error:  # told to the deployer; the endpoint goes on
            log.error("generation %s refused: %s", generation, error)
            self._take_back()
            self.tell(self.desired, {"generation": generation, "error": _words(error)})
            return
        self.desired = desired
        self.tell(desired)

    def _want(self, desired: Mapping[str, Any]) -> None:
        """What every replica follows."""
        write_state(self.state / WANTED, desired)

    def _take_back(self) -> None:
        """A replica that has made so what another one could not, or starts just now, does as the others."""
        from mlops_ray import cluster

        with contextlib.suppress(Exception):  # what failed is told already
            failed = read_state(self.state / WANTED)
            if failed["generation"] != self.desired["generation"]:
                self._want(self.desired)
                if failed["limits"] != self.desired["limits"]:
                    cluster.declare(self.desired["limits"], self.state)

    def _wait(self, made: Callable[[], bool], declared: bool) -> None:
        """Until it is so, or Serve says why what was `declared` to it cannot be."""
        from mlops_ray import cluster

        end, looked = time.monotonic() + PATIENCE, 0.0
        while not made():
            now = time.monotonic()
            if self.ending or now > end:
                raise ServingError("the endpoint was told to end" if self.ending else "the replicas did not start")
            if declared and now - looked > 1:
                looked = now
                if why := cluster.trouble():
                    raise ServingError(f"ray serve cannot run the endpoint: {why}")
            time.sleep(0.01)

    def _made(self, desired: Mapping[str, Any], least: int) -> bool:
        """Whether `least` replicas or more live and all have made `desired` so. Raises ServingError if one cannot."""
        there = living(self.state)
        told = [r for r in there if r["generation"] == desired["generation"]]
        for replica in told:
            if replica["error"]:
                raise ServingError(replica["error"])
        return len(told) == len(there) >= least

    def _answers(self) -> bool:
        process = self.desired["process"]
        return answers(process["host"], process["port"], bool(process.get("tls_cert")))

    def _signalled(self, number: int, frame: Any) -> None:
        self.ending = self.ending or number != signal.SIGHUP
        self.woken.set()


def _loads(desired: Mapping[str, Any]) -> Any:
    """What decides whether everything can be loaded; a change of weights needs no rehearsal."""
    serving = desired["serving"]
    routes = [{k: v for k, v in route.items() if k != "weight"} for route in serving["routes"]]
    return routes, serving["trust"], serving["log"], desired["limits"]


def rehearse(desired: Mapping[str, Any]) -> None:
    """Loads what the replicas are to load, so that a bundle that cannot be served never reaches them."""
    create_app(serving_of(dict(desired))).close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("state", type=Path)
    parser.add_argument("--ready", type=int, default=-1)
    parser.add_argument("--again", type=int, default=0, help="which attempt to begin anew this is")
    parser.add_argument("--held", type=int, nargs="*", default=[], help="sockets that keep the ports")
    given, inherited = parser.parse_args(arguments), dict(os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    held = adopt(given.held)
    with hold(given.state / "host.lock"):
        if given.again and not goes_on(given.state):
            return 0
        host = Host(given.state)
        try:
            held = held or _reserve(host.desired["process"])
            _serve(host, given.ready, functools.partial(begin_anew, given.state, inherited, held))
        except Exception as error:
            if given.again and not host.ending:
                seconds = pause_after(given.again)
                log.error("cannot start again: %s; trying once more in %g s", _words(error), seconds)
                pause(seconds)
                begin_anew(given.state, inherited, held, given.again + 1)
            if not isinstance(error, MlopsError):
                raise
            log.error("%s", error)
            _say(given.ready, str(error))
            return error.exit_code
    return 0


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"


def _reserve(process: Mapping[str, Any]) -> list[socket.socket]:
    front = reserve(process["host"], process["port"], process.get("grpc_port"))
    return front + reserve(process["admin_host"], process.get("admin_port"))


def _say(ready: int, text: str) -> None:
    """To the deployer, where one waits."""
    if ready >= 0:
        with contextlib.suppress(OSError):
            say(ready, text)


def _serve(host: Host, ready: int, again: Callable[[int], NoReturn]) -> None:
    from mlops_ray.cluster import environment_of
    from mlops_ray.runtime import private_folder, started

    began, state, process = time.monotonic(), host.state, host.desired["process"]
    rehearse(host.desired)
    for kept in ("replicas", "telemetry"):
        shutil.rmtree(state / kept, ignore_errors=True)
    (state / "replicas").mkdir(parents=True)
    with private_folder() as folder:
        write_state(state / "host.json", {"pid": os.getpid(), "folder": str(folder), **process})
        renewal = Renewal(folder, process)
        settings = environment_of(folder, process)
        os.environ.update(settings)  # ray.serve reads them when it is imported
        with started(folder, ServingError, env=settings, preload=("ray.serve", "mlops_ray.front", "mlops_ray.ingress")):
            host.begin()
            log.info("%s answers after %.1f s", process["url"], time.monotonic() - began)
            _say(ready, "ready")
            try:
                host.run(renewal)
            except Lost as error:  # Ray cannot be shut down in order any more
                log.error("%s; starting again", error)
                again(1)
            _end()


def _end() -> None:
    """Serve drains its replicas: requests under way are answered and the prediction log is written."""
    from ray import serve

    with contextlib.suppress(Exception):  # we are leaving; Ray goes with us
        serve.shutdown()


if __name__ == "__main__":
    raise SystemExit(main())
