"""Data source `toy`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt

from mlops_core.contracts import Table
from mlops_core.errors import DataError


@dataclass(frozen=True)
class Toy:
    """Points around one centre per class, with a colour that hints at the class.

    rows: how many points
    classes: how many classes
    spread: standard deviation around a centre; centres are 2 apart
    seed: of the random numbers
    """

    rows: Annotated[int, Ge(0)] = 300
    classes: Annotated[int, Ge(2)] = 2
    spread: Annotated[float, Gt(0)] = 0.7
    seed: int = 0

    def read(self) -> Table:
        import numpy as np
        import pyarrow as pa

        if not self.rows:
            raise DataError("toy: no rows were asked for; set data.rows")
        rng = np.random.default_rng(self.seed)
        kind = rng.integers(0, self.classes, self.rows)
        x = 2.0 * kind + rng.normal(0, self.spread, self.rows)
        y = rng.normal(0, self.spread, self.rows)
        hint = np.where(rng.random(self.rows) < 0.8, kind, 0)
        colours = [None if rng.random() < 0.05 else f"c{h}" for h in hint]
        return pa.table({"x": x, "y": y, "colour": colours, "kind": [f"k{k}" for k in kind]})

    def schema(self) -> Mapping[str, str]:
        return {"x": "float64", "y": "float64", "colour": "string", "kind": "string"}

    def fingerprint(self) -> Mapping[str, str] | None:
        return {name: str(getattr(self, name)) for name in ("rows", "classes", "spread", "seed")}
