"""One word to run, one word to check:

    nox -s run      the credit recipe, from its table to an answered prediction
    nox             lint, and the tests against the built wheel
    nox -s bench    the figures of tests/benchmarks (minutes)

uv is used where it is present; nothing needs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "tests"]
nox.options.reuse_existing_virtualenvs = True

HERE = Path(__file__).parent
TORCH = "torch==2.13.0"
LINT = ["ruff", "mypy", "import-linter", "types-PyYAML"]
TEST = ["pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "schemathesis", "httpx", "psutil"]
# what tests talk to, and with: S3, the other namespace, a build backend, clients of the Open Inference Protocol
REAL = ["moto[server]", "lightning", "hatchling", "tritonclient[http,grpc]"]
EXTRAS = "default,xgboost,lightgbm,grpc,postgres,adbc,s3,signing"
# What kills processes at a certain moment, or counts what fails under load, has but one other of its kind beside it.
LONERS = ["e2e/test_life", "e2e/test_rollout", "e2e/test_startup"]
LONERS += [f"plugins/test_{name}" for name in ("http_deployer", "ray_access", "ray_serve")]
BY_FILES = ["-n", "2", "--dist", "loadfile"]
ALONE = [*BY_FILES, *(f"tests/{name}.py" for name in LONERS)]
SIDE_BY_SIDE = [*BY_FILES, "tests", *(f"--ignore=tests/{name}.py" for name in LONERS)]
DEMO = HERE / "credit-demo"


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy --strict, and the floors of the house."""
    session.env["PIP_NO_COMPILE"] = "no"  # nothing of it is run; pip reads its negative settings the other way round
    prepare(session)
    install(session, *LINT, "-e", f".[{EXTRAS}]", *TEST, *REAL)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """The suite, against the built wheel. Words after '--' go to pytest."""
    prepare(session)
    wheel = build(session)
    install(session, f"mlops-core-framework[{EXTRAS}] @ {wheel.as_uri()}", *TEST, *REAL)
    replace(session, wheel)
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    failed = [words for words in (SIDE_BY_SIDE, ALONE) if not passes(session, *words)]
    if failed:
        session.error("failed: " + "; ".join(f"pytest {' '.join(words)}" for words in failed))


@nox.session
def kserve(session: nox.Session) -> None:
    """The environment of KServe's own client, which does not take our versions; the suite finds it by its place."""
    session.install("kserve>=0.21")


@nox.session
def run(session: nox.Session) -> None:
    """The credit recipe: data, tuning, training, gate, version, endpoint, answer."""
    prepare(session)
    wheel = build(session)
    install(session, f"mlops-core-framework[default] @ {wheel.as_uri()}")
    replace(session, wheel)
    if not DEMO.exists():
        session.run("mlops", "init", str(DEMO), "--recipe", "credit", silent=False)
    os.chdir(DEMO)
    session.run("mlops", "run", *session.posargs)
    session.run("mlops", "predict", "--sample")
    command = Path(session.bin) / "mlops"
    session.log(f"the project is in {DEMO.name}/, the command is {os.path.relpath(command, DEMO)}")
    session.log(f"next: cd {DEMO.name}; run it with 'plan', 'status', 'versions show 1'; 'stop' ends the endpoint")


@nox.session
def bench(session: nox.Session) -> None:
    """Prints the ratios of tests/benchmarks; words after '--' choose which."""
    prepare(session)
    install(session, f"mlops-core-framework[{EXTRAS}] @ {HERE.as_uri()}", *TEST, *REAL, "kedro", "sf-hamilton")
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


def prepare(session: nox.Session) -> None:
    """Torch's CPU build first, so that nothing later pulls the CUDA packages; and compiled bytecode."""
    session.env["PYTHONDONTWRITEBYTECODE"] = ""  # workers would compile torch anew at every start
    links = find_links()
    if os.name != "posix" or sys.platform == "darwin" or links:
        pip(session, TORCH, *(["--find-links", links] if links else []))
    elif uv(session):
        pip(session, TORCH, "--torch-backend", "cpu")
    else:  # pip alone cannot choose the CPU build; uv, from the index, can
        pip(session, "uv")
        session.run("uv", "pip", "install", "-q", TORCH, "--torch-backend", "cpu")


def install(session: nox.Session, *what: str) -> None:
    """Installs pinned versions, and says so: it takes a few minutes the first time."""
    session.log("installing (minutes the first time, seconds later) ...")
    pip(session, *what, "-c", str(HERE / "constraints.txt"))


def pip(session: nox.Session, *what: str) -> None:
    session.install(*(["--compile-bytecode"] if uv(session) else []), *what, silent=False)


def replace(session: nox.Session, wheel: Path) -> None:
    """The version number is the same at every build, so an environment that is kept needs telling."""
    session.install("--no-deps", "--reinstall" if uv(session) else "--force-reinstall", str(wheel))


def uv(session: nox.Session) -> bool:
    return session.venv_backend == "uv"


def build(session: nox.Session) -> Path:
    """The wheel, built afresh into the session's own folder."""
    session.install("build", "hatchling", "-c", str(HERE / "constraints.txt"))
    # Not session.create_tmp(): it moves TMPDIR into this checkout, and every project of a test with it.
    out = Path(session.virtualenv.location).resolve() / "wheel"
    shutil.rmtree(out, ignore_errors=True)
    session.run("python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), ".", silent=True)
    return next(out.glob("*.whl"))


def passes(session: nox.Session, *words: str) -> bool:
    try:
        session.run("pytest", *words)
    except nox.command.CommandFailed:
        return False
    return True


def find_links() -> str:
    """Where pip is told to look for files; uv does not read it."""
    if os.environ.get("PIP_FIND_LINKS"):
        return os.environ["PIP_FIND_LINKS"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip()
