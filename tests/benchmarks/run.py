"""All figures in one command: `python tests/benchmarks/run.py [startup nothing_due stages ...]`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALL = [p.stem for p in sorted(HERE.glob("*.py")) if p.stem not in ("run", "measure")]


def main(names: list[str]) -> None:
    sys.path.insert(0, str(HERE))
    unknown = [n for n in names if n not in ALL]
    if unknown:
        raise SystemExit(f"unknown benchmark {unknown[0]!r}; expected: {', '.join(ALL)}")
    for name in names or ALL:
        print(f"\n== {name}", flush=True)
        runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
