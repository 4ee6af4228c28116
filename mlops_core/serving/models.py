"""The versions behind an endpoint, loaded here or as guests, and which of them answers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mlops_core.bundle import Bundle, open_bundle
from mlops_core.contracts import Columns, Route, Serving
from mlops_core.errors import MlopsError, ServingError
from mlops_core.serving.problems import Refused
from mlops_core.serving.rows import Reader
from mlops_core.serving.spelling import Speller
from mlops_core.serving.sticky import Sticky

if TYPE_CHECKING:
    from mlops_core.plugins import Plugins
    from mlops_core.serving.guests import Guest

CHOSEN = ("stable", "candidate")
GUESTS = ("candidate", "shadow")


class Known(Protocol):
    """A version behind the endpoint, wherever it lives."""

    version: int
    bundle: Bundle


class Loaded:
    """One version, ready to answer."""

    def __init__(self, version: int, bundle: Bundle) -> None:
        self.version = version
        self.bundle = bundle
        self.reader = Reader(bundle.signature)
        self.classes = bundle.model.classes
        self.speller = Speller(self.classes)

    def predict(self, columns: Columns) -> Columns:
        """The model's answer, all of it finite. Raises ServingError where it is not."""
        with np.errstate(all="ignore"):
            answer = self.bundle.predict(columns)
        measured = answer.get("probability", answer["prediction"])
        if measured.dtype.kind == "f" and not _finite(measured):
            rows = np.flatnonzero(~np.isfinite(measured).reshape(len(measured), -1).all(1))
            raise ServingError(
                f"version {self.version} gave no finite answer for {len(rows)} rows, first row {rows[0]}"
            )
        return answer


class Table:
    """An endpoint as it stands: immutable, replaced as a whole, so that a request sees one state.

    `loaded` are the versions in this process, `guests` those beside it; `first` is the stable version with most
    traffic, which answers where a guest cannot.
    """

    def __init__(self, serving: Serving, loaded: Mapping[int, Loaded], guests: Mapping[int, Guest]) -> None:
        self.serving = serving
        self.loaded = loaded
        self.guests = guests
        self.routes = {r.version: r for r in serving.routes}
        self.shadows = [guests[r.version] for r in serving.routes if r.role == "shadow"]
        self.sticky = Sticky(serving.sticky, serving.salt) if serving.sticky else None
        self._edges = _edges([r for r in serving.routes if r.role in CHOSEN and r.weight > 0])
        self.first = loaded[max((r for r in serving.routes if r.version in loaded), key=_rank).version]

    @property
    def versions(self) -> list[int]:
        return sorted(self.routes)

    def choose(self, draw: Callable[[], float] = random.random) -> Loaded | Guest:
        """A version by weight. `draw` gives a number in [0, 1): random, or a caller's sticky hash.

        Stable versions have the low numbers: a caller who came to a candidate stays with it as its share grows.
        """
        if len(self._edges) == 1:
            return self._at(self._edges[0][1])
        point = draw()
        return self._at(next((v for edge, v in self._edges if point < edge), self._edges[-1][1]))

    def version(self, text: str) -> Loaded | Guest:
        """The version asked for by number, whatever its role or weight."""
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
        if number not in self.routes:
            there = ", ".join(map(str, self.versions))
            raise Refused(404, f"model {self.serving.name!r} has no version {text[:40]!r} here; there is {there}")
        return self._at(number)

    def _at(self, version: int) -> Loaded | Guest:
        return self.loaded.get(version) or self.guests[version]


def load(serving: Serving, plugins: Plugins | None, before: Table | None = None) -> Table:
    """Opens every bundle that `before` has not loaded yet, and lets it answer its smoke set.

    Raises ServingError with the reason; nothing that is answering now is touched.
    """
    _check(serving)
    kept = {(m.version, m.bundle.sha256): m for m in before.loaded.values()} if before else {}
    known = {(g.version, g.bundle.sha256): g for g in before.guests.values()} if before else {}
    loaded: dict[int, Loaded] = {}
    guests: dict[int, Guest] = {}
    begun: list[Guest] = []
    try:
        for route in serving.routes:
            key = (route.version, route.sha256)
            if route.role not in GUESTS:
                loaded[route.version] = kept.get(key) or load_version(route, serving, plugins)
            elif key in known:
                guests[route.version] = known[key]
            else:
                guests[route.version] = _invite(route, serving, plugins)
                begun.append(guests[route.version])
    except ServingError:
        for guest in begun:
            guest.close()
        raise
    return Table(serving, loaded, guests)


def load_version(route: Route, serving: Serving, plugins: Plugins | None) -> Loaded:
    """One version, ready to answer, in this process. Raises ServingError with the reason."""
    where = f"version {route.version} of {serving.name!r}"
    try:
        bundle = open_bundle(
            Path(route.bundle), plugins=plugins, sha256=route.sha256, trust=serving.trust, threads=serving.threads
        )
        bundle.load()
        wrong = bundle.smoke()
    except MlopsError as error:
        raise ServingError(f"{where} cannot be served: {error}") from error
    except Exception as error:  # a model's own code may fail in any way
        raise ServingError(f"{where} cannot be served: {type(error).__name__}: {error}") from error
    if wrong:
        raise ServingError(f"{where} cannot be served: {wrong}")
    return Loaded(route.version, bundle)


def _invite(route: Route, serving: Serving, plugins: Plugins | None) -> Guest:
    from mlops_core.serving.guests import Guest

    try:
        bundle = open_bundle(Path(route.bundle), plugins=plugins, sha256=route.sha256, trust=serving.trust)
    except MlopsError as error:
        raise ServingError(f"version {route.version} of {serving.name!r} cannot be served: {error}") from error
    guest = Guest(route, serving, bundle)
    guest.start()
    return guest


def _check(serving: Serving) -> None:
    numbers = [r.version for r in serving.routes]
    total = sum(r.weight for r in serving.routes if r.role in CHOSEN)
    if len(set(numbers)) != len(numbers):
        raise ServingError(f"endpoint {serving.name!r} names a version twice: {sorted(numbers)}")
    if not any(r.role == "stable" for r in serving.routes):
        raise ServingError(f"endpoint {serving.name!r} has no stable version; one must answer where a candidate cannot")
    try:
        _ = Sticky(serving.sticky) if serving.sticky else None
    except ValueError as error:
        raise ServingError(f"endpoint {serving.name!r}: {error}") from None
    if any(r.weight < 0 for r in serving.routes) or abs(total - 100) > 1e-6:
        raise ServingError(
            f"endpoint {serving.name!r}: weights of the stable and candidate routes sum to {total:g}, expected 100"
        )


def _finite(values: Any) -> bool:
    """Whether all are. The sum of their squares, which is cheap, settles it for all but the very large."""
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def _rank(route: Route) -> tuple[bool, float]:
    return route.role == "stable", route.weight


def _edges(routes: list[Route]) -> list[tuple[float, int]]:
    edges, so_far = [], 0.0
    for route in sorted(routes, key=lambda r: CHOSEN.index(r.role)):
        so_far += route.weight / 100
        edges.append((so_far, route.version))
    return edges
