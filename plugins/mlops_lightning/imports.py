"""The user's classes by import path: found, fresh, of the right kind, and told well where they are not."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mlops_core.errors import TrainingError, did_you_mean

NAMESPACES = ("pytorch_lightning", "lightning.pytorch")
OURS = ("mlops_core", "mlops_lightning")  # a project may lie around them; they are never imported anew
_seen: dict[str, tuple[str, int, int]] = {}  # module of some project -> its file, mtime_ns and size when imported


@contextlib.contextmanager
def importable(project: Path) -> Iterator[None]:
    """The project folder comes first on the import path; what was imported from it and is stale goes."""
    folder = str(project)
    _forget_stale(folder)
    before, writes = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, folder)
    # Bytecode is matched by size and whole seconds: an edit right after a fit would run the old code.
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(folder)
        _remember(folder, set(sys.modules) - before)


def find(path: str, option: str, base: str) -> type:
    """The class at `path`, a subclass of Lightning's `base`. Raises TrainingError, naming `option`."""
    home, _, name = path.rpartition(":" if ":" in path else ".")
    if not home or not name:
        raise TrainingError(f"{option} {path!r} is no import path; expected file.ClassName")
    module = _import(home, path, option)
    found = getattr(module, name, None)
    if found is None:
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and namespace(v, base)]
        raise TrainingError(f"{option} {path!r}: {module.__file__} has no {name!r}; {did_you_mean(name, classes)}")
    if not isinstance(found, type) or not namespace(found, base):
        bases = ", ".join(f"{b.__module__}.{b.__qualname__}" for b in getattr(found, "__bases__", ()))
        what = f"a class on {bases}" if bases else f"{type(found).__name__} {found!r:.60}"
        raise TrainingError(f"{option} {path!r} must be a {base} of {' or '.join(NAMESPACES)}, and is {what}")
    return found


def namespace(cls: type, base: str = "LightningModule") -> str:
    """The Lightning namespace whose `base` the class derives from, or ''."""
    for parent in cls.__mro__[1:]:
        for name in NAMESPACES:
            if parent.__name__ == base and parent.__module__.startswith(name + "."):
                return name
    return ""


def make(cls: type, options: Mapping[str, Any], option: str) -> Any:
    """The object, its arguments checked by name first."""
    signature = inspect.signature(cls)
    names = [p.name for p in signature.parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    free = any(p.kind == p.VAR_KEYWORD for p in signature.parameters.values())
    for key in options:
        if key not in names and not free:
            raise TrainingError(f"{option}.{key}: {cls.__name__} takes no such argument; {did_you_mean(key, names)}")
    needed = [n for n, p in signature.parameters.items() if p.default is p.empty and n in names and n not in options]
    if needed:
        raise TrainingError(f"{option}: {cls.__name__} also needs {', '.join(needed)}; it takes {signature}")
    try:
        return cls(**options)
    except Exception as error:
        raise TrainingError(f"{option}: {cls.__name__} cannot be made: {words(error)}") from error


def _import(home: str, path: str, option: str) -> ModuleType:
    try:
        return importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name and (home == error.name or home.startswith(error.name + ".")):
            folder = Path(sys.path[0])
            near = did_you_mean(home, _files(folder))
            raise TrainingError(
                f"{option} {path!r}: no module {error.name!r} in {folder} or installed; {near}"
            ) from error
        raise TrainingError(f"{option} {path!r} cannot be imported: {words(error)}") from error
    except Exception as error:
        raise TrainingError(f"{option} {path!r} cannot be imported: {words(error)}") from error


def words(error: Exception, project: Path | None = None) -> str:
    """The error with the line of the user's file that it came from."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    own = [
        f
        for f in frames
        if f.filename.startswith(str(project or sys.path[0]) + "/") and "site-packages" not in f.filename
    ]
    place = f"{own[-1].filename}:{own[-1].lineno}: " if own else ""
    return f"{place}{type(error).__name__}: {error}"


def _files(folder: Path) -> list[str]:
    found = [p.stem for p in folder.glob("*.py")]
    return found + [
        ".".join(p.relative_to(folder).with_suffix("").parts)
        for p in folder.glob("*/*.py")
        if p.parent.name != ".mlops"
    ]


def _forget_stale(folder: str) -> None:
    """Drops the modules of every project seen so far, if any of them changed or is another project's."""
    known = {name: _stat(file) for name, (file, _, _) in _seen.items()}
    if all(
        now == then and now[0].startswith(folder + "/")
        for now, then in zip(known.values(), _seen.values(), strict=True)
    ):
        return
    for name in _seen:
        sys.modules.pop(name, None)
    _seen.clear()


def _remember(folder: str, fresh: set[str]) -> None:
    for name in fresh:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(folder + "/") and "site-packages" not in file and name.partition(".")[0] not in OURS:
            _seen[name] = _stat(file)


def _stat(file: str) -> tuple[str, int, int]:
    try:
        stat = Path(file).stat()
    except OSError:
        return file, 0, 0
    return file, stat.st_mtime_ns, stat.st_size
