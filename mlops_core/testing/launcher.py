"""What a launcher promises."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mlops_core.contracts import Parcel, Submission
from mlops_core.errors import LaunchError, UsageError
from mlops_core.testing.promises import BrokenPromise, broken, check_options, inside, nothing_written, promise

NAME = "kit"
SECRET = "MLOPS_KIT_SECRET"
FILES = {
    "conf/config.yaml": (
        f"name: {NAME}\nmetric: accuracy\ntrainer: {{plugin: sklearn}}\n"
        f"data: {{plugin: csv, path: data.csv, target: y, null_values: ['${{oc.env:{SECRET}}}']}}\n"
    ),
    "data.csv": "x,y\n1,0\n2,1\n",
}
RIGHT, WRONG = ("check",), ("check", "nosuch.key=1")  # what they exit with: 0, and only with the secret; 3
UNKNOWN = "of an unknown id must raise UsageError or LaunchError"
STATES = get_args(get_type_hints(Submission)["state"])


def check_launcher(launcher: Any, folder: Path) -> None:
    """Checks the launcher `launcher`, with `folder` (tmp_path) to work in.

    It sends a small project three times to the machine that the launcher knows, where mlops_core and its plugins `csv`
    and `sklearn` are installed: a command that does well if a secret came along, one that fails, and one to stop.
    """
    check_options(launcher)
    with inside(folder / "elsewhere") as here, _secret() as value, nothing_written(here, doing="a launcher"):
        first = _check_done(launcher, _parcel(folder, RIGHT, (SECRET,)), value, "the declaration is right", 0)
        second = _check_done(launcher, _parcel(folder, WRONG, (SECRET,)), value, "nosuch", 3)
        _check_stopped(launcher, _parcel(folder, RIGHT, (SECRET,)))
        _check_listed(launcher, [second, first])
        _check_unknown(launcher)


def _parcel(folder: Path, words: tuple[str, ...], secrets: tuple[str, ...]) -> Parcel:
    project = folder / "project.zip"
    with zipfile.ZipFile(project, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
    python = ".".join(platform.python_version_tuple()[:2])
    return Parcel(name=NAME, words=words, project=project, expects={"python": python}, secrets=secrets)


@contextlib.contextmanager
def _secret() -> Iterator[str]:
    before, value = os.environ.get(SECRET), secrets.token_hex(16)
    os.environ[SECRET] = value
    try:
        yield value
    finally:
        del os.environ[SECRET]
        if before is not None:
            os.environ[SECRET] = before


def _check_done(launcher: Any, parcel: Parcel, value: str, words: str, code: int) -> str:
    """Sends, follows to the end and once more; the id."""
    sent = _seen(launcher.submit(parcel), "submit()", parcel)
    pieces: list[str] = []
    ended = _seen(launcher.follow(sent.id, pieces.append, _ignored), "follow()", parcel, sent.id)
    text = "".join(pieces)
    promise(ended.over, f"follow() must return when it is over, not while it is {ended.state!r}")
    promise(
        ended.exit_code == code,
        f"{' '.join(parcel.words)!r} must end with its own exit code {code}, not {ended.exit_code}: {ended.message}; "
        f"it told {text[-400:]!r}",
    )
    wanted = "failed" if code else "succeeded"
    promise(ended.state == wanted, f"what ends with exit code {code} has {wanted!r}, not {ended.state!r}")
    promise(words in text, f"follow() must give what the command tells, {words!r} among it, got {text[-400:]!r}")
    again: list[str] = []
    launcher.follow(sent.id, again.append, _ignored)
    promise("".join(again) == text, f"follow() must tell everything from the first piece again, got {again!r}")
    now = _seen(launcher.status(sent.id), "status()", parcel, sent.id)
    promise((now.state, now.exit_code) == (wanted, code), f"status() must tell how it ended, got {now}")
    told = f"{sent}{ended}{now}{launcher.all()}{text}"
    promise(value not in told, "the value of a secret must be in no record and no output")
    promise(launcher.stop(sent.id) is False, "stop() must return False for what is over")
    return sent.id


def _check_stopped(launcher: Any, parcel: Parcel) -> None:
    """It may be over before it is stopped, and then nothing was."""
    id = launcher.submit(parcel).id
    stopped = launcher.stop(id)
    promise(isinstance(stopped, bool), f"stop() must return True or False, got {stopped!r}")
    now = _seen(launcher.status(id), "status()", parcel, id)
    promise(now.over, f"stop() must end it before it returns; it is {now.state!r}")
    promise(not stopped or now.state == "stopped", f"what was stopped has state 'stopped', not {now.state!r}")
    promise(launcher.stop(id) is False, "stop() must return False for what is over")


def _check_listed(launcher: Any, latest: list[str]) -> None:
    ids = [s.id for s in launcher.all()]
    promise(set(latest) <= set(ids), f"all() must tell of every submission, {', '.join(latest)} among them, got {ids}")
    promise([i for i in ids if i in latest] == latest, f"all() must tell the latest first, got {ids}")


def _check_unknown(launcher: Any) -> None:
    nothing = f"{NAME}-never-sent"
    verbs: dict[str, Callable[[], Any]] = {
        "status": lambda: launcher.status(nothing),
        "stop": lambda: launcher.stop(nothing),
        "follow": lambda: launcher.follow(nothing, _ignored, _ignored),
    }
    for name, verb in verbs.items():
        try:
            verb()
        except (UsageError, LaunchError):
            continue
        except Exception as error:
            raise BrokenPromise(f"{name}() {UNKNOWN}, not {type(error).__name__}") from error
        broken(f"{name}() {UNKNOWN}; it returned")


def _seen(found: Any, verb: str, parcel: Parcel, id: str = "") -> Submission:
    promise(isinstance(found, Submission), f"{verb} must return a Submission, not {type(found).__name__}")
    told: Submission = found
    known = told.id and (not id or told.id == id)
    promise(known, f"{verb} must tell the id of the submission, {id!r}, not {told.id!r}")
    promise(told.state in STATES, f"{verb} tells state {told.state!r}; there are {', '.join(STATES)}")
    promise(
        (told.project, told.words) == (parcel.name, parcel.words),
        f"{verb} must tell whose project and which words it is, got {told.project!r} {told.words!r}",
    )
    promise(
        told.over == (told.exit_code is not None),
        f"{verb} must tell an exit code once it is over, and none before, got {told.state!r} {told.exit_code!r}",
    )
    return told


def _ignored(text: str) -> None: ...
