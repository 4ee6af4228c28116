"""A renewed certificate reaches the running HAProxy over its own socket; one that starts later finds it in its file.

The commands are those of HAProxy's Runtime API: https://docs.haproxy.org/2.8/management.html#9.3 (set ssl cert).
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_core import Pair, certificate, tls_files
from mlops_core.errors import ServingError

PEM = "tls.pem"
AGAIN = (0.0, 5.0, 15.0)  # seconds after which it is told: Serve may start another HAProxy at the same moment
PATIENCE = 5.0
log = logging.getLogger("mlops_ray")


class Renewal:
    """Follows the files of `process`; `folder` is the host's private one, in which Serve keeps HAProxy's sockets."""

    def __init__(self, folder: Path, process: Mapping[str, Any]) -> None:
        files = tls_files(process)
        self._folder, self._process = folder, process
        self._pair = Pair(*files) if files else None
        self._due: list[float] = []

    def look(self) -> None:
        """To be called now and then; what goes wrong is told in the log, and the certificate before goes on."""
        if self._pair is None:
            return
        if self._pair.renewed() is not None:
            self._due = [time.monotonic() + seconds for seconds in AGAIN]
        if self._due and time.monotonic() >= self._due[0]:
            self._due.pop(0)
            try:
                pem = write_pem(self._folder, self._process)
                for path in self._folder.glob("*/admin.sock"):
                    _tell(path, pem)
            except (OSError, ServingError) as error:
                log.warning("HAProxy goes on with the certificate before: %s", error)


def write_pem(folder: Path, process: Mapping[str, Any]) -> Path:
    """HAProxy wants certificate and key in one file. It is there whole, and of use, or stays as it was: raises OSError
    and ServingError."""
    parts = [Path(process[name]).read_bytes() for name in ("tls_cert", "tls_key")]
    lines = [line for part in parts for line in part.splitlines() if line.strip()]  # an empty one would end a payload
    pem, work = folder / PEM, folder / f".{PEM}"
    with open(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(b"\n".join(lines) + b"\n")
    certificate(work, work)
    work.replace(pem)
    return pem


def _tell(path: Path, pem: Path) -> None:
    """Raises ServingError with HAProxy's words where it refuses."""
    for command, done in (
        (b"set ssl cert %b <<\n%b\n" % (os.fsencode(pem), pem.read_bytes()), "ransaction"),
        (b"commit ssl cert %b\n" % os.fsencode(pem), "Success"),
    ):
        said = _ask(path, command)
        if done not in said:
            with contextlib.suppress(OSError):
                _ask(path, b"abort ssl cert %b\n" % os.fsencode(pem))
            raise ServingError(" ".join(said.split()) or "it does not answer")


def _ask(path: Path, command: bytes) -> str:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(PATIENCE)
        caller.connect(str(path))
        caller.sendall(command)
        return b"".join(iter(lambda: caller.recv(4096), b"")).decode(errors="replace")
