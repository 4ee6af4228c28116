"""The docs tell the truth: every command in them is run, and the reference is what the code says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_kit import ELSEWHERE, commands, script

ROOT = Path(__file__).parents[2]
PAGES = sorted(p.relative_to(ROOT) for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def runnable() -> list[Path]:
    return [p for p in PAGES if p not in ELSEWHERE and commands(ROOT / p)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", runnable(), ids=str)
def test_commands_run(page: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": ""}
    try:
        command = ["bash", "-c", script(ROOT / page)]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=850, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    finally:
        for folder in tmp_path.iterdir():
            if (folder / "conf").exists():
                command = [sys.executable, "-m", "mlops_core", "stop"]
                subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
            assert (ROOT / page.parent / target).exists(), f"{page}: {target}"


def test_reference_is_what_the_code_says() -> None:
    path = ROOT / "docs" / "reference" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for page, make in generate.PAGES.items():
        written = (path.parent / f"{page}.md").read_text()
        assert written == generate.NOTE + make(), f"{page}.md is stale: run python docs/reference/generate.py"


def test_every_hook_and_option_is_documented() -> None:
    from mlops_core.options import options_of
    from mlops_core.plugins import Plugins

    for offer in Plugins().all():
        if offer.distribution == "mlops-core-framework":
            assert offer.summary, f"{offer.kind} {offer.name} has no manual"
            bare = [o.name for o in options_of(offer.cls) if not o.doc]
            assert not bare, f"{offer.kind} {offer.name}: options without a line in the manual: {bare}"


def test_nobody_is_told_to_install_somebody_elses_package() -> None:
    wrong = re.compile(r"install[^\n]*\bmlops-core(?!-framework)\b")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    for path in listed.stdout.split():
        file = ROOT / path
        if file.suffix in (".md", ".toml", ".py", ".txt", ".yaml") and file != Path(__file__):
            assert not wrong.search(file.read_text()), path


def test_summaries_are_the_commands_own() -> None:
    import importlib

    from mlops_core.cli.main import COMMANDS

    for name, summary in COMMANDS.items():
        assert summary == importlib.import_module(f"mlops_core.cli.{name}").SUMMARY
