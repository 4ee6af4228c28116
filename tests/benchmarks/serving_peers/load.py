"""Callers without pause over kept connections, in a process of their own: a closed loop on raw sockets and epoll.

`offer(...)` runs it and gives what came of it; `begin(...)` leaves it running until `end`. A request fails where its
connection breaks or is refused, where it takes longer than `patience`, or where the answer is not 200; its
connection is then made again, `pause` seconds later. With `ids` the id of each answer is written to that file.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

DEFAULTS: dict[str, Any] = {"headers": {}, "patience": 10.0, "pause": 0.005, "events": False, "ids": ""}


@dataclass
class Offered:
    """What came of a load: `events` are (when by time.monotonic, seconds, version or error), where asked for."""

    answered: int
    failed: int
    seconds: float
    cpu: float
    quantiles: dict[str, float]
    errors: dict[str, int]
    events: list[tuple[float, float, str]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


def begin(port: int, path: str, body: bytes, connections: int, seconds: float = 1e9, **more: Any) -> Any:
    """A running load. It ends after `seconds`, or with `end`."""
    given = (
        DEFAULTS
        | more
        | {"port": port, "path": path, "body": body.decode(), "connections": connections, "seconds": seconds}
    )
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    process.stdin.write(json.dumps(given) + "\n")
    process.stdin.flush()
    return process


def end(process: Any) -> Offered:
    said, _ = process.communicate()  # closes its standard input, at which it ends
    found = Offered(**json.loads(said))
    found.events = [tuple(e) for e in found.events]  # type: ignore[misc]
    return found


def offer(*given: Any, **more: Any) -> Offered:
    process = begin(*given, **more)
    said = process.stdout.readline()
    process.communicate()
    return Offered(**json.loads(said))


class Callers:
    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.address = ("127.0.0.1", given["port"])
        body = given["body"].encode()
        lines = [f"POST {given['path']} HTTP/1.1", f"host: 127.0.0.1:{given['port']}"]
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in given["headers"].items()]
        self.request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        self.epoll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.began: dict[int, float] = {}
        self.parts: dict[int, bytes] = {}
        self.idle: list[float] = []  # when a connection is to be made
        self.taken: list[float] = []
        self.errors: Counter[str] = Counter()
        self.events: list[tuple[float, float, str]] = []
        self.ids = open(given["ids"], "ab") if given["ids"] else None  # noqa: SIM115

    def run(self) -> dict[str, Any]:
        self.idle = [0.0] * self.given["connections"]
        start = now = time.monotonic()
        cpu, stop, looked = _cpu(), start + self.given["seconds"], start
        told = select.poll()
        told.register(sys.stdin, select.POLLHUP | select.POLLIN)
        poll, monotonic = self.epoll.poll, time.monotonic
        while now < stop:
            if self.idle:
                self.connect(now)
            for number, _ in poll(0.005 if self.idle else 0.05, 256):
                self.hear(number)
            now = monotonic()
            if now - looked > 0.1:
                looked = now
                self.hurry(now)
                if told.poll(0):
                    break
        seconds = time.monotonic() - start
        if self.ids:
            self.ids.close()
        taken = sorted(self.taken)
        at = {f"p{q * 100:g}": taken[min(len(taken) - 1, int(q * len(taken)))] for q in (0.5, 0.9, 0.99) if taken}
        found = {"answered": len(taken), "failed": self.errors.total(), "seconds": seconds, "cpu": _cpu() - cpu}
        return found | {"quantiles": at, "errors": dict(self.errors), "events": self.events}

    def connect(self, now: float) -> None:
        due = [at for at in self.idle if at <= now]
        self.idle = [at for at in self.idle if at > now]
        for _ in due:
            try:
                made = socket.create_connection(self.address, timeout=1)
            except OSError as error:
                self.failed(type(error).__name__, now)
                continue
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = made.fileno()
            self.sockets[number], self.parts[number] = made, b""
            self.epoll.register(number, select.EPOLLIN)
            self.ask(number)

    def ask(self, number: int) -> None:
        self.began[number] = time.monotonic()
        try:
            self.sockets[number].sendall(self.request)
        except OSError as error:
            self.drop(number, type(error).__name__)

    def hear(self, number: int) -> None:
        try:
            data = self.sockets[number].recv(262144)
        except OSError as error:
            self.drop(number, type(error).__name__)
            return
        if not data:
            self.drop(number, "closed")
            return
        if self.parts[number]:
            data = self.parts[number] + data
        ends = _whole(data)
        if not ends:
            self.parts[number] = data
            return
        self.parts[number] = b""
        now = time.monotonic()
        if data.startswith(b"HTTP/1.1 200"):
            taken = now - self.began[number]
            self.taken.append(taken)
            if self.ids:
                at = data.find(b'"id":"') + 6
                self.ids.write(data[at : data.find(b'"', at)] + b"\n")
            if self.given["events"]:
                at = data.find(b'"version":') + 10
                self.events.append((now, taken, data[at : at + 8].strip(b'" ').split(b",")[0].decode()))
        else:
            self.drop(number, data[9:12].decode())
            return
        if ends == "close":
            self.drop(number, "")
        else:
            self.ask(number)

    def hurry(self, now: float) -> None:
        """Connections that were asked too long ago are given up."""
        for number in [n for n, at in self.began.items() if now - at > self.given["patience"]]:
            self.drop(number, "timeout")

    def drop(self, number: int, why: str) -> None:
        self.epoll.unregister(number)
        self.sockets.pop(number).close()
        began = self.began.pop(number)
        if why:
            self.failed(why, began)
        else:
            self.idle.append(0.0)

    def failed(self, why: str, began: float) -> None:
        now = time.monotonic()
        self.errors[why] += 1
        self.idle.append(now + self.given["pause"])
        if self.given["events"]:
            self.events.append((now, now - began, f"error {why}"))


def _whole(data: bytes) -> str:
    """'kept' or 'close' where an answer is whole, '' where more is to come."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return ""
    lines = data[:head].lower()
    kept = "close" if b"connection: close" in lines else "kept"
    at = lines.find(b"content-length:")
    if at >= 0:
        end = lines.find(b"\r\n", at)
        return kept if len(data) >= head + 4 + int(lines[at + 15 : end if end > 0 else None]) else ""
    return kept if data.endswith(b"0\r\n\r\n") else ""


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(json.dumps(Callers(json.loads(sys.stdin.readline())).run()), flush=True)
