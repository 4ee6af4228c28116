"""What the ledger tells."""

from __future__ import annotations

import datetime
import json
import os
import pwd
from collections.abc import Mapping
from typing import Any, Literal

from mlops_core.contracts import Artifact, field, plain, record
from mlops_core.errors import UsageError

RunState = Literal["running", "done", "failed", "rejected", "interrupted", "died"]


@record
class RunRow:
    """One run as the ledger knows it. `died` is a run that never ended and whose process is gone."""

    id: str
    name: str
    cause: str
    state: RunState
    started: str
    ended: str
    error: str
    pid: int
    host: str


@record
class Outcome:
    """What a stage left: its key, the parts the key was made of, its record as plain data, and its artifacts."""

    stage: str
    key: str
    parts: Mapping[str, Any]
    record: Mapping[str, Any]
    artifacts: tuple[Artifact, ...] = ()
    run: str = ""
    created: str = ""
    seconds: float = 0.0


@record
class AuditEntry:
    """Who did what to which subject, when and why. `hash` covers this entry and, through `previous`, all before."""

    number: int
    at: str
    actor: str
    action: str
    subject: str
    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    previous: str = ""
    hash: str = ""


def now() -> str:
    """This moment in UTC, in the one form the ledger uses; such texts sort as their times do."""
    return _text(datetime.datetime.now(datetime.UTC))


def moment(text: str) -> str:
    """Any ISO 8601 time (UTC where it names no zone) in the ledger's form. Raises UsageError."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no time; expected a form like 2026-11-17 or 2026-11-17T09:30+01:00") from error
    return _text(time if time.tzinfo else time.replace(tzinfo=datetime.UTC))


def _text(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def to_json(value: Any) -> str:
    """One text for one value: sorted keys, no blanks."""
    return storable(json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def storable(text: str) -> str:
    """`text` as a database takes it: what is no Unicode, as in a file's name, is escaped as JSON reads it back."""
    return text.encode(errors="backslashreplace").decode()


def whoami() -> str:
    """Who does this, for the audit log: MLOPS_ACTOR where it is set, else user@host."""
    user = os.environ.get("MLOPS_ACTOR", "")
    if user:
        return user
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need not be listed
        name = str(os.getuid())
    return f"{name}@{os.uname().nodename}"
