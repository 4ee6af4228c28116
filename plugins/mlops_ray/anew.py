"""A host that begins anew under its process id: Ray dies in ways that cannot be mended from within a process.

It keeps its ports meanwhile, and tries again until it is up or told to end: who calls at three in the morning is not
helped by a process that gave up because a disk or a bundle was away for a minute.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from mlops_core import read_state

LONGEST_PAUSE = 60.0


def begin_anew(state: Path, inherited: Mapping[str, str], held: Sequence[socket.socket], attempt: int) -> NoReturn:
    """The same process id and the same ports, and nothing else of what was."""
    from mlops_ray.cluster import end_leftovers

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it would end us; what is desired is read at the beginning anyway
    end_leftovers(read_state(state / "host.json"))
    reap(10)
    words = [sys.executable, "-P", "-m", "mlops_ray.host", str(state), "--again", str(attempt), "--held"]
    for one in held:
        one.set_inheritable(True)
    os.execve(sys.executable, [*words, *(str(one.fileno()) for one in held)], inherited)


def goes_on(state: Path) -> bool:
    """False where somebody stopped the endpoint while this process had let go of its lock to begin anew."""
    try:
        shutil.rmtree(read_state(state / "host.json")["folder"], ignore_errors=True)
    except FileNotFoundError:
        return False
    return True


def pause_after(attempt: int) -> float:
    """Seconds: 1, 2, 4, ... 60."""
    return min(2.0 ** (attempt - 1), LONGEST_PAUSE)


def pause(seconds: float) -> None:
    """A signal to end ends this process, which has nothing to drain."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(seconds)


def adopt(held: Sequence[int]) -> list[socket.socket]:
    """The sockets that the one before us has left open."""
    found = [socket.socket(fileno=number) for number in held]
    for one in found:
        one.set_inheritable(False)
    return found


def reap(seconds: float) -> None:
    """Waits for every child to end and forgets it: what comes after us would not know its dead children.

    A process that is killed is nobody's and not yet dead for a while, so one look is not enough.
    """
    end = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.02)
