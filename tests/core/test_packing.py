"""Which files of a project travel, as git reads its ignore files, and what is refused before anything is sent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlops_core import hookimpl, packing, sending
from mlops_core.config import declare
from mlops_core.contracts import Parcel, Submission
from mlops_core.errors import UsageError
from mlops_core.plugins import Plugins


def lay(root: Path, *names: str, **texts: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return root


def names(root: Path) -> list[str]:
    return [f.name for f in packing.travelling(root)]


def test_state_caches_environments_and_secrets_stay(tmp_path: Path) -> None:
    lay(tmp_path, "conf/config.yaml", "src/a.py", "src/__pycache__/a.pyc", ".mlops/ledger.db", ".git/HEAD", ".env")
    lay(tmp_path, "venv/pyvenv.cfg", "venv/lib/x.py", ".dvc/config", ".dvc/cache/files/md5/aa/bb", "deep/.mlops/x")
    assert names(tmp_path) == [".dvc/config", "conf/config.yaml", "src/a.py"]


def test_mlopsignore_has_the_last_word_but_never_over_state(tmp_path: Path) -> None:
    lay(tmp_path, "a.csv", "keep.csv", "b.txt", ".env", ".mlops/x")
    (tmp_path / ".gitignore").write_text("*.csv\n")
    (tmp_path / ".mlopsignore").write_text("!keep.csv\nb.txt\n!.env\n!.mlops\n")
    assert names(tmp_path) == [".env", ".gitignore", ".mlopsignore", "keep.csv"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("inside", ["", "team/project"])
def test_it_is_what_git_would_take(tmp_path: Path, inside: str) -> None:
    files = [
        "a.log",
        "a.py",
        "data/x.csv",
        "data/keep/y.csv",
        "deep/a.log",
        "deep/b.py",
        "build/x",
        "deep/build/x",
        "ü b",
    ]
    root = lay(tmp_path / inside, *files, "deep/kept.log", "only/here.txt", "only/there/here.txt", "#odd")
    (root / ".gitignore").write_text("*.log\n/build/\ndata/*\n!data/keep/\nonly/**/here.txt\n\\#odd\n# a comment\n")
    (root / "deep" / ".gitignore").write_text("!kept.log\nb.*\n")
    if inside:
        (tmp_path / ".gitignore").write_text("a.py\n/team/project/only/\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    git = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, capture_output=True, text=True, check=True
    )
    assert names(root) == sorted(filter(None, git.stdout.split("\0")))


def test_links_travel_as_what_they_lead_to_and_never_in_a_circle(tmp_path: Path) -> None:
    root, outside = lay(tmp_path / "p", "conf/config.yaml"), lay(tmp_path / "o", "table.csv")
    (root / "data").symlink_to(outside)
    (root / "conf" / "up").symlink_to(root)
    (root / "gone").symlink_to(root / "nothing")
    os.mkfifo(root / "pipe")
    assert names(root) == ["conf/config.yaml", "data/table.csv"]


def test_the_same_content_packs_to_the_same_bytes(tmp_path: Path) -> None:
    root = lay(tmp_path / "p", "b.py", "a.sh")
    (root / "a.sh").chmod(0o755)
    first = packing.pack(packing.travelling(root), tmp_path / "1.zip", {"extra/x": "y"}).read_bytes()
    os.utime(root / "b.py", (1, 1))
    assert packing.pack(packing.travelling(root), tmp_path / "2.zip", {"extra/x": "y"}).read_bytes() == first
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == ["a.sh", "b.py", "extra/x"]
        assert [i.external_attr >> 16 & 0o777 for i in archive.infolist()] == [0o755, 0o644, 0o644]


AS_SOMEBODY = """
import os, pathlib, sys
from mlops_core import packing
from mlops_core.errors import StoreError
if os.geteuid() == 0:  # who may read everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
root = pathlib.Path(sys.argv[1])
try:
    packing.pack(packing.travelling(root), root.parent / "1.zip")
except StoreError as error:
    print(error)
"""


def test_a_file_that_cannot_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        root = lay(Path(folder) / "p", "a.py")
        (root / "a.py").chmod(0)
        command = [sys.executable, "-c", AS_SOMEBODY, str(root)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert re.match(r"cannot pack .*a\.py: no permission", told.stdout), told


def test_too_large_names_the_largest(tmp_path: Path) -> None:
    root = lay(tmp_path, *(f"small{i}.txt" for i in range(9)))
    (root / "big.bin").write_bytes(bytes(3 * packing.MB))
    with pytest.raises(UsageError) as told:
        packing.refuse_large(packing.travelling(root), 2)
    lines = str(told.value).splitlines()
    assert lines[0] == "the project is 3.0 MiB in 10 files, more than the 2 MiB that may travel:"
    assert lines[1].split() == ["3.0", "MiB", "big.bin"] and len(lines) == 2 + packing.SHOWN
    packing.refuse_large(packing.travelling(root), 4)


# What is refused before anything is sent

SENT: list[Parcel] = []
CONFIG = """\
defaults: [base, {data: guest_table}, {trainer: guest_net}, _self_]
name: tiny
data: {path: data/a.csv, target: y}
trainer: {}
metric: auroc
store: {ledger: '${oc.env:LEDGER_URL}', objects: 's3://bucket/tiny'}
launcher: {plugin: guest_post, env: [LEDGER_URL], address: there}
"""


@dataclass(frozen=True)
class Table:
    """A table.

    path: where
    url: or where else
    """

    path: Path
    url: str = ""

    def schema(self) -> Mapping[str, str]:
        return {"x": "Float64", "y": "String"}


@dataclass(frozen=True)
class Net:
    """A trainer.

    lr: rate
    """

    lr: float = 0.1


@dataclass(frozen=True)
class Post:
    """A launcher.

    address: where to
    """

    address: str = ""

    def submit(self, parcel: Parcel) -> Submission:
        SENT.append(parcel)
        with zipfile.ZipFile(parcel.project) as archive:
            assert "conf/config.yaml" in archive.namelist()
        return Submission(id=f"{self.address}-1", project=parcel.name, words=parcel.words, state="waiting")


class Guest:
    @hookimpl
    def mlops_data(self) -> dict[str, type]:
        return {"guest_table": Table}

    @hookimpl
    def mlops_trainer(self) -> dict[str, type]:
        return {"guest_net": Net}

    @hookimpl
    def mlops_launcher(self) -> dict[str, type]:
        return {"guest_post": Post}


@pytest.fixture
def send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Submission, list[str]]]:
    """`send('run')` sends the project by a launcher that keeps what it got, and gives what was told meanwhile."""
    root = lay(tmp_path / "project", "conf/config.yaml", "data/a.csv")
    (root / "conf" / "config.yaml").write_text(CONFIG)
    monkeypatch.setenv("LEDGER_URL", "postgresql://ann:s3kret@db/team")
    monkeypatch.setattr(sending, "OURS", "g")  # as if the guest came with us: its package does not travel
    monkeypatch.setattr(sending, "_expects", lambda guests: {"python": "3"})
    SENT.clear()

    def call(*words: str, config: tuple[str, str] = ("", ""), **given: Any) -> tuple[Submission, list[str]]:
        (root / "conf" / "config.yaml").write_text(CONFIG.replace(*config))
        plugins, notices = Plugins([("g", Guest())]), list[str]()
        declaration = declare(root, sending.overrides_of(words), plugins)
        return sending.submit(root, declaration, plugins, words, given, notices.append), notices

    return call


Send = Callable[..., tuple[Submission, list[str]]]


def test_a_parcel_holds_names_of_secrets_and_no_value(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORE", "s3kret")
    found, notices = send("run", "trainer.lr=0.5", address="elsewhere", env=["MORE", "LEDGER_URL"])
    assert found.id == "elsewhere-1" and notices == []
    parcel = SENT[0]
    assert (
        parcel.words == ("run", "trainer.lr=0.5") and parcel.secrets == ("LEDGER_URL", "MORE") and parcel.beside is None
    )
    assert "s3kret" not in repr(parcel) and set(parcel.settings) == {"MLOPS_ACTOR", "MLOPS_REVISION"}


def test_a_variable_that_is_read_there_and_not_sent_is_told(send: Send) -> None:
    _, notices = send("run", config=(", env: [LEDGER_URL]", ""))
    assert notices == [
        "the declaration reads LEDGER_URL from the environment there; --env LEDGER_URL sends what it is here"
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing to run there: write the command after '--', as in 'mlops submit -- run'"),
        (("rum",), "'rum' cannot be sent; did you mean 'run'?"),
        (("submit",), "'submit' cannot be sent; expected one of: check, config, plan, plugins, run, status, versions"),
        (("run", "--project", "x"), "--project belongs before '--'"),
    ],
)
def test_commands_that_mean_nothing_there_are_refused(send: Send, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError) as error:
        send(*words)
    assert told in str(error.value) and SENT == []


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ((CONFIG[CONFIG.index("store") : CONFIG.index("launcher")], ""), ["store.ledger and store.objects", "s3://"]),
        (("s3://bucket/tiny", "objects"), ["set store.objects in conf/config.yaml", "file:///path"]),
        (("'${oc.env:LEDGER_URL}'", "sqlite:///l.db"), ["set store.ledger in conf/config.yaml", "--env LEDGER_URL"]),
        (
            ("env: [LEDGER_URL]", "env: [LEDGER_URL, NO_SUCH]"),
            ["not set in the environment here: NO_SUCH; a secret is"],
        ),
        (("target: y", "target: y, url: 'sqlite:///a.db'"), ["data.url: sqlite:///a.db is a database on this disk"]),
        (("data/a.csv", "/etc/passwd"), ["data.path: /etc/passwd lies outside the project and does not travel"]),
    ],
)
def test_what_would_be_lost_or_missing_there_is_refused(send: Send, config: tuple[str, str], told: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        send("run", config=config)
    assert all(words in str(error.value) for words in told), error.value
    assert SENT == [] and "s3kret" not in str(error.value)


def test_data_that_an_ignore_file_leaves_at_home_is_refused(send: Send, tmp_path: Path) -> None:
    (tmp_path / "project" / ".gitignore").write_text("/data/\n")
    with pytest.raises(UsageError, match=r"data.path: .*data/a.csv is left out by an ignore file and does not travel"):
        send("run")


def test_a_private_key_never_travels(send: Send, tmp_path: Path) -> None:
    lay(tmp_path / "project", "keys/a.pem", "keys/a.pub")
    key, public = (("launcher:", f"signing: {{{n}: keys/a.{n[:3]}}}\nlauncher:") for n in ("key", "public"))
    with pytest.raises(UsageError, match=r"signing.key: .*keys/a.pem must not travel; send what is in it by the env"):
        send("run", config=(key[0], key[1].replace("a.key", "a.pem")))
    send("run", config=public)
    (tmp_path / "project" / ".gitignore").write_text("keys/\n")
    with pytest.raises(UsageError, match=r"signing.public: .*keys/a.pub does not travel"):
        send("run", config=public)


def test_an_endpoint_that_would_end_with_the_job_is_refused(send: Send) -> None:
    served = ("launcher:", "deployer: {plugin: http, auth: none}\nlauncher:")
    with pytest.raises(UsageError, match=r"an endpoint made there would end with the job: send 'run --until gate'"):
        send("run", config=served)
    send("run", "--until=gate", config=served)
    send("plan", config=served)
    assert len(SENT) == 2


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("polars", ":2: 'polars' is not pinned; only lines such as 'name==1.2.3' travel"),
        ("polars>=1", ":2: 'polars>=1' is not pinned"),
        ("polars==1.*", ":2: 'polars==1.*' is not pinned"),
        ("-r other.txt", ":2: '-r other.txt' is an option"),
        ("-e .", ":2: '-e .' is an option"),
        ("own @ https://ann:s3kret@host/own.whl", ":2: holds a password in clear"),
    ],
)
def test_requirements_that_are_not_pinned_are_refused(send: Send, tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "project" / "requirements.txt").write_text(f"numpy==2.0  # pinned\n{line}\n")
    with pytest.raises(UsageError) as error:
        send("run", requirements="requirements.txt")
    assert told in str(error.value) and "s3kret" not in str(error.value)


def test_pinned_requirements_travel(send: Send, tmp_path: Path) -> None:
    lines = "numpy==2.0 ; python_version > '3'\n\n# why\nray[serve,tune]==2.60.0\nown @ https://host/own-1.0.whl\n"
    (tmp_path / "project" / "requirements.txt").write_text(lines + "polars==1.30.0 \\\n    --hash=sha256:abc\n")
    send("run", requirements="requirements.txt")
    assert SENT[0].requirements == (
        "numpy==2.0 ; python_version > '3'", "ray[serve,tune]==2.60.0", "own @ https://host/own-1.0.whl",
        "polars==1.30.0 --hash=sha256:abc",
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"launcher.requirements: cannot read .*none.txt: No such file"):
        send("run", requirements="none.txt")
