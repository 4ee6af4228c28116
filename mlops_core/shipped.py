"""Where the shipped `conf` and `recipes` lie: inside the package of a wheel, else beside it in a checkout."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """The shipped folder of that name."""
    package = Path(__file__).resolve().parent
    return package / name if (package / name).is_dir() else package.parent / name
