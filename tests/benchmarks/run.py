"""All figures in one command: `python tests/benchmarks/run.py [startup nothing_due stages ...]`.

Words that begin with '--' are given to each benchmark: `run.py serving --seconds=1`. `soak` only runs when named.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALL = [p.stem for p in sorted(HERE.glob("*.py")) if p.stem not in ("run", "measure")]
DEFAULT = [name for name in ALL if name != "soak"]


def main(words: list[str]) -> None:
    sys.path.insert(0, str(HERE))
    options = [w for w in words if w.startswith("--")]
    names = [w for w in words if not w.startswith("--")]
    unknown = [n for n in names if n not in ALL]
    if unknown:
        raise SystemExit(f"unknown benchmark {unknown[0]!r}; expected: {', '.join(ALL)}")
    for name in names or DEFAULT:
        print(f"\n== {name}", flush=True)
        sys.argv = [f"{name}.py", *options]
        runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
