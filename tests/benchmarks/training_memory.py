"""What a fit holds in memory as its data grows: 1, 3 and 10 million rows of 30 numbers, one epoch (goal: flat).

    python tests/benchmarks/training_memory.py --rows=1000000,3000000

The training split is frozen as mlops freezes it and streamed in pieces for which 64 MB are allowed; the validation
split has 50,000 rows each time. Needs 3 GB in the folder for temporary files.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlops_core.contracts import Artifact, Column, Dataset, Job

WIDTH, GROUP, HELD = 30, 65_536, 50_000
NAMES = [f"x{i}" for i in range(WIDTH)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", default="1000000,3000000,10000000")
    parser.add_argument("--fit", default="", help="only fit what lies in this folder")
    given = parser.parse_args()
    if given.fit:
        fit(Path(given.fit), int(given.rows))
        return
    print(f"one minute's load average at the beginning: {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    for rows in map(int, given.rows.split(",")):
        with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name:
            freeze(Path(name), rows)
            command = [sys.executable, __file__, f"--rows={rows}", f"--fit={name}"]
            subprocess.run(command, check=True)


def freeze(folder: Path, rows: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    for split, count in {"train": rows, "validation": HELD}.items():
        writer = None
        for start in range(0, count, GROUP):
            x = rng.normal(size=(min(GROUP, count - start), WIDTH)).astype(np.float32)
            y = np.where(x[:, :4].sum(1) > 0, "b", "a")
            table = pa.table({name: x[:, i] for i, name in enumerate(NAMES)} | {"y": y})
            writer = writer or pq.ParquetWriter(folder / f"{split}.parquet", table.schema, compression="zstd")
            writer.write_table(table, row_group_size=GROUP)
        assert writer is not None
        writer.close()


def fit(folder: Path, rows: int) -> None:
    import pytorch_lightning  # noqa: F401 - what it takes is not the fit's
    from mlops_lightning.trainer import LightningTrainer, Network

    numbers = tuple(Column(name=name, kind="number", dtype="float32") for name in NAMES)
    dataset = Dataset(
        name="bench", artifact=Artifact(address="", sha256="", size=0, files=2), path=folder,
        columns=(*numbers, Column(name="y", kind="category", dtype="string", roles=("target",))),
        rows={"train": rows, "validation": HELD}, task="binary", target="y", classes=("a", "b"),
    )  # fmt: skip
    for name in ("out", "scratch"):
        (folder / name).mkdir()
    job = Job(
        out=folder / "out", scratch=folder / "scratch", project=folder, seed=0, metric="auroc", mode="max",
        report=lambda step, scores: None,
    )  # fmt: skip
    net = Network(hidden=(16,), members=1, bins=4, embedding=1)
    trainer = LightningTrainer(
        epochs=1, batch_size=8192, threads=1, memory_mb=64, accelerator="cpu", export="safetensors", model=net
    )
    before, began = peak(), time.monotonic()
    scores = trainer.fit(dataset, job)
    seconds = time.monotonic() - began
    print(
        f"  {rows:>10,} rows: {peak():5.0f} MiB at the peak, {before:.0f} of them imports; {seconds:.1f} s, "
        f"auroc {scores['auroc']:.3f}",
        flush=True,
    )


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
