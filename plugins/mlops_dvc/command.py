"""Every call of DVC and git, through their command lines: DVC's Python interface is undocumented, and importing
it costs a second, phones home, and writes to our log."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from mlops_core.errors import StoreError

_LOCKED = "acquire lock"
_PATIENCE = 60.0


def dvc(*words: str, cwd: Path) -> str:
    """What `dvc words...` prints. Raises StoreError with what DVC says went wrong.

    Waits where another DVC command holds the project's lock. Reports nothing to anybody.
    """
    if importlib.util.find_spec("dvc") is None:
        raise StoreError("DVC is not installed: python -m pip install 'dvc>=3.60,<4' (dvc[s3] for S3 remotes)")
    end = time.monotonic() + _PATIENCE
    while True:
        done = _run([sys.executable, "-m", "dvc", *words], cwd)
        if done.returncode == 0:
            return done.stdout
        if _LOCKED not in done.stderr or time.monotonic() > end:
            raise StoreError(f"dvc {words[0]} failed in {cwd}: {_reason(done)}")
        time.sleep(0.5)


def git(*words: str, cwd: Path) -> str | None:
    """What `git words...` prints; None where git refuses, or is not installed."""
    try:
        done = _run(["git", *words], cwd)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def git_top(folder: Path) -> Path | None:
    """The git repository that looks after `folder`; None outside of one, and where git ignores the folder: DVC
    refuses to be kept by a git that does not look at it."""
    top = git("rev-parse", "--show-toplevel", cwd=folder)
    if top is None or git("check-ignore", "-q", str(folder.resolve() / ".dvc"), cwd=folder) is not None:
        return None
    return Path(top.strip())


def _run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    quiet = {"DVC_NO_ANALYTICS": "1", "DVC_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0", "NO_COLOR": "1"}
    return subprocess.run(
        command, cwd=cwd, env=os.environ | quiet, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """DVC's error lines, without its hints and colours."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return "; ".join(errors or lines[-2:]) or f"exit code {done.returncode}"
