"""The versions behind an endpoint, loaded, and which of them answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_core.bundle import Bundle, open_bundle
from mlops_core.contracts import Columns, Route, Serving
from mlops_core.errors import MlopsError, ServingError
from mlops_core.serving.problems import Refused
from mlops_core.serving.rows import Reader

if TYPE_CHECKING:
    from mlops_core.plugins import Plugins

CHOSEN = ("stable", "candidate")


class Loaded:
    """One version, ready to answer."""

    def __init__(self, version: int, bundle: Bundle) -> None:
        self.version = version
        self.bundle = bundle
        self.reader = Reader(bundle.signature)
        self.classes = bundle.model.classes

    def predict(self, columns: Columns) -> Columns:
        """The model's answer, all of it finite. Raises ServingError where it is not."""
        with np.errstate(all="ignore"):
            answer = self.bundle.predict(columns)
        measured = answer.get("probability", answer["prediction"])
        if measured.dtype.kind == "f" and not np.isfinite(measured).all():
            rows = np.flatnonzero(~np.isfinite(measured).reshape(len(measured), -1).all(1))
            raise ServingError(
                f"version {self.version} gave no finite answer for {len(rows)} rows, first row {rows[0]}"
            )
        return answer

    def plain(self, answer: Columns) -> list[dict[str, Any]]:
        """The answer as one object per row."""
        values = answer["prediction"].tolist()
        if "probability" not in answer:
            return [{"prediction": v} for v in values]
        classes = self.classes
        return [
            {"prediction": v, "probability": dict(zip(classes, p, strict=True))}
            for v, p in zip(values, answer["probability"].tolist(), strict=True)
        ]


class Table:
    """An endpoint as it stands: immutable, replaced as a whole, so that a request sees one state."""

    def __init__(self, serving: Serving, loaded: Mapping[int, Loaded]) -> None:
        self.serving = serving
        self.loaded = loaded
        answering = [r for r in serving.routes if r.role in CHOSEN and r.weight > 0]
        self._edges = _edges(answering)
        self.first = loaded[max(answering, key=lambda r: r.weight).version]

    def choose(self, draw: Callable[[], float] = random.random) -> Loaded:
        """A version by weight. `draw` gives a number in [0, 1): random, or a caller's sticky hash."""
        if len(self._edges) == 1:
            return self.first
        point = draw()
        return self.loaded[next((v for edge, v in self._edges if point < edge), self._edges[-1][1])]

    def version(self, text: str) -> Loaded:
        """The version asked for by number, whatever its role or weight."""
        found = self.loaded.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else None
        if found is None:
            there = ", ".join(map(str, sorted(self.loaded)))
            raise Refused(404, f"model {self.serving.name!r} has no version {text[:40]!r} here; there is {there}")
        return found


def load(serving: Serving, plugins: Plugins | None, have: Iterable[Loaded] = ()) -> Table:
    """Opens every bundle that is not loaded yet, and lets it answer its smoke set.

    Raises ServingError with the reason; nothing that is answering now is touched.
    """
    _check(serving)
    kept = {(m.version, m.bundle.sha256): m for m in have}
    loaded = {r.version: kept.get((r.version, r.sha256)) or _load(r, serving, plugins) for r in serving.routes}
    return Table(serving, loaded)


def _load(route: Route, serving: Serving, plugins: Plugins | None) -> Loaded:
    where = f"version {route.version} of {serving.name!r}"
    try:
        bundle = open_bundle(Path(route.bundle), plugins=plugins, sha256=route.sha256, trust=serving.trust)
        wrong = bundle.smoke()
    except MlopsError as error:
        raise ServingError(f"{where} cannot be served: {error}") from error
    except Exception as error:  # a model's own code may fail in any way
        raise ServingError(f"{where} cannot be served: {type(error).__name__}: {error}") from error
    if wrong:
        raise ServingError(f"{where} cannot be served: {wrong}")
    return Loaded(route.version, bundle)


def _check(serving: Serving) -> None:
    numbers = [r.version for r in serving.routes]
    total = sum(r.weight for r in serving.routes if r.role in CHOSEN)
    if len(set(numbers)) != len(numbers):
        raise ServingError(f"endpoint {serving.name!r} names a version twice: {sorted(numbers)}")
    if any(r.weight < 0 for r in serving.routes) or abs(total - 100) > 1e-6:
        raise ServingError(
            f"endpoint {serving.name!r}: weights of the stable and candidate routes sum to {total:g}, expected 100"
        )


def _edges(routes: list[Route]) -> list[tuple[float, int]]:
    edges, so_far = [], 0.0
    for route in routes:
        so_far += route.weight / 100
        edges.append((so_far, route.version))
    return edges
