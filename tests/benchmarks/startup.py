"""`mlops --help` against bare Python and git. Goal: at most 0.15 s more than bare Python."""

from __future__ import annotations

import sys
from pathlib import Path

from measure import compare, cpu

HERE = Path.cwd()


def main() -> None:
    print("start-up: mlops --help")
    mlops = str(Path(sys.executable).parent / "mlops")
    found = compare(
        {
            "python -c pass": lambda: cpu([sys.executable, "-c", "pass"], HERE),
            "mlops --help": lambda: cpu([mlops, "--help"], HERE),
            "mlops plugins list": lambda: cpu([mlops, "plugins", "list"], HERE),
            "git --help": lambda: cpu(["git", "--help"], HERE),
            "dvc --help": lambda: cpu([sys.executable, "-m", "dvc", "--help"], HERE),
        },
        repeats=9,
        base="python -c pass",
    )
    more = found["mlops --help"][0] - found["python -c pass"][0]
    print(f"  mlops --help costs {more:.3f} CPU s more than bare Python (goal 0.15)")


if __name__ == "__main__":
    main()
