"""What code a stage depends on: digests of first-party modules, versions of third-party distributions.

A stage's plugin, and everything first-party that it imports, transitively, is part of the stage's key; so an
edited helper module is noticed. Modules are read as syntax trees without docstrings: comments and formatting
do not count. Nothing is imported to find out. Results are cached by the files' stat.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

FORMAT = 1


class Code:
    """Source digests and library versions, cached in `cache` (a JSON file; None: no cache)."""

    def __init__(self, cache: Path | None, project: Path) -> None:
        self.cache, self.project = cache, project
        self._changed = False

    def parts(self, modules: Iterable[str], own: Iterable[str]) -> dict[str, str]:
        """`code.<module>` -> digest for the closure of `modules`, and `library.<distribution>` -> version.

        First-party are the top-level packages in `own`, and whatever lies in the project folder; only they
        are followed. Everything else counts by the version of its distribution.
        """
        todo, seen = [(m, None) for m in modules], dict[str, str]()
        outside, known = set[str](), frozenset(own)
        done = set[tuple[str, str | None]]()
        while todo:
            module, name = todo.pop()
            if (module, name) in done:
                continue
            done.add((module, name))
            file = self._file(module)
            if file is None and name and self._file(f"{module}.{name}"):  # a folder without __init__.py
                todo.append((f"{module}.{name}", None))
                continue
            if file is None or not self._first_party(module, file, known):
                outside.add(module.split(".")[0])
                continue
            facts = self._facts(file)
            if name is not None:
                if self._file(f"{module}.{name}"):
                    todo.append((f"{module}.{name}", None))
                    continue
                lazy = facts["lazy"].get(name)
                if lazy:  # re-exported on demand: the module itself is not run for it beyond its table
                    todo.append((_absolute(module, file, *lazy), None))
                    continue
            if module in seen:
                continue
            seen[module] = facts["digest"]
            if self._users(file):  # importing a module runs its package first
                todo += [(parent, None) for parent in _parents(module) if self._file(parent)]
            for level, base, names in facts["imports"]:
                target = _absolute(module, file, level, base)
                todo += [(target, n) for n in names] or [(target, None)]
        self._save()
        found = {f"code.{m}": d[:16] for m, d in sorted(seen.items())}
        return found | {f"library.{k}": v for k, v in sorted(self._versions(outside).items())}

    def _first_party(self, module: str, file: Path, own: frozenset[str]) -> bool:
        return module.split(".")[0] in own or self._users(file)

    def _users(self, file: Path) -> bool:
        """Whether a file lies in the project, and not in an environment that was made inside it."""
        if self.project not in file.parents:
            return False
        return not any(env in file.parents for env in self._environments)

    @cached_property
    def _environments(self) -> tuple[Path, ...]:
        return tuple(p for p in (Path(sys.prefix), Path(sys.base_prefix)) if self.project in p.parents)

    def _file(self, module: str) -> Path | None:
        found: str | None = self._specs.get(module, "")
        if found == "":
            found = self._specs[module] = _locate(module, self._specs_paths, str(self.project))
        return Path(found) if found else None

    def _facts(self, file: Path) -> Mapping[str, Any]:
        stat = os.stat(file)
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        entry = self._cached["files"].get(str(file))
        if not entry or entry["mark"] != mark:
            entry = {"mark": mark, **_read(file)}
            self._cached["files"][str(file)] = entry
            self._changed = True
        return entry  # type: ignore[no-any-return]

    def _versions(self, names: set[str]) -> dict[str, str]:
        names = {n for n in names if n not in sys.stdlib_module_names}
        places = [[p, os.stat(p).st_mtime_ns] for p in sys.path if p and os.path.isdir(p) and "packages" in p]
        if self._cached["places"] != places:
            self._cached |= {"places": places, "versions": {}}
        missing = sorted(names - set(self._cached["versions"]))
        if missing:
            self._cached["versions"] |= _distributions(missing)
            self._changed = True
        found: dict[str, str] = {}
        for name in sorted(names):
            found |= self._cached["versions"].get(name) or {}
        return found

    @cached_property
    def _specs(self) -> dict[str, str | None]:
        return {}

    @cached_property
    def _specs_paths(self) -> dict[str, list[str] | None]:
        return {}

    @cached_property
    def _cached(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"format": [FORMAT, sys.version], "files": {}, "places": [], "versions": {}}
        try:
            data = json.loads(self.cache.read_text()) if self.cache else empty
        except (OSError, ValueError):
            return empty
        return data if data.get("format") == empty["format"] else empty

    def _save(self) -> None:
        if not (self._changed and self.cache):
            return
        try:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            passing = self.cache.with_name(f"{self.cache.name}.{os.getpid()}")
            passing.write_text(json.dumps(self._cached))
            os.replace(passing, self.cache)
            self._changed = False
        except OSError:
            return  # a cache that cannot be written costs time, nothing else


def _locate(module: str, parents: dict[str, list[str] | None], project: str) -> str | None:
    """The source file of a module, found without importing it; None for what has none (built-in, missing)."""
    head = module.rpartition(".")[0]
    if head:
        if head not in parents:
            _locate(head, parents, project)
        path = parents.get(head)
        if not path:
            return None
    else:
        path = [project, *sys.path]
    spec = _spec(module, path)
    parents[module] = list(spec.submodule_search_locations or []) if spec else None
    origin = spec.origin if spec else None
    return origin if origin and origin.endswith(".py") else None


def _spec(module: str, path: list[str]) -> importlib.machinery.ModuleSpec | None:
    """PathFinder looks into `path` alone; a package that it misses, a finder of an editable install may know."""
    for finder in (importlib.machinery.PathFinder, *(() if "." in module else sys.meta_path)):
        try:
            spec: importlib.machinery.ModuleSpec | None = finder.find_spec(module, path)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec:
            return spec
    return None


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _absolute(module: str, file: Path, level: int, base: str) -> str:
    if not level:
        return base
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    package = package[: len(package) - (level - 1)]
    return ".".join([*package, base] if base else package)


def _read(file: Path) -> dict[str, Any]:
    text = file.read_bytes()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # its import will tell the user; until then its bytes count
        return {"digest": hashlib.sha256(text).hexdigest(), "imports": [], "lazy": {}}
    imports, lazy = list(_imports(tree)), dict[str, tuple[int, str]]()
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for inner in node.body:
                if isinstance(inner, ast.ImportFrom):
                    lazy |= {a.asname or a.name: (inner.level, inner.module or "") for a in inner.names}
    for part in ast.walk(tree):
        body = getattr(part, "body", None)
        if isinstance(part, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                part.body = body[1:] or [ast.Pass()]
    has_getattr = any(isinstance(n, ast.FunctionDef) and n.name == "__getattr__" for n in tree.body)
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return {"digest": digest, "imports": imports, "lazy": lazy if has_getattr else {}}


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, list[str]]]:
    """(level, module, names) of every import that can run: also inside functions, not for type checkers."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            stack += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((0, a.name, []) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [a.name for a in node.names if a.name != "*"]
        stack += ast.iter_child_nodes(node)


def _distributions(names: Iterable[str]) -> dict[str, dict[str, str]]:
    import importlib.metadata as metadata

    owners = metadata.packages_distributions()
    found: dict[str, dict[str, str]] = {}
    for name in names:
        found[name] = {dist.lower(): metadata.version(dist) for dist in sorted(set(owners.get(name, [])))}
    return found
