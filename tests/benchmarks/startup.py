"""`mlops --help` against bare Python and git (goal: at most 0.15 s more than Python), and what starting is made of.

Finding every plugin is compared with what importlib.metadata takes to read the same entry points, and a declaration
that was composed before with composing it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import compare, cpu

HERE = Path.cwd()
PARTS = """
import sys, time
from pathlib import Path
def timed(work):
    start = time.process_time()
    work()
    return time.process_time() - start
def metadata():
    import importlib.metadata
    importlib.metadata.entry_points(group="mlops_core")
import mlops_core.plugins
from mlops_core import config
root = Path(sys.argv[1])
kept = timed(lambda: config.declare(root))
found = timed(mlops_core.plugins.Plugins)
listed = timed(metadata)
composed = timed(lambda: config.declare(root, ["seed=" + sys.argv[2]]))
print(found, listed, kept, composed)
"""


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
    parts()


def parts(repeats: int = 9) -> None:
    """Milliseconds of CPU inside a cold process; medians."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "credit"
        mlops = [str(Path(sys.executable).parent / "mlops"), "init", str(root), "--recipe", "credit"]
        subprocess.run(mlops, check=True, capture_output=True)
        taken = []
        for i in range(repeats + 1):
            command = [sys.executable, "-c", PARTS, str(root), str(1000 + i)]
            taken.append([float(t) * 1e3 for t in subprocess.check_output(command, cwd=root).split()])
    found, listed, kept, composed = (statistics.median(t) for t in zip(*taken[1:], strict=True))
    print(f"  finding the plugins, imports and all {found:7.1f} ms  {found / listed:6.2f}x importlib.metadata alone")
    print(f"  a declaration composed before        {kept:7.1f} ms  {kept / composed:6.3f}x composing it")


if __name__ == "__main__":
    main()
