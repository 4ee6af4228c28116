"""A detached host process and its state folder: started, told to change, looked at, stopped."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlops_core.contracts import Endpoint, Serving
from mlops_core.errors import ServingError
from mlops_core.serving import ports
from mlops_core.serving.reach import answers
from mlops_core.serving.state import is_held, read_state, write_state

STOP_SECONDS = 20.0
ANSWER_SECONDS = 5.0
TAIL_LINES = 20
LOG_BYTES = 8 * 1024 * 1024
# The shell starts the host and ends at once: the host has no parent here, so it outlives the command that
# started it and leaves no zombie behind.
DETACH = '"$@" &'


class HostProcess:
    """The host process of one state folder. See `mlops_core.serving.host` for the files.

    `module` is run with the state folder, `--ready FD` and, where it `listens` on a socket that is given to it,
    `--socket FD`; one that opens its port by itself finds it in desired.json. `clear` ends what a host that was
    killed has left behind; it gets the host.json of that host.
    """

    def __init__(
        self,
        state: Path,
        timeout: float,
        *,
        module: str = "mlops_core.serving.host",
        listens: bool = True,
        clear: Callable[[dict[str, Any]], bool] | None = None,
    ) -> None:
        self.state = Path(state).absolute()
        self.timeout = timeout
        self.module = module
        self.listens = listens
        self.clear = clear

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One apply or stop at a time. Raises ServingError where another takes too long."""
        from filelock import FileLock, Timeout

        try:
            self.state.mkdir(parents=True, exist_ok=True)
            with FileLock(self.state / "apply.lock", timeout=self.timeout + STOP_SECONDS):
                yield
        except Timeout:
            raise ServingError(f"another command has been changing the endpoint in {self.state}; try again") from None
        except OSError as error:
            raise ServingError(f"the endpoint's state in {self.state} cannot be written: {error}") from error

    def make(
        self, serving: dict[str, Any], limits: dict[str, Any], host: str, port: int, fixed: dict[str, Any] | None = None
    ) -> None:
        """Starts the process, or changes it in place; does nothing where it is as wanted and answers.

        `fixed` is what only a new process can change; with `tls_cert` and `tls_key` in it, it answers by TLS.
        """
        before, running = self.read("desired.json"), self.running()
        kept = before["process"] if before else {}
        port = port or (kept.get("port", 0) if kept.get("host") == host else 0)
        process = ports.address(host, port, _scheme(fixed)) | (fixed or {})
        wanted = {"process": process, "limits": limits, "serving": serving}
        if running and {name: running.get(name) for name in process} == process and self._answers(running):
            if not before or {k: before[k] for k in wanted} != wanted or not self._settled(before):
                self._change(before, wanted, running)
        else:
            self._start(before, wanted)

    def running(self) -> dict[str, Any] | None:
        """host.json of the process where it lives, known by the lock that it holds."""
        found = self.read("host.json")
        return found if found and self._alive() else None

    def endpoint(self, serving: Serving, deployer: str) -> Endpoint:
        """What runs, as a deployer tells of it. Raises ServingError where nothing runs."""
        running = self.running()
        if running is None:
            raise ServingError(f"endpoint {serving.name!r} ended as soon as it was up; see {self.state / 'host.log'}")
        details = {"log": str(serving.state / "host.log"), "predictions": str(serving.log)}
        scheme, _, place = running["url"].partition("://")
        if running.get("tls_cert"):
            details["certificate"] = running["tls_cert"]
        if running.get("grpc_port"):
            details["grpc"] = f"{place.rpartition(':')[0]}:{running['grpc_port']}"
        if running.get("admin_port"):
            details["admin"] = ports.address(running["admin_host"], running["admin_port"], scheme)["url"]
        return Endpoint(
            name=serving.name,
            url=running["url"],
            deployer=deployer,
            versions=tuple(r.version for r in serving.routes),
            pid=running["pid"],
            details=details,
        )

    def stop(self) -> bool:
        """SIGTERM, and SIGKILL to what has not drained in time; False where nothing ran."""
        running = self.running()
        if running is None:
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(running["pid"], number)
            if _until(lambda: not self._alive(), STOP_SECONDS):
                self.tidy()
                return True
        raise ServingError(f"process {running['pid']} of {self.state} does not end")

    def tidy(self) -> bool:
        """Ends what a killed host has left behind; False where there is nothing of that kind."""
        left = self.read("host.json")
        if left is None or self._alive():
            return False
        found = self.clear(left) if self.clear else False
        (self.state / "host.json").unlink(missing_ok=True)
        return found

    def read(self, name: str) -> dict[str, Any] | None:
        try:
            return read_state(self.state / name)
        except FileNotFoundError:
            return None
        except ValueError:
            raise ServingError(f"{self.state / name} is damaged; stop the endpoint and remove it") from None

    def _alive(self) -> bool:
        return is_held(self.state / "host.lock")

    def _answers(self, running: dict[str, Any]) -> bool:
        return answers(running["host"], running["port"], bool(running.get("tls_cert")), ANSWER_SECONDS)

    def _settled(self, desired: dict[str, Any]) -> bool:
        actual = self.read("actual.json")
        return actual is not None and actual["generation"] == desired["generation"] and not actual["failed"]

    def _change(self, before: dict[str, Any] | None, wanted: dict[str, Any], running: dict[str, Any]) -> None:
        """Tells the process; where it refuses, what was desired before is desired again."""
        generation = self._desire(before, wanted)
        with contextlib.suppress(ProcessLookupError):
            os.kill(running["pid"], signal.SIGHUP)

        def told() -> bool:
            actual = self.read("actual.json") or {"generation": 0, "failed": None}
            return generation in (actual["generation"], (actual["failed"] or {}).get("generation"))

        _until(lambda: told() or not self._alive(), self.timeout)
        if not told():
            raise ServingError(f"the endpoint did not change within {self.timeout:g} s\n{self._tail()}")
        failed = (self.read("actual.json") or {}).get("failed")
        if failed:
            self._take_back(before)
            raise ServingError(f"{failed['error']}; the endpoint goes on as it was")

    def _start(self, before: dict[str, Any] | None, wanted: dict[str, Any]) -> None:
        """Binds first, so that a taken port is told before anything is stopped."""
        host, port = wanted["process"]["host"], wanted["process"]["port"]
        running = self.running()
        if running and (running["port"] == port or not self.listens):
            self.stop()
        self.tidy()
        with contextlib.closing(ports.bind(host, port, self.state)) as listening:
            self.stop()
            found = wanted["process"] | ports.address(host, listening.getsockname()[1], _scheme(wanted["process"]))
            self._desire(before, wanted | {"process": found})
            if not self.listens:
                listening.close()
            said = self._spawn(listening)
        if said != "ready":
            self.stop()
            self._take_back(before)
            raise ServingError(said or f"the endpoint's process ended while starting\n{self._tail()}")

    def _spawn(self, listening: socket.socket) -> str:
        """What the new process says when it is up: 'ready', why it cannot be, or '' where it died."""
        mine, theirs = os.pipe()
        words = [sys.executable, "-P", "-m", self.module, str(self.state), "--ready", str(theirs)]
        handed = [theirs]
        if self.listens:
            words += ["--socket", str(listening.fileno())]
            handed.append(listening.fileno())
        with os.fdopen(mine, "rb") as pipe:
            try:
                with self._log() as log:
                    subprocess.run(
                        ["/bin/sh", "-c", DETACH, "sh", *words],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        pass_fds=handed,
                        check=True,
                    )
            finally:
                os.close(theirs)
            if not select.select([pipe], [], [], self.timeout)[0]:
                return f"the endpoint was not up within {self.timeout:g} s\n{self._tail()}"
            return pipe.read().decode()

    def _desire(self, before: dict[str, Any] | None, wanted: dict[str, Any]) -> int:
        """A generation that was never told of, so that what is told of it is no older failure."""
        actual = self.read("actual.json") or {}
        known = [record["generation"] for record in (before, actual, actual.get("failed")) if record]
        generation: int = max(known, default=0) + 1
        write_state(self.state / "desired.json", {"generation": generation, **wanted})
        return generation

    def _take_back(self, before: dict[str, Any] | None) -> None:
        if before is None:
            (self.state / "desired.json").unlink(missing_ok=True)
        else:
            write_state(self.state / "desired.json", before)

    def _log(self) -> Any:
        path = self.state / "host.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")

    def _tail(self) -> str:
        try:
            lines = (self.state / "host.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-TAIL_LINES:])


def _scheme(fixed: dict[str, Any] | None) -> str:
    return "https" if fixed and fixed.get("tls_cert") else "http"


def _until(done: Callable[[], bool], seconds: float) -> bool:
    """Whether `done` came true in time."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
