"""Failures in a person's words."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from mlops_core.errors import MlopsError, PluginError, StoreError, TrainingError

REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES})

# Which extra brings what: our own plugins are guests, so their libraries are known by name alone.
EXTRAS = {
    "torch": "lightning",
    "pytorch_lightning": "lightning",
    "safetensors": "lightning",
    "sklearn": "sklearn",
    "skl2onnx": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "ray": "ray",
    "optuna": "ray",
    "dvc": "dvc",
    "psycopg": "postgres",
    "adbc_driver_manager": "adbc",
    "s3fs": "s3",
}


def told(root: Path, state: Path, stage: str, error: Exception) -> MlopsError:
    """The error in a person's words. What nobody foresaw is told in a line, and its traceback kept in a file."""
    if isinstance(error, MlopsError):
        return error
    if isinstance(error, OSError) and error.errno in REFUSED:
        where = f" {error.filename}" if error.filename else ""
        why = (error.strerror or str(error)).lower()
        return StoreError(
            f"cannot write{where}: {why}; what was done before is kept: free room or make it writable, and run again"
        )
    missing = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing in EXTRAS:
        install = f"python -m pip install 'mlops-core-framework[{EXTRAS[missing]}]'"
        return PluginError(f"{stage} needs {missing!r}, which is not installed; run {install}")
    words = str(error).splitlines()[0] if str(error) else "no message"
    kept = state / "failures" / f"{stage}.txt"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text("".join(traceback.format_exception(error)))
    except OSError:
        story = "the whole story could not be kept"
    else:
        story = f"the whole story is in {kept.relative_to(root)}"
    return TrainingError(f"{stage} failed: {type(error).__name__}: {words}; {story}")
