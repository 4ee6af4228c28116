"""A prediction log as replicas leave it, without an endpoint."""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_core.contracts import Column, Signature, plain

INPUTS = (
    Column(name="age", kind="number", dtype="int64"),
    Column(name="home", kind="category", dtype="string", categories=("rent", "own")),
    Column(name="email", kind="text", dtype="string", roles=("feature", "pii")),
)
BINARY = Signature(inputs=INPUTS, task="binary", target="status", classes=("bad", "good"))
PRICE = Signature(inputs=INPUTS, task="regression", target="price")
HOUR = calendar.timegm((2026, 1, 31, 12, 0, 0))


def sign(log: Path, signature: Signature = BINARY, version: int = 1, pii: str = "drop", dtype: str = "string") -> Path:
    log.mkdir(parents=True, exist_ok=True)
    about = {"signature": plain(signature), "target_dtype": dtype, "pii": pii}
    (log / f"signature-{version}.json").write_text(json.dumps(about))
    return log


def line(id: str, at: float = HOUR, rows: Sequence[Mapping[str, Any]] = ({},), **more: Any) -> dict[str, Any]:
    """One request's line; `more` takes the place of what is in it."""
    features = {"age": [r.get("age", 30) for r in rows], "home": [r.get("home", "rent") for r in rows]}
    answer = {"prediction": ["good"] * len(rows), "probability": [[0.25, 0.75]] * len(rows)}
    found = {"id": id, "time": at, "version": 1, "arm": "", "role": "stable", "rows": len(rows), "seconds": 0.001}
    return found | ({} if "error" in more else {"features": features, "answer": answer}) | more


def segment(log: Path, *lines: Mapping[str, Any], at: float = HOUR, replica: str = "1-aa-0") -> Path:
    path = log / f"{time.strftime('%Y%m%dT%H', time.gmtime(at))}-{replica}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(found) + "\n" for found in lines)
    return path
