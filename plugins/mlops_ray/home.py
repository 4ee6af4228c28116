"""Trials on nodes of a cluster that do not see the folder of their search: what they leave is brought to it.

An actor where the search runs takes it. A result passes through Tune, which keeps all of it, and an object is lost with
the node that made it; what an actor has answered is at home.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_core.contracts import Params, Scores, Start
from mlops_core.errors import TrainingError
from mlops_core.stages import Objective
from mlops_ray.runtime import private_folder

EVERY = 5.0  # seconds at least between two checkpoints that are brought
SHARE = 0.1  # of its time that a trial may wait for them
LIMIT = 512 * 2**20  # bytes of a checkpoint
PIECE = 16 * 2**20  # bytes in one call
LIVE = 0.5  # seconds between two looks at what a trial printed
SAID = 20_000  # bytes of it that are brought at once
ANSWER = 300.0  # seconds in which home answers
SECRETS = "MLOPS_SECRETS"


def lent() -> dict[str, str]:
    """The secrets of this process: the variables that MLOPS_SECRETS names, and itself."""
    found = {name: os.environ[name] for name in os.environ.get(SECRETS, "").split(",") if name in os.environ}
    return {**found, SECRETS: ",".join(found)} if found else {}


@dataclass(frozen=True)
class Road:
    """The way home: who sees `token` is there."""

    home: Any
    token: Path
    lends: bool

    def borrow(self) -> None:
        """The secrets of the search, in the environment of this process."""
        import ray

        if not self.lends:
            return
        try:
            os.environ.update(ray.get(self.home.lent.remote(), timeout=ANSWER))
        except ray.exceptions.RayError as error:
            raise TrainingError(f"the secrets of this run cannot be had here: {_words(error)}") from None


@contextlib.contextmanager
def road_home(objective: Objective, out: Path) -> Iterator[Road]:
    """For the trials of the search in `out`, for as long as the block."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for left in out.glob("home-*"):
        left.unlink()
    token = out / f"home-{secrets.token_hex(8)}"  # a name that no cache of a shared disk knows to be missing
    token.touch()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    home = ray.remote(Home).options(num_cpus=0, scheduling_strategy=here).remote(objective, out)
    values = lent()
    try:
        if values:
            # in a call of a few bytes, which goes from process to process: arguments of an actor's beginning are kept
            # in the head's table, and what is in the object store may be spilled to a disk
            try:
                ray.get(home.lend.remote(values), timeout=ANSWER)
            except ray.exceptions.RayError as error:
                raise TrainingError(f"the trials cannot be handed the secrets of this run: {_words(error)}") from error
        yield Road(home, token, bool(values))
    finally:
        ray.kill(home)
        token.unlink(missing_ok=True)


class Home:
    """The actor. Trials have a folder each, as if they ran here."""

    def __init__(self, objective: Objective, out: Path) -> None:
        self._objective: Any = objective
        self._out, self._lent = out, dict[str, str]()

    def lend(self, values: Mapping[str, str]) -> None:
        self._lent = dict(values)

    def lent(self) -> dict[str, str]:
        return self._lent

    def begin(self, number: int) -> Iterator[tuple[str, bytes]]:
        """The checkpoint of a trial, in pieces."""
        for left in self._folder(number).glob("brought-*"):  # by an attempt that died
            shutil.rmtree(left, ignore_errors=True)
        yield from _pieces(self._folder(number) / "scratch")

    def said(self, number: int, text: bytes) -> None:
        with (self._folder(number) / "output.log").open("ab") as log:
            log.write(text)

    def clear(self, number: int, key: str) -> None:
        shutil.rmtree(self._folder(number) / f"brought-{key}", ignore_errors=True)

    def take(self, number: int, key: str, name: str, piece: bytes) -> None:
        _append(self._folder(number) / f"brought-{key}" / name, piece)

    def checkpoint(self, number: int, key: str) -> None:
        """What was taken under this key is the checkpoint, now that all of it is here."""
        fresh, at = self._folder(number) / f"brought-{key}", self._folder(number) / "scratch"
        old = fresh.with_name(f"{fresh.name}-old")
        if at.exists():
            at.rename(old)
        fresh.mkdir(exist_ok=True)  # there may be no file in it
        fresh.rename(at)
        shutil.rmtree(old, ignore_errors=True)

    def wants(self, params: Params, scores: Scores, after: int | None) -> bool:
        """Whether `keep` would keep what a trial with these scores left."""
        return hasattr(self._objective, "away") and bool(self._objective.wants(params, scores, after))

    def keep(self, number: int, key: str, params: Params, scores: Scores, after: int | None) -> None:
        fresh = self._folder(number) / f"brought-{key}"
        try:
            self._objective.keep(params, scores, fresh, after)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _folder(self, number: int) -> Path:
        folder = self._out / "trials" / f"{number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Place:
    """Where an attempt at a trial works: its folder among those of the search."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def own(self, objective: Objective) -> Objective:
        """The objective as it is to be called here."""
        return objective

    def begin(self) -> None:
        """Its checkpoint is there."""

    def left_by(self, number: int) -> Path:
        """The checkpoint that another trial left."""
        return self.folder.parent / f"{number:04d}" / "scratch"

    def reported(self) -> None:
        """A checkpoint may have been left."""

    def ended(self, params: Params, scores: Scores, start: Start | None) -> None:
        """It ran to its end."""


@contextlib.contextmanager
def place_of(road: Road | None, out: Path, number: int) -> Iterator[Place]:
    """The trial's folder, or where that is not to be seen a private one."""
    if road is None or road.token.exists():
        yield Place(out / "trials" / f"{number:04d}")
        return
    with private_folder() as folder:
        away = Away(folder / "trial", road.home, number)
        with away.heard():
            yield away


class Away(Place):
    """A folder on another node. What cannot be brought from there or to it is told in output.log; the trial goes on."""

    def __init__(self, folder: Path, home: Any, number: int) -> None:
        super().__init__(folder)
        self._home, self._number, self._key = home, number, secrets.token_hex(4)
        self._brought: dict[str, Any] = {}
        self._next, self._heard, self._large = 0.0, 0, False

    def own(self, objective: Any) -> Any:
        return objective.away() if hasattr(objective, "away") else objective

    def begin(self) -> None:
        scratch = self.folder / "scratch"
        with self._told_if_not("the checkpoint"):
            self._fetch(self._number, scratch)
            self._brought = _state(scratch)
            return
        shutil.rmtree(scratch, ignore_errors=True)

    def left_by(self, number: int) -> Path:
        start = self.folder.parent / "start"
        self._fetch(number, start)
        return start

    def reported(self) -> None:
        began, scratch = time.monotonic(), self.folder / "scratch"
        if began < self._next or self._large:
            return
        with self._told_if_not("the checkpoint"):
            state = _state(scratch)
            if state == self._brought or self._too_large(sum(size for size, *_ in state.values())):
                return
            self._bring(scratch)
            if _state(scratch) == state:  # else something writes there in the background
                self._ask("checkpoint", self._number, self._key)
                self._brought = state
        self._next = time.monotonic() + max(EVERY, (time.monotonic() - began) / SHARE)

    def ended(self, params: Params, scores: Scores, start: Start | None) -> None:
        if start is not None:
            self._bring_the_last()
        after = start.after if start is not None else None
        with self._told_if_not("the model"):
            if self._ask("wants", params, scores, after):
                self._bring(self.folder, without=("scratch", "output.log"))
                self._ask("keep", self._number, self._key, params, scores, after)

    def _bring_the_last(self) -> None:
        """The checkpoint of a leg, whole: others go on from it. What fails here fails the leg."""
        scratch = self.folder / "scratch"
        size = sum(size for size, *_ in _state(scratch).values())
        if size > LIMIT:
            words = f"the {size >> 20} MiB of its checkpoint are more than {LIMIT >> 20}"
            raise TrainingError(f"{words}: a population of such fits needs nodes that see the folder of the search")
        self._bring(scratch)
        self._ask("checkpoint", self._number, self._key)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Brings what is printed in the block, while it is printed."""
        over = threading.Event()
        thread = threading.Thread(target=self._listen, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with contextlib.suppress(Exception):  # there is nobody left to tell
                self._ask("said", self._number, self._news())

    def _listen(self, over: threading.Event) -> None:
        while not over.wait(LIVE):
            with contextlib.suppress(Exception):
                news = self._news()
                if news:
                    self._home.said.remote(self._number, news)

    def _news(self) -> bytes:
        """The end of what was printed since this was asked the last time."""
        with (self.folder / "output.log").open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            first = log.seek(max(self._heard, size - SAID))
            found = log.read(size - first)
        skipped = b"...\n" if first > self._heard else b""
        self._heard = size
        return skipped + found

    def _bring(self, folder: Path, without: Collection[str] = ()) -> None:
        self._ask("clear", self._number, self._key)
        for name, piece in _pieces(folder, without):
            self._ask("take", self._number, self._key, name, piece)

    def _fetch(self, number: int, into: Path) -> None:
        """The checkpoint of a trial."""
        import ray

        for piece in self._home.begin.options(num_returns="streaming").remote(number):
            name, content = ray.get(piece, timeout=ANSWER)
            _append(into / name, content)

    def _ask(self, what: str, *told: Any) -> Any:
        import ray

        return ray.get(getattr(self._home, what).remote(*told), timeout=ANSWER)

    def _too_large(self, size: int) -> bool:
        self._large = size > LIMIT
        if self._large:
            words = f"its {size >> 20} MiB are more than {LIMIT >> 20}; on another node this trial would begin anew"
            print(f"the checkpoint is not brought to where the search runs: {words}", file=sys.stderr)
        return self._large

    @contextlib.contextmanager
    def _told_if_not(self, what: str) -> Iterator[None]:
        import ray

        try:
            yield
        except (ray.exceptions.RayError, OSError) as error:
            print(f"{what} did not pass between here and where the search runs: {_words(error)}", file=sys.stderr)


def _words(error: Exception) -> str:
    """The first line of what was raised here or there."""
    cause = getattr(error, "cause", None) or error
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)


def _pieces(folder: Path, without: Collection[str] = ()) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file, in the order of its parts; an empty one has one part."""
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        name = file.relative_to(folder)
        if name.parts[0] in without:
            continue
        with file.open("rb") as source:
            yield str(name), source.read(PIECE)
            while piece := source.read(PIECE):
                yield str(name), piece


def _append(file: Path, piece: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as out:
        out.write(piece)


def _state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What changes where a file changes; size first."""
    found = {str(f): f.stat() for f in folder.rglob("*") if f.is_file()}
    return {name: (told.st_size, told.st_mtime_ns, told.st_ino) for name, told in found.items()}
