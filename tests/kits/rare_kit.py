"""A table of which one row in five is positive, and many look like the others: what is right more often finds fewer."""

from __future__ import annotations

import random
from pathlib import Path


def write(folder: Path) -> None:
    """data.csv: column `a`, and `label`, which is yes or no."""
    rng = random.Random(0)
    lines = [f"{rng.gauss(1.2 * (i % 5 == 0), 1):.4f},{'yes' if i % 5 == 0 else 'no'}" for i in range(1000)]
    (folder / "data.csv").write_text("\n".join(["a,label", *lines]) + "\n")
