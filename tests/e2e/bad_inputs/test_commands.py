"""Wrong data, wrong commands and a damaged ledger: the exact words, the exit code, and nothing changed or lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = [f"{i % 7}.5,{i % 3}.25,{'yes' if i % 2 else 'no'}" for i in range(60)]


def table(rows: list[str], head: str = "a,b,label") -> str:
    return "\n".join([head, *rows]) + "\n"


# What is written into data.csv after a first good run, the exit code, and what is said ({root} is the project).
DATA: dict[str, tuple[str, int, str]] = {
    "no rows": (table([]), 1, "the data has columns and no rows"),
    "ragged": (
        table([*GOOD[:9], "1,2"]),
        1,
        "{root}/data.csv, row 11: 2 values where the header has 3: '1,2'",
    ),
    "other separator": (
        table(GOOD).replace(",", ";"),
        1,
        "{root}/data.csv has one column, 'a;b;label'; its separator seems to be ';': set data.separator",
    ),
    "target constant": (
        table([r.replace("yes", "no") for r in GOOD]),
        1,
        "the target 'label' has the same value in every row ('no'); there is nothing to learn from it",
    ),
    "target renamed": (
        table(GOOD, "a,b,lable"),
        1,
        "the target 'label' is no column of the data; did you mean 'lable'?",
    ),
    "too few rows": (
        table(GOOD[:3]),
        1,
        "the split leaves no row for validation and test (train 3, validation 0, test 0 of 3 rows): there are too few "
        "rows, or a share is too small; change data.split",
    ),
    "column twice": (table(GOOD, "a,a,label"), 1, "{root}/data.csv: the header names 'a' twice"),
}


@pytest.fixture
def before(toy) -> Callable[[], tuple[str, list[int]]]:
    """A project with one version; gives what must stay as it is."""
    toy.run()

    def facts() -> tuple[str, list[int]]:
        told = json.loads(toy.mlops("versions", "--json").stdout)
        objects = sorted(str(p.relative_to(toy.root)) for p in (toy.root / ".mlops" / "objects").rglob("*"))
        return json.dumps(told, sort_keys=True) + "".join(objects), [v["number"] for v in told["versions"]]

    return facts


@pytest.mark.parametrize("case", DATA)
def test_data(toy, before, case: str) -> None:
    content, code, message = DATA[case]
    kept = before()
    (toy.root / "data.csv").write_text(content)
    told = toy.mlops("run", code=code)
    assert told.stderr == f"mlops: {message.format(root=toy.root)}\n"
    assert before() == kept


def test_data_that_is_gone(toy, before) -> None:
    kept = before()
    (toy.root / "data.csv").rename(toy.root / "date.csv")
    told = toy.mlops("run", code=1)
    assert told.stderr == f"mlops: {toy.root}/data.csv does not exist; did you mean '{toy.root}/date.csv'?\n"
    assert before() == kept


COMMANDS: dict[str, tuple[list[str], int, str]] = {
    "unknown command": (["pln"], 3, "unknown command 'pln'; did you mean 'plan'?"),
    "nothing like a command": (["xyzzy"], 3, "unknown command 'xyzzy'; see 'mlops --help'"),
    "unknown flag": (
        ["run", "--jsn"],
        3,
        "run: unrecognized arguments: --jsn; did you mean '--json'?; see 'mlops run --help'",
    ),
    "unknown stage": (
        ["run", "--until", "trian"],
        3,
        "unknown stage 'trian'; did you mean 'train'?",
    ),
    "unknown verb": (["versions", "shw"], 3, "versions: unknown verb 'shw'; did you mean 'show'?"),
    "no such version": (["versions", "show", "9"], 1, "toy has no version 9; it has 1"),
    "no number": (
        ["versions", "show", "x"],
        3,
        "versions show: expected a version's number, got x; see 'mlops versions'",
    ),
    "promote without a reason": (
        ["versions", "promote", "1"],
        3,
        "versions promote: say why with --reason '...'; it is kept in the audit",
    ),
    "promote the champion": (
        ["versions", "promote", "1", "--reason", "x"],
        3,
        "version 1 is the champion already",
    ),
    "nothing to roll back to": (
        ["versions", "rollback", "--reason", "x"],
        3,
        "there is no earlier champion to roll back to; see 'mlops versions'",
    ),
    "predict without an endpoint": (["predict", "--sample"], 1, "no endpoint is running; start it with 'mlops run'"),
    "predict nothing": (
        ["predict"],
        3,
        "predict: nothing to ask; give rows as JSON, a file, - for standard input, or --sample",
    ),
    "predict no JSON": (
        ["predict", '{"a":'],
        3,
        "predict: the argument is no JSON: Expecting value: line 1 column 6 (char 5)",
    ),
    "predict no rows": (["predict", "[1]"], 3, "predict: the argument must be a row (an object) or a list of rows"),
    "predict from no file": (
        ["predict", "rows.json"],
        3,
        "predict: cannot read rows.json: No such file or directory; expected JSON rows, a file, or -",
    ),
    "unknown plugin": (["plugins", "show", "sklern"], 3, "unknown plugin 'sklern'; did you mean 'sklearn'?"),
    "no project": (
        ["status", "--project", "/nowhere"],
        3,
        "no project here: neither /nowhere nor a folder above it has conf/config.yaml; go to a project, name one with "
        "--project DIR, or start one with 'mlops init NAME'",
    ),
    "folder not empty": (["init", "."], 3, ". is not empty; name a new folder"),
    "unknown recipe": (["init", "new", "--recipe", "credt"], 3, "unknown recipe 'credt'; did you mean 'credit'?"),
}


def test_commands(toy, before) -> None:
    kept = before()
    wrong = []
    for case, (words, code, message) in COMMANDS.items():
        told = toy.mlops(*words, code=None)
        if (told.returncode, told.stderr) != (code, f"mlops: {message}\n"):
            wrong.append(f"{case}: exit {told.returncode}: {told.stderr}")
    assert not wrong, "\n".join(wrong)
    assert before() == kept


def test_damaged_ledger(toy, before) -> None:
    before()
    ledger = toy.root / ".mlops" / "ledger.db"
    whole = ledger.read_bytes()
    for extra in toy.root.glob(".mlops/ledger.db-*"):
        extra.unlink()
    ledger.write_bytes(b"this is no database" * 50)
    told = toy.mlops("run", code=1)
    assert told.stderr == (
        f"mlops: the ledger {ledger} is damaged (file is not a database); restore it from a copy, or move it away to "
        "begin anew\n"
    )
    assert ledger.read_bytes() == b"this is no database" * 50, "a damaged ledger is left for its owner to look at"
    ledger.write_bytes(whole)
    assert toy.performed() == []


def test_ledger_that_cannot_be_reached(toy) -> None:
    toy.env["LEDGER"] = "postgresql+psycopg://someone:hush-hush@127.0.0.1:9/none"
    told = toy.mlops("run", "store.ledger=${oc.env:LEDGER}", code=1)
    assert told.stderr.startswith("mlops: cannot reach the ledger postgresql://someone:***@127.0.0.1:9/none: ")
    nowhere_written(toy, told.stderr + told.stdout)


@pytest.mark.parametrize("where", ["command line", "file"])
def test_password_in_clear(toy, where: str) -> None:
    url, words = "postgresql+psycopg://someone:hush-hush@127.0.0.1:9/none", []
    config = toy.root / "conf" / "config.yaml"
    if where == "file":
        config.write_text(config.read_text() + f"store:\n  ledger: {url}\n")
        place = f"conf/config.yaml:{len(config.read_text().splitlines())}:11"
    else:
        words, place = [f"store.ledger={url}"], "command line, override 1"
    told = toy.mlops("run", *words, code=3)
    hint = "put the URL into an environment variable and write ${oc.env:NAME}"
    assert told.stderr == (
        f"mlops: 1 problem in the declaration\n{place}: store.ledger: holds a password in clear; {hint}\n"
    )
    nowhere_written(toy, told.stderr + told.stdout)


def nowhere_written(toy, said: str) -> None:
    assert "hush-hush" not in said
    kept = [p for p in (toy.root / ".mlops").rglob("*") if p.is_file()]
    assert not [p for p in kept if b"hush-hush" in p.read_bytes()], "a password must never be written down"


def test_stranger_in_the_state_folder(toy, before, tmp_path: Path) -> None:
    kept = before()
    (toy.root / ".mlops" / "objects" / "files" / "md5" / "zz").mkdir(parents=True)
    (toy.root / ".mlops" / "work" / "left-behind").mkdir(parents=True)
    assert toy.performed() == []
    assert before()[1] == kept[1]
