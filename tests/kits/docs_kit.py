"""The commands of a page of the docs, as a reader would type them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

RUN_BY_CI = ("pip ", "python -m pip ", "nox")  # installing is what CI itself does
ELSEWHERE = {Path("docs/how-to/submit.md"): "tests/e2e/test_submit.py, which has a cluster"}


def commands(page: Path) -> list[str]:
    """The `$ ` commands of a page's console blocks, continued over lines until quotes and here-documents close."""
    found: list[str] = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif found:
                found[-1] += "\n" + line
    return found


def script(page: Path) -> str:
    """All in one shell, as a reader has; the first to fail ends it. 'plan' exits with 2 where work is due."""
    lines = ["set -u"]
    for command in commands(page):
        if command.startswith(RUN_BY_CI):
            continue
        allowed = "[ $code -le 2 ] && [ $code -ne 1 ]" if command.startswith("mlops plan") else "[ $code -eq 0 ]"
        shown = shlex.quote(command.splitlines()[0])
        lines += [f"echo '$ '{shown}", command, "code=$?", f"{allowed} || {{ echo exit $code of {shown}; exit 1; }}"]
    return "\n".join(lines)
