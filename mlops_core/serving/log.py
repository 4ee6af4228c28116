"""The prediction log of one replica: every answer, appended off the hot path, never in its way.

A request leaves its columns in a bounded queue; a thread turns them into JSON lines and appends a batch with
one write(2) to this replica's own segment, so that lines of different replicas never mix. What is written is
with the operating system: a killed process loses at most `EVERY` seconds, a power cut what the kernel had not
yet put on the disk (there is no fsync but when a segment is closed). When the disk is full or the folder is
gone, requests go on, lines are dropped and counted, and the log tries again with the next batch. What is older than
`retention` is removed now and then, when nobody else is at the files.

    <log>/<UTC hour>-<replica>.jsonl      one line per version that was asked, see `Entry`
    <log>/signature-<version>.json        what the columns are, for whoever reads the log
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from mlops_core.bundle import Bundle, to_orjson, to_plain
from mlops_core.contracts import Columns, Serving, Signature, plain
from mlops_core.privacy import KEY, Pseudonyms
from mlops_core.segments import Appender, expire

Logged = dict[str, dict[str, Any]]  # features and answer, column by column
NUMPY = orjson.OPT_SERIALIZE_NUMPY

EVERY = 0.2
ROWS_WAITING = 200_000
BYTES_WAITING = 256 * 1024 * 1024  # of the requests that the rows came in
AT_ONCE = 500  # requests turned into lines for one write, in
SLICES = 50
GIVE_WAY = 1e-5  # seconds between two of them
EXPIRED_EVERY = 600.0  # seconds between two looks for what is too old
LATE = 5.0  # seconds that a line may wait until that is told
log = logging.getLogger("mlops_core.serving")


@dataclass(slots=True)
class Entry:
    """What one version was asked: its answer, or why it gave none.

    `seconds` counts from the whole request to the whole answer. `instead` is the candidate in whose place the
    stable version answered. `size` is that of the request in bytes. `columns` and `answer` are arrays, or `logged`
    what a guest made of them already.
    """

    id: str
    version: int
    rows: int
    seconds: float
    role: str = "stable"
    arm: str = ""
    error: str = ""
    instead: int = 0
    size: int = 0
    columns: Columns | None = None
    answer: Columns | None = None
    logged: Logged | None = None


def logged(signature: Signature, columns: Columns, answer: Columns, names: Pseudonyms | None = None) -> Logged:
    """What is kept of a request: its features but those with role `pii`, and the answer, as orjson takes them
    with NUMPY; with `names` keyed hashes of the others beside them, under `hashed`."""
    kept = [c.name for c in signature.inputs if "pii" not in c.roles]
    found = {
        "features": {name: to_orjson(columns[name]) for name in kept},
        "answer": {name: to_orjson(values) for name, values in answer.items()},
    }
    pii = [c.name for c in signature.inputs if "pii" in c.roles] if names else []
    return found | {"hashed": {name: names.all(name, to_plain(columns[name])) for name in pii}} if names else found


def pseudonyms(serving: Serving) -> Pseudonyms | None:
    """What hashes the pii columns of this endpoint; None where they are dropped."""
    return Pseudonyms(serving.state / KEY) if serving.privacy == "hash" else None


class PredictionLog:
    """Appends answers to a segment in `folder`. Thread-safe."""

    def __init__(
        self, folder: Path, every: float = EVERY, waiting: int = ROWS_WAITING, names: Pseudonyms | None = None
    ) -> None:
        self.folder = Path(folder)
        self.names = names
        self.retention = 0.0  # seconds; 0: nothing is removed
        self.every = every
        self.limit = waiting
        self.written = 0
        self.written_at = 0.0
        self.dropped = 0
        self.error = ""
        self._queue: deque[tuple[float, Entry]] = deque()
        self._waiting = 0
        self._bytes = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._segment = Appender(self.folder)
        self._signatures: dict[int, Signature] = {}
        self._thread = self._writer()

    def keep(self, version: int, bundle: Bundle) -> None:
        """Writes down what this version's columns are."""
        self._signatures[version] = bundle.signature
        described = {
            "signature": plain(bundle.signature),
            "target_dtype": bundle.model.target_dtype,
            "pii": "hash" if self.names else "drop",
            "bundle": bundle.sha256,
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            work = self.folder / f".signature-{version}.{os.getpid()}"
            work.write_bytes(orjson.dumps(described, option=orjson.OPT_INDENT_2))
            work.replace(self.folder / f"signature-{version}.json")
        except OSError as error:
            self._failed(error, 0)

    def add(self, entry: Entry) -> None:
        """Queues one request's rows; drops them where `waiting` rows are queued already."""
        with self._lock:
            if self._waiting + entry.rows <= self.limit and self._bytes + entry.size <= BYTES_WAITING:
                self._waiting += entry.rows
                self._bytes += entry.size
                self._queue.append((time.time(), entry))
                return
            self.dropped += entry.rows
            if not self._thread.is_alive() and not self._stop.is_set():
                self._thread = self._writer()

    def flush(self) -> None:
        """Writes what is queued now."""
        with self._writing:
            until = time.monotonic() + self.every / 2
            for _ in range(len(self._queue) // AT_ONCE + 1):
                with self._lock:
                    taken = [self._queue.popleft() for _ in range(min(AT_ONCE, len(self._queue)))]
                if taken:
                    self._write(taken, until)

    def _write(self, taken: list[tuple[float, Entry]], until: float) -> None:
        rows, size = sum(entry.rows for _, entry in taken), sum(entry.size for _, entry in taken)
        try:
            self._segment.append(b"".join(self._lines(taken, until)))
            self.written += rows
            self.written_at = time.time()
            self.error = ""
        except Exception as error:  # the log must not stop the answers
            self._failed(error, rows)
        except BaseException:
            self.dropped += rows
            raise
        finally:
            with self._lock:
                self._waiting -= rows
                self._bytes -= size

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.flush()
        try:
            self._segment.close()
        except OSError as error:
            self._failed(error, 0)

    def status(self) -> dict[str, Any]:
        at = datetime.fromtimestamp(self.written_at, UTC).isoformat(timespec="milliseconds") if self.written_at else ""
        counts = {"written": self.written, "waiting": self._waiting, "dropped": self.dropped}
        return {**counts, "error": self.error or self._late(), "written_at": at}

    def _late(self) -> str:
        with self._lock:
            first = self._queue[0][0] if self._queue else time.time()
        seconds = time.time() - first
        if seconds < LATE:
            return ""
        return f"lines wait for {seconds:.0f} s; the writer {'is slow' if self._thread.is_alive() else 'is dead'}"

    def _writer(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._stop.wait(self.every):
            self.flush()
            if self.retention and time.monotonic() > looked + EXPIRED_EVERY:
                looked = time.monotonic()
                self._expire()

    def _expire(self) -> None:
        try:
            expire(self.folder, time.time() - self.retention, noted=True)
        except BlockingIOError:
            return  # a window is read now, or somebody forgotten: there will be another look
        except OSError as error:
            log.error("prediction log %s: what is too old cannot be removed: %s", self.folder, error)

    def _lines(self, taken: list[tuple[float, Entry]], until: float) -> Iterator[bytes]:
        """Lines, in slices: a request that comes meanwhile waits for one of them, not for the interpreter's 5 ms. Where
        requests leave no gaps each slice waits as long, so `until` ends that: the log must keep up."""
        size = -(-len(taken) // SLICES)
        for begin in range(0, len(taken), size):
            yield from (self._line(*t) for t in taken[begin : begin + size])
            if time.monotonic() < until:
                time.sleep(GIVE_WAY)

    def _line(self, at: float, entry: Entry) -> bytes:
        line: dict[str, Any] = {"id": entry.id, "time": round(at, 6), "version": entry.version, "role": entry.role}
        line |= {"arm": entry.arm, "rows": entry.rows, "seconds": round(entry.seconds, 6)}
        if entry.error:
            line["error"] = entry.error
        elif entry.logged is not None:
            line |= entry.logged
        elif entry.columns is not None and entry.answer is not None:
            line |= logged(self._signatures[entry.version], entry.columns, entry.answer, self.names)
        if entry.instead:
            line["instead"] = entry.instead
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | NUMPY)

    def _failed(self, error: Exception, rows: int) -> None:
        self.dropped += rows
        if not self.error:
            log.error("prediction log %s: %s; answers go on, unlogged", self.folder, error)
        self.error = f"{type(error).__name__}: {error}"
