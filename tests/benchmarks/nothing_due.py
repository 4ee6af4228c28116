"""A run that finds nothing due, cold process, on the whole credit recipe, against `dvc repro` of five unchanged stages.

Goal: at most 0.5x its CPU time, and 0.4 CPU s.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import compare, cpu

DVC = """\
stages:
  one: {cmd: cp data.txt one.txt, deps: [data.txt], outs: [one.txt]}
  two: {cmd: cp one.txt two.txt, deps: [one.txt], outs: [two.txt]}
  three: {cmd: cp two.txt three.txt, deps: [two.txt], outs: [three.txt]}
  four: {cmd: cp three.txt four.txt, deps: [three.txt], outs: [four.txt]}
  five: {cmd: cp four.txt five.txt, deps: [four.txt], outs: [five.txt]}
"""


def main() -> None:
    bins = Path(sys.executable).parent
    mlops, dvc = str(bins / "mlops"), str(bins / "dvc")
    env = {**os.environ, "DVC_NO_ANALYTICS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryDirectory() as folder:
        credit, peer = Path(folder) / "credit", Path(folder) / "peer"
        subprocess.run([mlops, "init", str(credit), "--recipe", "credit"], check=True, stdout=subprocess.DEVNULL)
        try:
            subprocess.run([mlops, "run"], cwd=credit, env=env, check=True, stdout=subprocess.DEVNULL)
            peer.mkdir()
            (peer / "dvc.yaml").write_text(DVC)
            (peer / "data.txt").write_text("some data\n" * 1000)
            for words in (["init", "--no-scm", "-q"], ["repro", "-q"]):
                subprocess.run([dvc, *words], cwd=peer, env=env, check=True)
            print("nothing due, cold process")
            found = compare(
                {
                    "dvc repro, five unchanged stages": lambda: cpu([dvc, "repro", "-q"], peer, env),
                    "mlops run, whole credit recipe": lambda: cpu([mlops, "run"], credit, env),
                    "mlops plan, whole credit recipe": lambda: cpu([mlops, "plan"], credit, env),
                },
                repeats=9,
                base="dvc repro, five unchanged stages",
            )
            print(f"  mlops run: {found['mlops run, whole credit recipe'][0]:.3f} CPU s (goals: 0.4 CPU s, 0.5x)")
        finally:
            subprocess.run([mlops, "stop"], cwd=credit, env=env, stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
