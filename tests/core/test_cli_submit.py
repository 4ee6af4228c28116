"""`mlops submit`: its words, before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from mlops_core import api
from mlops_core.cli.main import main
from mlops_core.contracts import Submission

DONE = Submission(
    id="tiny-1",
    project="tiny",
    words=("run", "a=b c"),
    state="failed",
    exit_code=4,
    message="it was late",
    began="2026-01-01T00:00:00+00:00",
)


@dataclass(frozen=True)
class Far:
    """A launcher that has one submission, over."""

    def follow(self, id: str, out: Callable[[str], None], notice: Callable[[str], None]) -> Submission:
        out("first\nsec")
        notice("cut; trying again")
        out("ond\n")
        return DONE

    def status(self, id: str) -> Submission:
        return DONE

    def all(self) -> Sequence[Submission]:
        return [DONE]

    def stop(self, id: str) -> bool:
        return False


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the API; no machine is asked."""
    asked: list[Any] = []

    def launcher(project: Any, given: Any) -> Far:
        asked.append(given)
        return Far()

    def submit(project: Any, words: Any, *, given: Any, notice: Any) -> Submission:
        asked.append((list(words), given))
        return DONE

    monkeypatch.setattr(api, "launcher", launcher)
    monkeypatch.setattr(api, "submit", submit)
    return asked


def test_a_command_is_sent_and_followed(far: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["submit", "--address", "head", "--env", "A", "--env", "B", "--max-mb", "9", "--", "run", "a=b c", "--json"]
    assert main(words) == 4
    given = {"address": "head", "env": ["A", "B"], "max_mb": 9}
    assert far == [(["run", "a=b c", "--json"], given), given]
    told = capsys.readouterr()
    assert told.out == "first\nsecond\n"
    assert told.err.splitlines() == [
        "mlops: sent as tiny-1", "mlops: cut; trying again", "mlops: tiny-1 failed: it was late"
    ]  # fmt: skip


def test_machines_get_json_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "logs", "tiny-1", "--json"]) == 4
    told = capsys.readouterr()
    assert json.loads(told.out)["exit_code"] == 4 and "first\nsec" in told.err
    assert main(["submit", "--detach", "--json", "--", "run"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "tiny-1"


def test_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    line = "tiny-1  failed (exit 4)  2026-01-01T00:00:00+00:00  mlops run 'a=b c'  it was late\n"
    assert main(["submit", "list"]) == 0 and capsys.readouterr().out == line
    assert main(["submit", "status", "tiny-1"]) == 0 and capsys.readouterr().out == line
    assert main(["submit", "stop", "tiny-1"]) == 0 and capsys.readouterr().out == "tiny-1 was over\n"
    assert main(["submit", "--detach", "--", "run"]) == 0 and capsys.readouterr().out == "tiny-1\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run"], "unknown verb 'run'; expected one of: list, logs, status, stop; a command to send comes after '--'"),
        (["log", "x"], "submit: unknown verb 'log'; did you mean 'logs'?"),
        (["logs"], "submit logs: which one? give its id; 'mlops submit list' tells it"),
        (["list", "x"], "submit list takes no id"),
        (["stop", "x", "--", "run"], "submit stop sends nothing; leave out '--' and what follows"),
        (["--", "run", "--untill", "gate"], "run: unrecognized arguments: --untill"),
        (["--adress", "x", "--", "run"], "submit: unrecognized arguments: --adress; did you mean '--address'?"),
    ],
)  # fmt: skip
def test_wrong_words_are_told_here(
    words: list[str], told: str, far: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["submit", *words])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 3 and told in capsys.readouterr().err and far == []
