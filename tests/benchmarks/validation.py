"""A contract held to 1M and 10M rows x 20 columns, against calling pandera directly on the same Parquet file.

The same rules on both sides; pandera checks each column of the frame that it is given whole, as its manual shows.
Goals: at most 1.1x its CPU time, and memory that does not grow with the rows. `shuffled` has ids in no order, where
uniqueness cannot be seen in passing.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import compare, cpu

CONTRACT = """
columns = {"id": {"dtype": "int64", "range": [0, None], "unique": True, "nullable": False}}
columns |= {f"f{i}": {"dtype": "float64", "range": [-10, 10]} for i in range(9)}
columns |= {f"i{i}": {"dtype": "int64", "range": [0, 100], "nullable": False} for i in range(5)}
words = {"dtype": "string", "in": ["alpha", "beta", "gamma", "delta"], "length": [1, 10], "nullable": False}
columns |= {f"s{i}": words for i in range(4)} | {"y": {"dtype": "int64", "in": [0, 1], "nullable": False}}
contract = {"columns": columns}
"""
OURS = (
    CONTRACT
    + """
import sys
import polars as pl
from mlops_core.validation import validate
found = validate(pl.scan_parquet(sys.argv[1]), contract)
assert found.valid
"""
)
DIRECT = (
    CONTRACT
    + """
import sys
import polars as pl
import pandera.polars as pa
def column(rule):
    checks = [pa.Check.isin(rule["in"])] if "in" in rule else []
    if "range" in rule:
        low, high = rule["range"]
        checks.append(pa.Check.ge(low) if high is None else pa.Check.in_range(low, high))
    if "length" in rule:
        checks.append(pa.Check.str_length(*rule["length"]))
    if rule["dtype"] == "float64":
        checks.append(pa.Check(lambda d: d.lazyframe.select(pl.col(d.key).is_finite())))
    dtype = {"int64": pl.Int64, "float64": pl.Float64, "string": pl.String}[rule["dtype"]]
    return pa.Column(dtype, checks, nullable=rule.get("nullable", True), unique=rule.get("unique", False))
schema = pa.DataFrameSchema({name: column(rule) for name, rule in columns.items()})
"""
)
EAGER = DIRECT + "schema.validate(pl.read_parquet(sys.argv[1]), lazy=True)\n"
LAZY = (
    DIRECT
    + """
from pandera.config import ValidationDepth, config_context
with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
    schema.validate(pl.scan_parquet(sys.argv[1]), lazy=True).collect(engine="streaming")
"""
)
IMPORTS = "import polars, pandera.polars, mlops_core.validation.looking, pandas, pyarrow\n"


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        for rows, shuffled in ((1_000_000, False), (1_000_000, True), (10_000_000, False), (10_000_000, True)):
            path = write(folder / "t.parquet", rows, shuffled)
            print(f"contract validation: {rows:,} rows x 20 columns{', ids shuffled' if shuffled else ''}")
            peers = {
                "pandera, DataFrame": EAGER,
                "pandera, LazyFrame at full depth": LAZY,
                "mlops": OURS,
                "imports": IMPORTS,
            }
            runs = {
                n: lambda code=code, path=path: cpu([sys.executable, "-c", code, str(path)], folder)
                for n, code in peers.items()
            }
            found = compare(runs, repeats=3, base="pandera, DataFrame")
            print(f"  mlops / pandera: {found['mlops'][0] / found['pandera, DataFrame'][0]:.2f}x (goal 1.10)")
        for shuffled in (False, True):
            print(f"peak memory of mlops alone{', ids shuffled' if shuffled else ''}")
            for rows in (1_000_000, 3_000_000, 10_000_000, 30_000_000):
                path = write(folder / "t.parquet", rows, shuffled)
                taken = [cpu([sys.executable, "-c", OURS, str(path)], folder)[1] for _ in range(3)]
                print(f"  {rows:>12,} rows  {statistics.median(taken):5.0f} MiB", flush=True)
    finally:
        shutil.rmtree(folder)


def write(path: Path, rows: int, shuffled: bool) -> Path:
    rng = np.random.default_rng(0)
    ids = rng.permutation(rows) if shuffled else np.arange(rows)
    writer = None
    for start in range(0, rows, 500_000):
        many = min(500_000, rows - start)
        columns: dict[str, object] = {"id": ids[start : start + many]}
        columns |= {f"f{i}": rng.normal(size=many) for i in range(9)}
        columns |= {f"i{i}": rng.integers(0, 100, many) for i in range(5)}
        columns |= {f"s{i}": rng.choice(["alpha", "beta", "gamma", "delta"], many) for i in range(4)}
        batch = pa.table(columns | {"y": rng.integers(0, 2, many)})
        writer = writer or pq.ParquetWriter(path, batch.schema)
        writer.write_table(batch, row_group_size=125_000)
    assert writer is not None
    writer.close()
    return path


if __name__ == "__main__":
    main()
