"""A model's answer as JSON, an object for each row, without making one for any."""

from __future__ import annotations

from typing import Any

import orjson

from mlops_core.bundle import to_orjson
from mlops_core.contracts import Columns

KEPT = 1000  # predictions whose spelling is remembered
END = b"}},"


class Speller:
    """Spells `{"prediction": ...}`, and beside it `"probability": {class: share, ...}` where there are shares."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        keys = [orjson.dumps(name) + b":" for name in classes]
        self._count = len(keys)
        self._heads = _Heads(b',"probability":{' + keys[0] if keys else b"")
        self._pattern = [b"," + part for key in keys for part in (key, b"")]  # a head or key, then its share

    def rows(self, answer: Columns) -> bytes:
        """`[{...}, ...]`, at least one. Raises ValueError where the shares are not one for each class."""
        values = answer["prediction"]
        if "probability" not in answer:
            return orjson.dumps([{"prediction": v} for v in values.tolist()])
        shares, count, step = answer["probability"], self._count, 2 * self._count
        if shares.shape != (len(values), count) or not count:
            raise ValueError(f"probability has shape {shares.shape}, expected {(len(values), count)}")
        spelled = _numbers(shares.reshape(-1))
        parts = self._pattern * len(values)
        parts[::step] = map(self._heads.__getitem__, values.tolist())
        for i in range(count):
            parts[2 * i + 1 :: step] = spelled[i::count]
        return b"[" + b"".join(parts)[len(END) :] + b"}}]"


class _Heads(dict[Any, bytes]):
    """By prediction: the end of the row before, and what stands before the first share."""

    def __init__(self, after: bytes) -> None:
        self._after = after

    def __missing__(self, value: Any) -> bytes:
        head = END + b'{"prediction":' + orjson.dumps(value) + self._after
        if len(self) < KEPT:
            self[value] = head
        return head


def _numbers(values: Any) -> list[bytes]:
    return orjson.dumps(to_orjson(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
