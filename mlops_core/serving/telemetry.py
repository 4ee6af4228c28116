"""What an endpoint counts, in this process and over all of its processes.

A request costs one dictionary look-up, one bisection and a few additions under a lock. Counts are kept by version,
arm and role, all of which the declaration bounds, and by an outcome of a fixed list: nothing that a caller sends or
a model says becomes a label.

Where several processes answer, each writes what it has counted to a folder once a second, and whoever is asked adds
up what lies there. Only what has been written is ever told, so that the sums do not shrink whichever process answers
and whichever dies: the last counts of the dead are folded into one file. A killed process takes its last second along.

    <folder>/<replica>.json    {counts, now} of a process      <folder>/<replica>.lock   held while it lives
    <folder>/folded.json       {counts, of: [replica]}         <folder>/lock             held by who adds up
"""

from __future__ import annotations

import contextlib
import os
import threading
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops_core.contracts import Route
from mlops_core.serving.state import hold, is_held, read_state, write_state

EVERY = 1.0
# Seconds, from 0.5 ms to 10 s: three a decade.
BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
OUTCOMES = frozenset(("answered", "timeout", "died", "resting", "busy", "refused", "error"))
Counts = dict[str, Any]  # numbers, and dictionaries and lists of them


class Series:
    """What one version did in one arm and role. `buckets` counts answers up to each bound, and those beyond."""

    __slots__ = ("buckets", "outcomes", "rows", "seconds")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {"answered": 0}
        self.rows = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)


class Telemetry:
    """The counts of this process. Thread-safe. `beside` gives what others count, and what is so at the moment."""

    def __init__(self, beside: Callable[[], tuple[Counts, Counts]]) -> None:
        self.in_flight = 0
        self._beside = beside
        self._lock = threading.Lock()
        self._series: dict[tuple[int, str, str], Series] = {}
        self._refused: dict[str, int] = {}
        self._failed = 0
        self._unseen = 0
        self._shared: _Shared | None = None

    def answered(self, route: Route, rows: int, unseen: int, seconds: float) -> None:
        key = (route.version, route.arm, route.role)
        with self._lock:
            found = self._series.get(key) or self._series.setdefault(key, Series())
            found.outcomes["answered"] += 1
            found.rows += rows
            found.seconds += seconds
            found.buckets[bisect_left(BOUNDS, seconds)] += 1
            if route.role != "shadow":
                self._unseen += unseen

    def unanswered(self, route: Route, error: str) -> None:
        """A version gave no answer; `error` as in the prediction log."""
        outcome = error if error in OUTCOMES else "error"
        with self._lock:
            found = self._series.setdefault((route.version, route.arm, route.role), Series())
            found.outcomes[outcome] = found.outcomes.get(outcome, 0) + 1

    def refused(self, status: int) -> None:
        with self._lock:
            self._refused[str(status)] = self._refused.get(str(status), 0) + 1

    def failed(self) -> None:
        with self._lock:
            self._failed += 1

    def share(self, folder: Path) -> None:
        """From now on `whole` is of all processes that share this folder."""
        self._shared = _Shared(folder, self.own)

    def own(self) -> Counts:
        """`counts` since the start of this process, and what is so `now`."""
        beside, now = self._beside()
        with self._lock:
            series = {
                f"{version}|{role}|{arm}": {
                    "outcomes": dict(s.outcomes),
                    "rows": s.rows,
                    "seconds": s.seconds,
                    "buckets": list(s.buckets),
                }
                for (version, arm, role), s in self._series.items()
            }
            refused = dict(self._refused)
        counts = {"series": series, "refused": refused, "failed": self._failed, "unseen": self._unseen}
        return {"counts": counts | beside, "now": now | {"in_flight": self.in_flight, "replicas": 1}}

    def whole(self) -> Counts:
        """The same of the whole endpoint; of this process where the folder cannot be used. Reads files."""
        if self._shared is not None:
            with contextlib.suppress(OSError, ValueError):
                return self._shared.whole()
        return self.own()

    def close(self) -> None:
        """Writes the last counts; others fold them when they are asked."""
        if self._shared is not None:
            self._shared.close()


class _Shared:
    """This process's place in the folder, written every second by a thread."""

    def __init__(self, folder: Path, own: Callable[[], Counts]) -> None:
        self.folder = folder
        self.name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._own = own
        self._written: Counts = {}
        self._writing = threading.Lock()
        self._stop = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._alive = contextlib.ExitStack()
        with hold(folder / "lock"):  # nobody may see our lock before we hold it
            self._alive.enter_context(hold(folder / f"{self.name}.lock"))
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def whole(self) -> Counts:
        self._write()
        with hold(self.folder / "lock"):
            folded = _read(self.folder / "folded.json") or {"counts": {}, "of": []}
            counts, now = folded["counts"], Counts()
            dead: list[str] = []
            for lock in sorted(self.folder.glob("*-*.lock")):
                name = lock.stem
                if name in folded["of"]:
                    dead.append(name)
                    continue
                found = _read(self.folder / f"{name}.json") or {"counts": {}, "now": {}}
                counts = add(counts, found["counts"])
                if is_held(lock):
                    now = add(now, found["now"])
                else:
                    dead.append(name)
                    folded["counts"] = add(folded["counts"], found["counts"])
            if dead:
                write_state(self.folder / "folded.json", {"counts": folded["counts"], "of": dead})
                for name in dead:
                    (self.folder / f"{name}.json").unlink(missing_ok=True)
                    (self.folder / f"{name}.lock").unlink(missing_ok=True)
        return {"counts": counts, "now": now}

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._write()
        self._alive.close()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            with contextlib.suppress(OSError):  # a full disk stops no answers; the next second may do
                self._write()

    def _write(self) -> None:
        with self._writing:
            own = self._own()
            if own != self._written:
                write_state(self.folder / f"{self.name}.json", own)
                self._written = own


def told(whole: Counts) -> dict[str, Any]:
    """The counts for a person: `requests` and `rows` that callers got, `by_version` the rows, without shadows."""
    counts, now = whole["counts"], whole["now"]
    seen: dict[str, int] = {}
    requests = 0
    for key, series in counts["series"].items():
        version, role, _ = key.split("|", 2)
        if role != "shadow" and series["rows"]:
            requests += series["outcomes"]["answered"]
            seen[version] = seen.get(version, 0) + series["rows"]
    guests = {
        v: {"state": "up" if at["up"] == now["replicas"] else "resting", "error": at["error"], **counts["guests"][v]}
        for v, at in now["guests"].items()
    }
    return {
        "requests": requests,
        "rows": sum(seen.values()),
        "refused": sum(counts["refused"].values()),
        "failed": counts["failed"],
        "unseen": counts["unseen"],
        "replicas": now["replicas"],
        "by_version": {v: seen[v] for v in sorted(seen, key=int)},
        "guests": guests,
        "log": counts["log"] | now["log"],
    }


def add(one: Any, other: Any) -> Any:
    """Numbers added, lists item by item, dictionaries key by key; of two texts the later in the alphabet."""
    if isinstance(one, dict):
        return {k: add(one[k], other[k]) if k in one and k in other else (one | other)[k] for k in one | other}
    if isinstance(one, list):
        return [add(a, b) for a, b in zip(one, other, strict=True)]
    return max(one, other) if isinstance(one, str) else one + other


def _read(path: Path) -> Counts | None:
    try:
        return read_state(path)
    except FileNotFoundError:
        return None
