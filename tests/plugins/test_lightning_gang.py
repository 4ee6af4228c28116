"""What the processes of a gang train on: no row twice, none left out but a few at the end, the batches of one."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from lightning_kit import frozen, table
from mlops_lightning.learning.data import Batches
from mlops_lightning.learning.gang import _interface, _Place, _place_class
from mlops_lightning.learning.tabular import Tabular
from mlops_lightning.options import Options

from mlops_core import Encoder
from mlops_core.contracts import Gang


def shares(data: Any, encoder: Encoder, workers: int, size: int, **more: Any) -> list[list[list[float]]]:
    """For each process its batches, as the targets of their rows."""
    found = []
    for rank in range(workers):
        gang = Gang(rank=rank, workers=workers, meet="")
        batches = Batches(data, "train", encoder, size, seed=3, gang=gang, **more)
        batches.epoch = 2
        found.append([batch.target.tolist() for batch in batches])
        assert len(found[-1]) == len(batches)
    return found


@pytest.mark.parametrize("budget", [float("inf"), 10_000])
@pytest.mark.parametrize(("rows", "workers", "size"), [(300, 2, 16), (300, 3, 7), (301, 4, 32), (215, 2, 64)])
def test_shares_do_not_overlap_and_make_the_batches_of_one_process(
    tmp_path: Path, rows: int, workers: int, size: int, budget: float
) -> None:
    data = frozen(tmp_path / "data", table("regression", rows), "y", "regression")
    encoder = Encoder.fit(data, layout="split")
    one = Batches(data, "train", encoder, size * workers, seed=3, budget=budget)
    one.epoch = 2
    assert (len(one.pieces) > 1) == (budget == 10_000)
    whole = [batch.target.tolist() for batch in one]
    found = shares(data, encoder, workers, size, budget=budget)
    assert len({len(batches) for batches in found}) == 1, "each process makes as many steps"
    for step, parts in enumerate(zip(*found, strict=True)):
        assert len({len(part) for part in parts}) == 1
        together = [value for part in parts for value in part]
        assert together == whole[step][: len(together)]
        assert len(whole[step]) - len(together) < workers
    seen = [value for batches in found for batch in batches for value in batch]
    assert len(seen) == len(set(seen)), "no row twice"
    every = pl.read_parquet(data.split("train"))["y"].cast(pl.Float32).to_list()
    assert set(seen) <= set(every)
    assert len(every) - len(seen) < 2 * workers


def test_a_last_batch_of_a_row_for_each_is_left_out(tmp_path: Path) -> None:
    data = frozen(tmp_path / "data", table("regression", 300), "y", "regression")
    assert data.rows["train"] == 210
    encoder = Encoder.fit(data, layout="split")
    assert [[len(batch) for batch in batches] for batches in shares(data, encoder, 2, 26)] == [[26] * 4] * 2


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_a_streamed_split_teaches_what_one_in_memory_does(tmp_path: Path, task: Any) -> None:
    data = frozen(tmp_path / "data", table(task, 400), "y", task)
    encoder = Encoder.fit(data, layout="split")
    options = Options(class_weight="balanced")
    nets = [Tabular.of(options, data, Batches(data, "train", encoder, 8, budget=b)) for b in (float("inf"), 10_000)]
    for name in ("center", "scale"):
        torch.testing.assert_close(*(getattr(n.net, name) for n in nets))
    torch.testing.assert_close(*(n.classes for n in nets))


@pytest.mark.parametrize("namespace", ["pytorch_lightning", "lightning.pytorch"])
def test_each_process_stands_for_a_node_with_one_device(namespace: str) -> None:
    import importlib

    made = _place_class(importlib.import_module(namespace))(Gang(rank=1, workers=2, meet="127.0.0.1:80"))
    assert isinstance(made, _Place)
    assert (made.main_address, made.main_port) == ("127.0.0.1", 80)
    assert (made.world_size(), made.global_rank(), made.node_rank(), made.local_rank()) == (2, 1, 1, 0)


def test_the_interface_of_an_address_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        assert _interface(probe, "127.0.0.1").startswith("lo")
        assert _interface(probe, "203.0.113.7") == "", "an address of nobody"
