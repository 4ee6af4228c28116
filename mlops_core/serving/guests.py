"""Guests as their owner sees them: asked with a deadline, killed when they hang, started again with back-off.

A version that is not trusted yet answers from a process of its own, so that nothing it does reaches the callers
of the stable version: where it fails, dies or is late, the stable version answers in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from mlops_core.bundle import Bundle
from mlops_core.contracts import Route, Serving, plain
from mlops_core.errors import ServingError
from mlops_core.serving.guest import LENGTHS, pack

LOAD_SECONDS = 120.0
HANGS = 2.0  # seconds without an answer to what it was asked first, after which it is killed
FAILURES = 5  # in a row, after which it is left alone for a while
REST = (0.5, 30.0)  # seconds, doubled each time it fails again
MOST = 64  # requests that wait for it at a time
REPLIES = {"answered": {"id", "rows", "unseen", "logged"}, "refused": {"status"}, "failed": {"error"}}
# A guest dies with the thread that started it (a rule of the kernel): this one lives as long as the process.
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="guests")
log = logging.getLogger("mlops_core.serving")


class Failed(Exception):
    """The guest gave no answer, for the reason told: 'timeout', 'died', 'resting', 'busy' or the name of an error."""


class Guest:
    """One version in a process of its own. `start` in a thread; `ask` on an event loop; `close` anywhere."""

    def __init__(self, route: Route, serving: Serving, bundle: Bundle) -> None:
        self.version = route.version
        self.bundle = bundle
        self.starts = 0
        self.failures = 0
        self.error = ""
        self._where = f"version {route.version} of {serving.name!r}"
        self._wanted = orjson.dumps({"serving": plain(serving), "version": route.version})
        self._process: subprocess.Popen[bytes] | None = None
        self._line: _Line | None = None
        self._numbers = itertools.count()
        self._in_a_row = 0
        self._rest_until = 0.0
        self._rest = REST[0]
        self._restarting: threading.Thread | None = None
        self._changing = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Starts it and waits until it has loaded and passed its smoke set. Raises ServingError."""
        mine, theirs = socket.socketpair()
        words = [sys.executable, "-P", "-m", "mlops_core.serving.guest", "--socket", str(theirs.fileno())]
        with theirs:
            process = _STARTER.submit(
                subprocess.Popen, words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            ).result()
        if said := _greet(mine, self._wanted):
            mine.close()
            _end(process)
            raise ServingError(said if said.startswith("version ") else f"{self._where} cannot be served: {said}")
        with self._changing:
            if self._closed:
                mine.close()
                _end(process)
                return
            self.starts += 1
            self._process, self._line = process, _Line(mine)
            self._in_a_row, self._rest_until = 0, 0.0

    async def ask(self, form: str, id: str, data: bytes, max_rows: int, seconds: float) -> tuple[dict[str, Any], bytes]:
        """The guest's reply: its head (state 'answered' or 'refused') and body. Raises Failed after `seconds`."""
        line = self._line
        if line is None or time.monotonic() < self._rest_until:
            raise Failed("resting")
        if len(line.waiting) >= MOST:
            raise Failed("busy")
        number = next(self._numbers)
        head = {"number": number, "form": form, "id": id, "max_rows": max_rows}
        try:
            async with asyncio.timeout(seconds):
                said, body = await line.ask(number, pack(head, data))
        except TimeoutError:
            self._failed("timeout")
            if line.oldest() > max(HANGS, 2 * seconds):
                self._again(line, "hung")
            raise Failed("timeout") from None
        except (OSError, EOFError):
            self._failed("died")
            self._again(line, "died")
            raise Failed("died") from None
        if said["state"] == "failed":
            self._failed(said["error"])
            raise Failed(said["error"])
        self._in_a_row, self._rest = 0, REST[0]
        return said, body

    def status(self) -> dict[str, Any]:
        state = "resting" if self._line is None or time.monotonic() < self._rest_until else "up"
        return {"state": state, "starts": self.starts, "failures": self.failures, "error": self.error}

    def close(self) -> None:
        """Ends its process; what it was asked and has not answered fails."""
        with self._changing:
            self._closed = True
            line, process, self._line, self._process = self._line, self._process, None, None
        if line is not None:
            line.close()
        if process is not None:
            _end(process)

    async def leave(self) -> None:
        """The same on the event loop that asked it, which then has nothing of it left."""
        line = self._line
        await asyncio.to_thread(self.close)
        if line is not None:
            await line.closed()

    def _failed(self, error: str) -> None:
        self.failures += 1
        self.error = error
        self._in_a_row += 1
        if self._in_a_row >= FAILURES:
            self._rest_until = time.monotonic() + self._rest
            self._rest = min(2 * self._rest, REST[1])
            self._in_a_row = 0

    def _again(self, line: _Line, why: str) -> None:
        """Kills what is left of it and starts it again, beside the event loop."""
        with self._changing:
            if self._closed or self._line is not line:
                return
            process, self._line, self._process = self._process, None, None
        log.warning("version %s %s; starting it again in %.1f s", self.version, why, self._rest)
        line.close()
        self._restarting = threading.Thread(target=self._restart, args=(process,), daemon=True)
        self._restarting.start()

    def _restart(self, process: subprocess.Popen[bytes] | None) -> None:
        if process is not None:
            _end(process)
        while not self._closed:
            time.sleep(self._rest)
            self._rest = min(2 * self._rest, REST[1])
            try:
                self.start()
                return
            except (ServingError, OSError) as error:
                self.error = str(error)
                log.warning("version %s does not start: %s", self.version, error)


class _Line:
    """The socket to a guest, and who waits at it. Belongs to the event loop of its first use."""

    def __init__(self, line: socket.socket) -> None:
        self.waiting: dict[int, tuple[float, asyncio.Future[tuple[dict[str, Any], bytes]]]] = {}
        self._socket: socket.socket | None = line
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def ask(self, number: int, frame: bytes) -> tuple[dict[str, Any], bytes]:
        async with self._opening:
            if self._writer is None:
                await self._open()
        if self._reading is None or self._reading.done():
            raise EOFError
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[tuple[dict[str, Any], bytes]] = loop.create_future()
        self.waiting[number] = (time.monotonic(), reply)
        assert self._writer is not None
        self._writer.write(frame)
        return await reply

    def oldest(self) -> float:
        """Seconds since the first of the requests was sent that have no answer."""
        first = next(iter(self.waiting.values()), None)
        return time.monotonic() - first[0] if first else 0.0

    def close(self) -> None:
        line, self._socket = self._socket, None
        if line is not None:
            line.close()
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end)

    async def closed(self) -> None:
        if self._writer is not None and self._reading is not None:
            await self._reading
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _open(self) -> None:
        line, self._socket = self._socket, None
        if line is None:
            raise EOFError
        self._loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_unix_connection(sock=line)
        self._reading = self._loop.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        # What is no reply comes from a guest that is broken, as one whose code changed under it: as if it had died.
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, ValueError, KeyError, TypeError):
            while True:
                head, body = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
                said = orjson.loads(await reader.readexactly(head))
                content = await reader.readexactly(body)
                if not REPLIES[said["state"]] <= said.keys():
                    raise KeyError
                _, reply = self.waiting.pop(said["number"], (0.0, None))
                if reply is not None and not reply.done():
                    reply.set_result((said, content))
        self._end()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        for _, reply in self.waiting.values():
            if not reply.done():
                reply.set_exception(EOFError())
                reply.exception()  # whoever waited may have left
        self.waiting.clear()


def _greet(line: socket.socket, wanted: bytes) -> str:
    """'' where the guest has loaded its version, else why not."""
    line.settimeout(LOAD_SECONDS)
    try:
        line.sendall(LENGTHS.pack(len(wanted), 0) + wanted)
        with line.makefile("rb") as frames:
            lengths = frames.read(LENGTHS.size)
            if len(lengths) < LENGTHS.size:
                return "its process ended while it was loaded"
            head, _ = LENGTHS.unpack(lengths)
            return str(orjson.loads(frames.read(head))["error"])
    except TimeoutError:
        return f"it was not loaded within {LOAD_SECONDS:g} s"
    except OSError as error:
        return str(error) or type(error).__name__
    finally:
        line.setblocking(False)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.wait()
