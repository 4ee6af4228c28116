"""Make digits.parquet from scikit-learn's copy of the handwritten digits of UCI.

python -m pip install scikit-learn && python convert.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

OUT = Path(__file__).with_name("digits.parquet")


def main(out: Path = OUT) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = pl.Series("image", digits.images.astype(np.uint8), dtype=pl.Array(pl.UInt8, (8, 8)))
    table = pl.DataFrame({"image": images, "digit": digits.target.astype(np.int64)})
    table.write_parquet(out, compression="zstd")
    print(out.name, table.shape, hashlib.sha256(out.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
