"""What a version must pass before its first request, in a process of its own that cannot hurt us.

Its bundle is whole and the one registered, it loads, answers its smoke set as it did at training, and answers
the rows that callers sent last without failing. The process has a limit on time and on memory; whatever the model's
own code does there (exit, hang, eat memory), the answer is a sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_core.contracts import Column, Signature

SECONDS = 90.0
BYTES = 6 * 1024**3
ROWS = 200
MODULE = "mlops_core.rollout.proof"


def proof(
    bundle: Path,
    sha256: str,
    log: Path,
    *,
    trust: tuple[str, ...] = (),
    rows: int = ROWS,
    seconds: float = SECONDS,
    memory: int = BYTES,
) -> tuple[str, int]:
    """Why the version at `bundle` may not answer anybody, '' where it may; and how many logged rows it answered."""
    asked = {"bundle": str(bundle), "sha256": sha256, "log": str(log), "trust": list(trust), "rows": rows}
    mine, theirs = os.pipe()
    with os.fdopen(mine, "rb") as answer:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, str(theirs), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)
        try:
            process.communicate(json.dumps(asked).encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"it did not load and answer within {seconds:g} s", 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it may have started
            process.wait()
        os.set_blocking(answer.fileno(), False)  # something it started may hold the other end
        said = answer.read() or b""
    try:
        found: dict[str, Any] = json.loads(said)
    except ValueError:
        return f"the process that tried it ended: {_ended(process.returncode)}", 0
    return str(found["wrong"]), int(found["rows"])


def _ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name}"


def recent(log: Path, rows: int) -> Iterator[dict[str, Any]]:
    """Logged answers with their features, newest first, until `rows` rows were given."""
    import orjson

    for path in sorted(log.glob("*.jsonl"), key=lambda p: p.stat().st_mtime, reverse=True):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8 * 1024 * 1024))
            lines = file.read().splitlines()
        for raw in reversed(lines):
            with contextlib.suppress(ValueError):
                line = orjson.loads(raw)
                if isinstance(line, dict) and isinstance(line.get("features"), dict):
                    yield line
                    rows -= int(line.get("rows", 1))
            if rows <= 0:
                return


def columns_of(lines: list[dict[str, Any]], signature: Signature, rows: int) -> dict[str, Any] | None:
    """The logged rows as this version takes them; None where they lack what it needs (a new or a private column)."""
    from mlops_core.bundle import from_plain

    found: dict[str, list[Any]] = {c.name: [] for c in signature.inputs}
    for line in lines:
        for column in signature.inputs:
            values = line["features"].get(column.name)
            if values is None and not _optional(column):
                return None
            found[column.name] += [None] * line["rows"] if values is None else values
    columns = {c.name: from_plain(found[c.name][:rows], c) for c in signature.inputs}
    return columns if lines else None


def _optional(column: Column) -> bool:
    return column.nullable and column.kind != "array"


def _try(asked: Mapping[str, Any]) -> dict[str, Any]:
    from mlops_core.bundle import open_bundle
    from mlops_core.plugins import Plugins
    from mlops_core.serving.models import Loaded

    bundle = open_bundle(Path(asked["bundle"]), plugins=Plugins(), sha256=asked["sha256"], trust=tuple(asked["trust"]))
    wrong = bundle.smoke()
    if wrong:
        return {"wrong": wrong, "rows": 0}
    lines = list(recent(Path(asked["log"]), asked["rows"]))
    try:
        columns = columns_of(lines, bundle.signature, asked["rows"])
    except (TypeError, ValueError, KeyError):  # logged by a version whose columns were of another kind
        columns = None
    if columns is None:
        return {"wrong": "", "rows": 0}
    rows = min(asked["rows"], sum(line["rows"] for line in lines))
    try:
        Loaded(0, bundle).predict(columns)
    except Exception as error:
        return {"wrong": f"it fails on {rows} rows that callers sent: {_words(error)}", "rows": rows}
    return {"wrong": "", "rows": rows}


def _words(error: BaseException) -> str:
    from mlops_core.errors import MlopsError

    return str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"


def main(pipe: int, memory: int) -> int:
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = json.loads(sys.stdin.buffer.read())
    try:
        found = _try(asked)
    except MemoryError:
        found = {"wrong": f"it needs more than {memory / 1024**3:g} GiB of memory", "rows": 0}
    except Exception as error:
        found = {"wrong": _words(error), "rows": 0}
    with os.fdopen(pipe, "wb") as out:
        out.write(json.dumps(found).encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), int(sys.argv[2])))
