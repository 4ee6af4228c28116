"""The one place where the command line tells what went wrong."""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path

import pytest

from mlops_core import api
from mlops_core.cli.arguments import to_json
from mlops_core.cli.main import main
from mlops_core.contracts import Endpoint
from mlops_core.errors import ServingError
from mlops_core.flow.asking import ask


def test_what_nobody_foresaw_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(api, "plan", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["plan"]) == 1
    told = capsys.readouterr().err
    found = re.fullmatch(
        r"mlops: plan: RuntimeError: the moon is full; this was not foreseen: please report it with (\S+)\n", told
    )
    assert found, told
    assert "Traceback" in Path(found[1]).read_text()


def test_json_holds_no_nan() -> None:
    told = to_json({"a": [float("nan"), 1.5], "b": {"c": float("-inf")}, "d": Path("x")})
    assert json.loads(told) == {"a": [None, 1.5], "b": {"c": None}, "d": "x"}


def test_init_lists_recipes_and_asks_for_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--list"]) == 0
    assert "credit" in capsys.readouterr().out.split()
    assert main(["init"]) == 3
    assert "name the new project's folder" in capsys.readouterr().err


def test_init_over_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file")]) == 3
    assert "file is a file; name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["init", "plugins new acme --out"])
def test_a_folder_that_cannot_be_made(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main([*command.split(), str(tmp_path / "file" / "new")]) == 1
    what = "make a project in" if command == "init" else "write the plugin into"
    assert capsys.readouterr().err == f"mlops: cannot {what} {tmp_path}/file/new: Not a directory\n"


@pytest.mark.parametrize("rows", ["[]", '{"rows": []}'])
def test_no_rows_are_not_a_sample(rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", rows]) == 3
    assert capsys.readouterr().err == "mlops: predict: the argument holds no rows\n"


def test_rows_in_a_file_that_is_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(b"\xff\xfe")
    assert main(["predict", str(file)]) == 3
    assert capsys.readouterr().err.startswith(f"mlops: predict: cannot read {file}: 'utf-8' codec can't decode")


@pytest.mark.parametrize("answer", [b"HTTP/1.0 200 OK\r\ncontent-length: 99\r\n\r\n{", b"HTTP/1.0 200 OK\r\n\r\nhello"])
def test_an_answer_that_is_cut_off_or_no_json(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            caller, _ = server.accept()
            with caller:
                caller.recv(65536)
                caller.sendall(answer)

        replying = threading.Thread(target=reply)
        replying.start()
        with pytest.raises(ServingError, match=r"^http://127\.0\.0\.1:\d+ does not answer: "):
            ask(
                Endpoint(name="x", url=f"http://127.0.0.1:{server.getsockname()[1]}", deployer="http", versions=(1,)),
                [{"a": 1}],
            )
        replying.join(10)
