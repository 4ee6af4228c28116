"""The process of a guest, a version that is not trusted yet: `python -m mlops_core.serving.guest --socket FD`.

Its owner (`guests.Guest`) sends frames over a socket pair and gets one back for each: two lengths, a JSON head,
raw bytes. The first frame says which version to load. Whatever the version does, crash, hang, fill the memory,
it does it here: the process dies with its owner, is the first that the kernel kills when memory is short, and may
take half of what was free when it started.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import struct
from pathlib import Path
from typing import Any

import orjson

from mlops_core.contracts import Serving, restore
from mlops_core.errors import MlopsError
from mlops_core.privacy import personal, trace
from mlops_core.serving.answering import answer
from mlops_core.serving.log import NUMPY, logged, pseudonyms
from mlops_core.serving.models import Loaded, load_version
from mlops_core.serving.problems import Refused

LENGTHS = struct.Struct("<II")
MEMORY = 2 << 30  # bytes that a guest may always take
PARENT_DEATH = 1  # PR_SET_PDEATHSIG
log = logging.getLogger("mlops_core.serving")


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    """A frame."""
    text = orjson.dumps(head, option=NUMPY)
    return LENGTHS.pack(len(text), len(body)) + text + body


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--socket", type=int, required=True)
    _behave()
    with socket.socket(fileno=parser.parse_args().socket) as line, line.makefile("rb") as frames:
        head, _ = _read(frames)
        serving = restore(Serving, head["serving"])
        route = next(r for r in serving.routes if r.version == head["version"])
        try:
            model = load_version(route, serving, None)
        except MlopsError as error:
            line.sendall(pack({"error": str(error)}))
            return 0
        line.sendall(pack({"error": ""}))
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                line.sendall(_reply(model, serving, *_read(frames)))
    return 0


def _reply(model: Loaded, serving: Serving, head: dict[str, Any], body: bytes) -> bytes:
    number = head["number"]
    try:
        found = answer(model, serving.name, head["form"], head["id"], body, head["max_rows"])
        said = {"id": found.id, "rows": found.batch.rows, "unseen": found.batch.unseen}
        kept = logged(model.bundle.signature, found.batch.columns, found.answer, pseudonyms(serving))
        return pack({"number": number, "state": "answered", **said, "logged": kept}, found.body)
    except Refused as refused:
        return pack({"number": number, "state": "refused", "status": refused.status}, refused.body())
    except Exception as error:  # the owner's stable version answers instead
        log.warning("version %s failed: %s", model.version, trace(error, personal(model.bundle.signature)))
        return pack({"number": number, "state": "failed", "error": type(error).__name__})


def _read(frames: Any) -> tuple[dict[str, Any], bytes]:
    lengths = frames.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        raise EOFError
    head, body = LENGTHS.unpack(lengths)
    found: dict[str, Any] = orjson.loads(frames.read(head))
    return found, frames.read(body)


def _behave() -> None:
    """A good guest: goes when its owner goes, yields processor time and memory."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PARENT_DEATH, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError):
        os.nice(5)
    with contextlib.suppress(OSError, ValueError):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        most = max(MEMORY, free // 2)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    raise SystemExit(main())
