"""What all kits share: promises in words, and those that every plugin makes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from mlops_core.contracts import plain
from mlops_core.options import make, options_of


class BrokenPromise(AssertionError):
    """A plugin does not do what its kind promises."""


def broken(words: str) -> NoReturn:
    raise BrokenPromise(words)


def promise(kept: object, words: str) -> None:
    """Raises BrokenPromise with `words`, which tell the promise and what was found instead."""
    if not kept:
        broken(words)


def check_options(plugin: Any) -> None:
    """The options are fields of a frozen dataclass, each with a line in the manual, and can be given in YAML."""
    cls = type(plugin)
    promise(dataclasses.is_dataclass(cls), f"{cls.__name__} must be a dataclass whose fields are its options")
    params = getattr(cls, "__dataclass_params__", None)
    promise(params and params.frozen, f"{cls.__name__} must be frozen: @dataclass(frozen=True)")
    manual = inspect.getdoc(cls) or ""
    promise(manual and not manual.startswith(f"{cls.__name__}("), f"{cls.__name__} needs a docstring: it is the manual")
    for option in options_of(cls):
        promise(
            option.doc, f"option {option.name!r} needs a line '{option.name}: ...' in the docstring of {cls.__name__}"
        )
    options = {o.name: getattr(plugin, o.name) for o in options_of(cls)}
    try:
        again = make(cls, options)
    except Exception as error:
        raise BrokenPromise(f"the options of {cls.__name__} cannot be given as YAML: {error}") from error
    promise(again == plugin, f"{cls.__name__} made again of its own options differs: {plain(options)}")


@contextlib.contextmanager
def nothing_written(*folders: Path, doing: str) -> Iterator[None]:
    """Checks that the files under `folders` are the same after the block as before, and so is the folder we are in."""
    before, here = [snapshot(f) for f in folders], Path.cwd()
    yield
    promise(Path.cwd() == here, f"{doing} must not change the current folder; it went to {Path.cwd()}")
    for folder, old in zip(folders, before, strict=True):
        new = snapshot(folder)
        changed = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
        promise(
            not changed, f"{doing} must not write outside its own folders; it changed {folder / (changed or [''])[0]}"
        )


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[Path]:
    """Makes `folder` and stands in it, so that files written by a relative path are seen."""
    folder.mkdir(parents=True, exist_ok=True)
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(here)


def snapshot(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file below `folder`."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
