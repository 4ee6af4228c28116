"""What a person sees on a terminal: bars, a table of trials, lines that stay."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mlops_core.cli.live import Live, trial_table
from mlops_core.cli.view import summary
from mlops_core.contracts import Endpoint, Run
from mlops_core.flow import Finished


def text_of(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=140, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def search(project: Path) -> Path:
    folder = project / ".mlops" / "work" / "tune-abc"
    folder.mkdir(parents=True)
    done = {
        "number": 0,
        "params": {"trainer.lr": 0.01234567},
        "scores": {"auroc": 0.9},
        "state": "done",
        "seconds": 3.2,
    }
    failed = {"number": 1, "params": {"trainer.lr": 0.5}, "scores": {}, "state": "failed", "seconds": 1.0}
    (folder / "trials.jsonl").write_text(json.dumps(done) + "\n" + json.dumps(failed) + '\n{"number": 2, "par')
    running = {"number": 3, "params": {"trainer.lr": 0.1}, "step": 2, "scores": {"auroc": 0.7}, "seconds": 9.0}
    (folder / "live.json").write_text(json.dumps({"running": [running]}))
    return folder


def test_table_of_trials_shows_finished_failed_and_running(tmp_path: Path) -> None:
    search(tmp_path)
    lines = [line.split() for line in text_of(trial_table(tmp_path)).splitlines()]
    assert lines[0] == ["trial", "state", "parameters", "scores", "seconds"]
    assert lines[1] == ["0", "done", "lr", "0.01235", "auroc", "0.9000", "3"]
    assert lines[2] == ["1", "failed", "lr", "0.5", "1"]
    assert lines[3] == ["3", "running", "lr", "0.1", "auroc", "0.7000", "9"]


def test_the_table_shows_the_objectives_before_other_scores(tmp_path: Path) -> None:
    folder = search(tmp_path)
    scores = {"accuracy": 0.8, "auprc": 0.7, "auroc": 0.9, "brier": 0.1}
    one = {"number": 0, "params": {}, "scores": scores, "state": "done", "seconds": 1.0}
    (folder / "trials.jsonl").write_text(json.dumps(one) + "\n")
    assert "accuracy 0.8000  auprc 0.7000 " in text_of(trial_table(tmp_path))
    (folder / "objectives.json").write_text(json.dumps(["brier", "auroc", "auprc"]))
    assert "brier 0.1000  auroc 0.9000  auprc 0.7000 " in text_of(trial_table(tmp_path))


def test_no_search_no_table(tmp_path: Path) -> None:
    assert trial_table(tmp_path) == ""


def test_bar_counts_to_what_is_declared(tmp_path: Path) -> None:
    out = io.StringIO()
    view = Live(out, Console(file=out, width=120, force_terminal=True, highlight=False))
    run = Run(id="r", name="n", started="", project=str(tmp_path))
    view.mlops_started(run=run, stage="train", cause="first run", steps=30)
    view.mlops_progress(stage="train", step=15, scores={"auroc": 0.8})
    view.mlops_finished(stage="train", record={"scores": {"auroc": 0.8}, "metric": "auroc"}, skipped=False)
    said = out.getvalue()
    assert "━━━━━━━━━━────────── 15/30  auroc 0.8000" in said
    assert "✓" in said and "auroc 0.8000 on the validation split" in said


def test_a_run_on_a_real_terminal(tmp_path: Path) -> None:
    """`mlops plan` and a failing `run` in a pseudo-terminal: colours, no traceback, the right exit code."""
    project = tmp_path / "p"
    (project / "conf").mkdir(parents=True)
    (project / "conf" / "config.yaml").write_text(
        "defaults: [base, {data: csv}, {trainer: sklearn}, _self_]\nname: p\nmetric: accuracy\n"
        "data: {path: d.csv, target: y}\ntrainer: {estimator: LogisticRegression}\n"
    )
    (project / "d.csv").write_text("a,y\n1,no\n")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_core", "run"],
        cwd=project,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    said = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        said += part
    assert process.wait(timeout=60) == 1
    assert b"Traceback" not in said and "✗".encode() in said and b"mlops: " in said


@pytest.mark.parametrize(("project", "there"), [(Path(), ""), (Path("my gym"), " --project 'my gym'")])
def test_the_closing_lines_are_commands_that_work_here(project: Path, there: str) -> None:
    endpoint = Endpoint(name="gym", url="http://127.0.0.1:1", deployer="http", versions=(2,))
    run = Run(id="r", name="gym", started="now")
    told = summary(Finished(run=run, performed=(), skipped=(), version=2, endpoint=endpoint), project)
    for command in ("predict --sample", "versions show 2", "stop"):
        assert f"mlops {command}{there}" in told
    assert f" {project / '.mlops'}/: " in told
