"""The process that holds an endpoint's Ray Serve up: `python -m mlops_ray.host STATE --ready FD`.

It speaks with its deployer by the files and signals of `mlops_core.serving.host`; host.json also names its
private folder, by which what is left of a killed host is found. Every process of the cluster is its child.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mlops_core import answers, create_app, hold, read_state, say, write_state
from mlops_core import wanted as serving_of
from mlops_core.errors import MlopsError, ServingError

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
        cluster.start(self.desired["process"])
        cluster.declare(self.desired, self.state)
        self._wait(self.desired, self._answers)
        self.tell(self.desired)

    def run(self) -> None:
        """Serves until SIGTERM; SIGHUP reads desired.json again."""
        from mlops_ray import cluster

        while not self.ending:
            if self.woken.wait(1.0):
                self.woken.clear()
                self._change()
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
            rehearse(desired)
            cluster.declare(desired, self.state)
            self._wait(desired, lambda: True)
        except Exception as error:  # told to the deployer; the endpoint goes on
            log.error("generation %s refused: %s", generation, error)
            words = str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"
            self.tell(self.desired, {"generation": generation, "error": words})
            return
        self.desired = desired
        self.tell(desired)

    def _wait(self, desired: Mapping[str, Any], more: Any) -> None:
        """Until every replica that lives has made `desired` so."""
        from mlops_ray import cluster

        end, looked = time.monotonic() + PATIENCE, 0.0
        while not (self._made(desired) and more()):
            now = time.monotonic()
            if self.ending or now > end:
                raise ServingError("the endpoint was told to end" if self.ending else "the replicas did not start")
            if now - looked > 1:
                looked = now
                if why := cluster.trouble():
                    raise ServingError(f"ray serve cannot run the endpoint: {why}")
            time.sleep(0.05)

    def _made(self, desired: Mapping[str, Any]) -> bool:
        told = [r for r in self._replicas() if r["generation"] == desired["generation"]]
        for replica in told:
            if replica["error"]:
                raise ServingError(replica["error"])
        return len(told) >= int(desired["limits"]["replicas"])

    def _replicas(self) -> list[dict[str, Any]]:
        """What the replicas told that live."""
        found = []
        for file in (self.state / "replicas").glob("[0-9]*.json"):
            if Path("/proc", file.stem).exists():
                found.append(read_state(file))
            else:
                file.unlink(missing_ok=True)
        return found

    def _answers(self) -> bool:
        process = self.desired["process"]
        return answers(process["host"], process["port"], bool(process.get("tls_cert")))

    def _signalled(self, number: int, frame: Any) -> None:
        self.ending = self.ending or number != signal.SIGHUP
        self.woken.set()


def rehearse(desired: Mapping[str, Any]) -> None:
    """Loads what the replicas are to load, so that a bundle that cannot be served never reaches them."""
    create_app(serving_of(dict(desired))).close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("state", type=Path)
    parser.add_argument("--ready", type=int, default=-1)
    parser.add_argument("--again", action="store_true")
    given, inherited = parser.parse_args(arguments), dict(os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with hold(given.state / "host.lock"):
        if given.again and not _goes_on(given.state):
            return 0
        try:
            return _serve(given.state, given.ready, inherited)
        except MlopsError as error:
            log.error("%s", error)
            _say(given.ready, str(error))
            return error.exit_code


def _goes_on(state: Path) -> bool:
    """False where somebody stopped the endpoint while this process had let go of its lock to begin anew."""
    try:
        shutil.rmtree(read_state(state / "host.json")["folder"], ignore_errors=True)
    except FileNotFoundError:
        return False
    return True


def _say(ready: int, text: str) -> None:
    """To the deployer, where one waits."""
    if ready >= 0:
        with contextlib.suppress(OSError):
            say(ready, text)


def _begin_anew(state: Path, inherited: Mapping[str, str]) -> NoReturn:
    """The same process id, and nothing else of what was: Ray cannot be shut down in order any more."""
    from mlops_ray.cluster import end_leftovers

    end_leftovers(read_state(state / "host.json"))
    reap(10)
    os.execve(sys.executable, [sys.executable, "-P", "-m", "mlops_ray.host", str(state), "--again"], inherited)


def reap(seconds: float) -> None:
    """Waits for every child to end and forgets it: what comes after us would not know its dead children.

    A process that is killed is nobody's and not yet dead for a while, so one look is not enough.
    """
    end = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.02)


def _serve(state: Path, ready: int, inherited: Mapping[str, str]) -> int:
    from mlops_ray.cluster import environment_of
    from mlops_ray.runtime import private_folder, started

    began = time.monotonic()
    host = Host(state)
    process = host.desired["process"]
    rehearse(host.desired)
    for kept in ("replicas", "telemetry"):
        shutil.rmtree(state / kept, ignore_errors=True)
    (state / "replicas").mkdir(parents=True)
    with private_folder() as folder:
        write_state(state / "host.json", {"pid": os.getpid(), "folder": str(folder), **process})
        settings = environment_of(folder, process)
        os.environ.update(settings)  # ray.serve reads them when it is imported
        with started(folder, ServingError, env=settings, preload=("ray.serve", "mlops_ray.front", "mlops_ray.ingress")):
            host.begin()
            log.info("%s answers after %.1f s", process["url"], time.monotonic() - began)
            _say(ready, "ready")
            try:
                host.run()
            except Lost as error:
                log.error("%s; starting again", error)
                _begin_anew(state, inherited)
            _end()
    return 0


def _end() -> None:
    """Serve drains its replicas: requests under way are answered and the prediction log is written."""
    from ray import serve

    with contextlib.suppress(Exception):  # we are leaving; Ray goes with us
        serve.shutdown()


if __name__ == "__main__":
    raise SystemExit(main())
