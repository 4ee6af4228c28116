"""A real Ray cluster on loopback, as a person starts one: with a dashboard, on ports and in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from mlops_ray.cluster import _free_ports, _names, _processes


@dataclass
class Cluster:
    url: str
    folder: Path
    log: Path


@contextlib.contextmanager
def cluster(env: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """One node of 2 CPUs; `env` in all of its processes. Whatever it left is ended and removed."""
    folder = Path(tempfile.mkdtemp(prefix="ray-t-", dir="/tmp"))  # sockets allow 107 characters
    gcs, dashboard, agent, metrics, client = map(str, _free_ports(5))
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
        "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--ray-client-server-port={client}", "--num-cpus=2",
        "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}", "--include-log-monitor=false",
        f"--temp-dir={folder}", f"--object-store-memory={100 * 1024 * 1024}",
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    drop = {"PYTHONPATH", "RAY_ADDRESS", *(n for n in os.environ if n.startswith("MLOPS_"))}
    settings = {k: v for k, v in os.environ.items() if k not in drop} | {"PATH": path, "TMPDIR": str(folder)}
    settings |= {"RAY_agent_register_timeout_ms": "300000", "RAY_TEST_FOLDER": str(folder), **(env or {})}
    log = folder / "head.log"
    with log.open("w") as out:
        head = subprocess.Popen(command, env=settings, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{dashboard}"
        _await(url, head, log)
        yield Cluster(url, folder, log)
    finally:
        head.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(8)
        for pid in (p for p in _processes() if p != os.getpid() and _names(p, str(folder))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        head.kill()
        head.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _await(url: str, head: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while True:
        assert head.poll() is None, log.read_text()
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/api/version", timeout=5, trust_env=False).status_code in (200, 401):
                return
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


class Relay:
    """A port that passes everything on to `url`, until it is cut: then nobody gets through for a while."""

    def __init__(self, url: str) -> None:
        self.target = ("127.0.0.1", int(url.rpartition(":")[2]))
        self.cuts, self._until = 0, 0.0
        self._open: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._door.close()
        self._end()

    def cut(self, seconds: float) -> None:
        self.cuts, self._until = self.cuts + 1, time.monotonic() + seconds
        self._end()

    def _end(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._door.accept()[0]
                if time.monotonic() < self._until:
                    near.close()
                    continue
                far = socket.create_connection(self.target)
                self._open += [near, far]
                for source, to in ((near, far), (far, near)):
                    threading.Thread(target=_pass, args=(source, to), daemon=True).start()


def _pass(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
    for one in (source, to):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
