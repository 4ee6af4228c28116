"""A split as batches of tensors: in memory, or streamed piece by piece where it is larger than the budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mlops_core import Encoder, target_values, to_columns
from mlops_core.contracts import Dataset, Gang, SplitName

if TYPE_CHECKING:
    import polars as pl

COPIES = 4  # on its way to tensors a split is held as Arrow, as columns and as encoded arrays at once


@dataclass(frozen=True)
class Rows:
    """Some rows: the encoder's inputs, the target, and weights where the data set has them."""

    inputs: dict[str, Tensor]
    target: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: slice | Tensor) -> Rows:
        return self._map(lambda t: t[index])

    def join(self, other: Rows) -> Rows:
        inputs = {name: torch.cat([t, other.inputs[name]]) for name, t in self.inputs.items()}
        weight = None if self.weight is None or other.weight is None else torch.cat([self.weight, other.weight])
        return Rows(inputs, torch.cat([self.target, other.target]), weight)

    def to(self, device: Any) -> Rows:
        """The rows on a device; Lightning calls it for each batch."""
        return self._map(lambda t: t.to(device, non_blocking=True))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Rows:
        weight = None if self.weight is None else change(self.weight)
        inputs = {name: change(t) for name, t in self.inputs.items()}
        return dataclasses.replace(self, inputs=inputs, target=change(self.target), weight=weight)


class Batches:
    """Batches of one split, as Lightning wants a loader: sized, and iterable again and again.

    With `seed`, rows are shuffled anew in each `epoch` by the epoch's number, so that a resumed fit sees the order
    that it would have seen; a streamed split is shuffled piece by piece. A last batch of a single row is then left
    out: batch statistics need two. `pack` makes of rows what the module gets.

    With `gang`, these are its process's equal share of batches `workers` times as large: together the processes see
    what one would see, in the same order, but for fewer than `workers` rows at the end that cannot be shared out.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: SplitName,
        encoder: Encoder,
        size: int,
        *,
        seed: int | None = None,
        budget: float = math.inf,
        gang: Gang | None = None,
        pack: Callable[[Rows], Any] = lambda rows: rows,
    ) -> None:
        self.dataset, self.split, self.encoder, self.size = dataset, split, encoder, size
        self.seed, self.pack, self.epoch = seed, pack, 0
        self.rank, self.workers = (gang.rank, gang.workers) if gang else (0, 1)
        self.rows = dataset.rows[split]
        self.pieces = _pieces(self.rows, row_bytes(encoder) * COPIES, budget)
        self._kept: Rows | None = None

    def __len__(self) -> int:
        return math.ceil((self.rows - self._left_out) / self._together)

    def __iter__(self) -> Iterator[Any]:
        rng = None if self.seed is None else np.random.default_rng((self.seed, self.epoch))
        left: Rows | None = None
        for number, rows in enumerate(self.chunks(rng), 1):
            rows = rows if left is None else left.join(rows)
            order = None if rng is None else torch.from_numpy(rng.permutation(len(rows)))
            last = number == len(self.pieces)
            whole = len(rows) - (self._left_out if last else len(rows) % self._together)
            for start in range(0, whole, self._together):
                share = (min(start + self._together, whole) - start) // self.workers
                part = slice(start + self.rank * share, start + (self.rank + 1) * share)
                yield self.pack(rows.take(part if order is None else order[part]))
            left = rows.take(slice(whole, None) if order is None else order[whole:])

    @property
    def _together(self) -> int:
        """Rows of one batch of all processes."""
        return self.size * self.workers

    @property
    def _left_out(self) -> int:
        """Rows at the end that make no batch: single ones, and those that cannot be shared out."""
        if self.seed is None:
            return 0
        rest = self.rows % self._together
        return rest if rest // self.workers == 1 and self.rows > self.workers else rest % self.workers

    def chunks(self, rng: np.random.Generator | None = None) -> Iterator[Rows]:
        """The split in pieces that fit the budget, in order or shuffled; one piece is kept in memory."""
        if len(self.pieces) == 1:
            if self._kept is None:
                self._kept = self._read(*self.pieces[0])
            yield self._kept
            return
        for i in range(len(self.pieces)) if rng is None else rng.permutation(len(self.pieces)):
            yield self._read(*self.pieces[i])

    def sample(self, rows: int) -> Rows:
        """About `rows` rows of the first piece, evenly spaced."""
        piece = next(self.chunks())
        return piece.take(slice(None, None, max(1, len(piece) // rows)))

    def targets(self) -> tuple[Any, Any]:
        """Target, and weight or None, of the whole split as NumPy arrays."""
        parts = list(self.target_pieces())
        weights = [w for _, w in parts if w is not None]
        return torch.cat([t for t, _ in parts]).numpy(), torch.cat(weights).numpy() if weights else None

    def target_pieces(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Target, and weight or None, piece by piece; of a streamed split no other column is read."""
        if len(self.pieces) == 1:
            yield from ((rows.target, rows.weight) for rows in self.chunks())
            return
        names = [self.dataset.target, *(c.name for c in self.dataset.having("weight")[:1])]
        for offset, rows in self.pieces:
            frame = self._frame(offset, rows, names)
            yield self._target(frame), self._weight(frame)

    def _read(self, offset: int, rows: int) -> Rows:
        frame = self._frame(offset, rows)
        inputs = self.encoder.encode(to_columns(frame, self.dataset.having("feature")))
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        return Rows(tensors, self._target(frame), self._weight(frame))

    def _frame(self, offset: int, rows: int, columns: Sequence[str] = ()) -> pl.DataFrame:
        import polars as pl

        found = pl.scan_parquet(self.dataset.split(self.split)).slice(offset, rows)
        return (found.select(columns) if columns else found).collect(engine="streaming")

    def _target(self, frame: pl.DataFrame) -> Tensor:
        target = torch.tensor(target_values(frame, self.dataset))
        return target.float() if self.dataset.task == "regression" else target

    def _weight(self, frame: pl.DataFrame) -> Tensor | None:
        weights = self.dataset.having("weight")
        return torch.tensor(frame[weights[0].name].to_list(), dtype=torch.float32) if weights else None


def row_bytes(encoder: Encoder) -> int:
    """Bytes of one encoded row."""
    codes = 8 * len(encoder.categories) if encoder.layout == "split" else 0
    return 8 + 4 * encoder.width + codes + sum(4 * math.prod(a.shape) for a in encoder.arrays)


def _pieces(rows: int, row: int, budget: float) -> list[tuple[int, int]]:
    """(offset, rows) of pieces of the split, each within the budget of bytes; one where all fits."""
    piece = rows if rows * row <= budget else max(1, int(budget // row))
    return [(start, min(piece, rows - start)) for start in range(0, rows, piece)] if rows else [(0, 0)]
