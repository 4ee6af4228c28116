"""A run of the line, here or sent to another machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mlops_core.records import field, record


@record
class Run:
    """One `mlops run`: its id, the project's name, when and why it began, and the project's folder."""

    id: str
    name: str
    started: str
    cause: str = "manual"
    project: str = ""


@record
class Parcel:
    """A project packed for another machine, and the `mlops` command (`words`) that is to run there.

    `project` is a zip of its files, `beside` one of what must be importable there beside what is installed (None
    where that is nothing). `expects` names the distributions that must be there, with their versions, 'python'
    among them; `requirements` are pinned lines for pip. `secrets` are names of environment variables: their values
    are read when the parcel is sent, and are in no record and no file. `settings` are variables for the command that
    anybody may read: who sent it, and from which revision.
    """

    name: str
    words: tuple[str, ...]
    project: Path
    beside: Path | None = None
    expects: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@record
class Submission:
    """A command that was sent to another machine, and how it stands there.

    `exit_code` is that of the command; None until it has ended. Times are ISO 8601, '' while unknown.
    """

    id: str
    project: str
    words: tuple[str, ...]
    state: Literal["waiting", "running", "succeeded", "failed", "stopped"]
    message: str = ""
    exit_code: int | None = None
    began: str = ""
    ended: str = ""

    @property
    def over(self) -> bool:
        return self.state in ("succeeded", "failed", "stopped")
