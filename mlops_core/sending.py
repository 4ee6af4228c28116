"""A project on its way to another machine: what would be lost there is refused here, the rest is packed and sent."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from mlops_core import packing
from mlops_core.contracts import KINDS, Choice, Declaration, Kind, Parcel, Secret, Submission
from mlops_core.errors import PluginError, UsageError, did_you_mean
from mlops_core.flow.proving import revision
from mlops_core.ledger import whoami
from mlops_core.options import bare
from mlops_core.plugins import Offer, Plugins
from mlops_core.stages import Launcher

OURS = "mlops-core-framework"
COMMANDS = ("run", "plan", "check", "config", "status", "versions", "plugins")  # those that mean anything there
READING = ("data", "trainer", "tuner", "monitor")  # kinds whose paths are read there; what others name, they write
TRAVEL = ("env", "requirements", "max_mb")
LEDGERS = ("postgresql://", "postgresql+psycopg://", "postgres://")
HOW = {
    "ledger": "store.ledger: ${oc.env:LEDGER_URL}   # a PostgreSQL URL; send the variable with --env LEDGER_URL",
    "objects": "store.objects: s3://bucket/prefix    # any fsspec URL; file:///path for a disk that both share",
}
PINNED = re.compile(r"[\w.-]+(\[[\w., -]+\])?\s*(==\s*[^\s;*]+|@\s*\S+)\s*(;.*?)?(\s--hash=\S+)*")


def launcher(plugins: Plugins, choice: Choice | None, given: Mapping[str, Any]) -> Launcher:
    """The launcher declared, or the only one there is, with what is `given` in place of its options."""
    name = str(given.get("plugin") or (choice.plugin if choice else ""))
    if not name:
        names = plugins.names("launcher")
        if len(names) != 1:
            raise UsageError("no launcher is declared: add 'launcher: NAME' to the defaults of conf/config.yaml")
        name = names[0]
    options = dict(choice.options) if choice and choice.plugin == name else {}
    options |= {k: v for k, v in given.items() if k not in (*TRAVEL, "plugin")}
    built: Launcher = plugins.build("launcher", Choice(plugin=name, options=options))
    return built


def submit(
    root: Path,
    declaration: Declaration,
    plugins: Plugins,
    words: Sequence[str],
    given: Mapping[str, Any],
    notice: Callable[[str], None],
) -> Submission:
    """Sends the project with `mlops` `words`. Raises UsageError, before anything is sent, for what cannot go well."""
    travel = {**declaration.travel, **given}
    _refuse_words(declaration, words)
    _refuse_lost(declaration)
    sender = launcher(plugins, declaration.launcher, given)
    secrets = tuple(dict.fromkeys([*declaration.travel.get("env", ()), *given.get("env", ())]))
    _refuse_unset(secrets)
    requirements = _pinned(root, str(travel.get("requirements") or ""))
    files = packing.travelling(root)
    _refuse_absent(root, declaration, plugins, {f.name for f in files})
    _refuse_keys(root, declaration, {f.name for f in files})
    guests = _guests(declaration, plugins)
    beside = [f for offer in guests if _checkout(offer) for f in packing.module_files(offer.package)]
    packing.refuse_large([*files, *beside], int(travel.get("max_mb") or 50))
    for name in sorted(set(re.findall(r"\$\{\s*oc\.env:\s*(\w+)", declaration.text)) - set(secrets)):
        notice(f"the declaration reads {name} from the environment there; --env {name} sends what it is here")
    with tempfile.TemporaryDirectory(prefix="mlops-") as folder:
        parcel = Parcel(
            name=declaration.name,
            words=tuple(words),
            project=packing.pack(files, Path(folder) / "project.zip"),
            beside=packing.pack(beside, Path(folder) / "beside.zip", _metadata(guests)) if beside else None,
            expects=_expects(guests),
            requirements=requirements,
            secrets=secrets,
            settings={"MLOPS_ACTOR": whoami(), "MLOPS_REVISION": json.dumps(revision(root))},
        )
        return sender.submit(parcel)


def overrides_of(words: Sequence[str]) -> tuple[str, ...]:
    """The overrides of the declaration among the words of a command."""
    return tuple(w for w in words[1:] if not w.startswith("-") and ("=" in w or w.startswith("~")))


def _refuse_words(declaration: Declaration, words: Sequence[str]) -> None:
    if not words:
        raise UsageError("nothing to run there: write the command after '--', as in 'mlops submit -- run'")
    if words[0] not in COMMANDS:
        raise UsageError(f"{words[0]!r} cannot be sent; {did_you_mean(words[0], COMMANDS)}")
    if any(w.split("=")[0] == "--project" for w in words):
        raise UsageError("--project belongs before '--': there the project is where the command runs")
    if words[0] == "run" and declaration.deployer is not None and not _until(words):
        raise UsageError(
            "an endpoint made there would end with the job: send 'run --until gate'; 'mlops run' here then makes the "
            "endpoint, of what was trained there"
        )


def _until(words: Sequence[str]) -> bool:
    """Whether a run ends before an endpoint is made."""
    told = " ".join(words).replace("=", " ").split()
    return any(a == "--until" and b != "deploy" for a, b in itertools.pairwise(told))


def _refuse_lost(declaration: Declaration) -> None:
    """Raises UsageError where the ledger or the objects would lie on the disk of the other machine."""
    ledger, objects = (str.__str__(declaration.store.get(name) or "") for name in HOW)
    lost = []
    if not ledger.startswith(LEDGERS):
        lost.append("ledger")
    if "://" not in objects or objects.startswith("memory://"):
        lost.append("objects")
    if lost:
        keys = " and ".join(f"store.{name}" for name in lost)
        lines = [f"  {HOW[name]}" for name in lost]
        raise UsageError(
            "\n".join([f"what is made there would be lost with its disk; set {keys} in conf/config.yaml", *lines])
        )


def _refuse_unset(names: Sequence[str]) -> None:
    unset = [name for name in names if name not in os.environ]
    if unset:
        raise UsageError(f"not set in the environment here: {', '.join(unset)}; a secret is sent by its name (--env)")


def _refuse_absent(root: Path, declaration: Declaration, plugins: Plugins, names: set[str]) -> None:
    """Raises UsageError for a declared file or folder that is here and does not travel."""
    for kind, choice in _choices(declaration):
        if kind not in READING:
            continue
        cls = plugins.offer(kind, choice.plugin).cls
        for key, path in _paths(cls, choice.options):
            if not path.exists() or _travels(root, path, names):
                continue
            why = "is left out by an ignore file" if path.is_relative_to(root) else "lies outside the project"
            raise UsageError(
                f"{kind}.{key}: {path} {why} and does not travel; give a URL, a DVC path, or take it along "
                "('!NAME' in .mlopsignore)"
            )
        for key, value in choice.options.items():
            if isinstance(value, str) and not isinstance(value, Secret) and value.startswith("sqlite:"):
                raise UsageError(f"{kind}.{key}: {value} is a database on this disk; give one that both can reach")


def _refuse_keys(root: Path, declaration: Declaration, names: set[str]) -> None:
    """Raises UsageError for a private key in a file, which must not travel, and a public one that does not."""
    for name, value in declaration.signing.items():
        path = root / str.__str__(value) if value and "-----BEGIN" not in value else None
        if path is None or not path.is_file():
            continue
        if name == "key":
            raise UsageError(
                f"signing.key: {path} must not travel; send what is in it by the environment: "
                f"signing.key=${{oc.env:MODEL_KEY}}, --env MODEL_KEY"
            )
        if not _travels(root, path, names):
            raise UsageError(f"signing.{name}: {path} does not travel; '!{path.name}' in .mlopsignore takes it along")


def _travels(root: Path, path: Path, names: set[str]) -> bool:
    if not path.is_relative_to(root):
        return False
    name = path.relative_to(root).as_posix()
    return name in names or any(n.startswith(f"{name}/") for n in names)


def _choices(declaration: Declaration) -> Iterator[tuple[Kind, Choice]]:
    for kind in KINDS:
        choice = getattr(declaration, kind, None)
        if choice is not None:
            yield kind, choice
    yield from (("observer", choice) for choice in declaration.observers)


def _paths(hint: Any, value: Any, key: str = "") -> Iterator[tuple[str, Path]]:
    """Every path in options of type `hint`, by dotted key."""
    inner = bare(hint)
    if is_dataclass(inner) and isinstance(value, Mapping):
        hints = typing.get_type_hints(inner, include_extras=True)
        for name in (f.name for f in fields(inner) if f.name in value):
            yield from _paths(hints[name], value[name], f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        args = [a for a in typing.get_args(inner) if a is not Ellipsis]
        for i, v in enumerate(value):
            yield from _paths(args[0] if args else Any, v, f"{key}.{i}")
    elif (inner is Path or Path in typing.get_args(inner)) and value and "://" not in str(value):
        yield key, Path(str(value))


def _pinned(root: Path, name: str) -> tuple[str, ...]:
    """The lines of a requirements file. Raises UsageError for one that is not pinned: there it would be another."""
    if not name:
        return ()
    path = root / name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"launcher.requirements: cannot read {path}: {getattr(error, 'strerror', error)}") from error
    text = re.sub(r"\s*\\\n\s*", " ", text)
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if re.search(r"://[^/\s:@]*:[^/\s@]+@", line):
            raise UsageError(f"{path}:{number}: holds a password in clear; set the index on the cluster instead")
        if not PINNED.fullmatch(line):
            shown = f"{line!r} is an option" if line.startswith("-") else f"{line!r} is not pinned"
            raise UsageError(f"{path}:{number}: {shown}; only lines such as 'name==1.2.3' travel")
    return tuple(filter(None, lines))


def _guests(declaration: Declaration, plugins: Plugins) -> tuple[Offer, ...]:
    """The declared plugins that are not ours, one of each distribution's packages."""
    found = [plugins.offer(kind, choice.plugin) for kind, choice in _choices(declaration)]
    return tuple({(o.distribution, o.package): o for o in found if o.distribution != OURS}.values())


def _checkout(offer: Offer) -> bool:
    """Whether it is importable here from a folder of sources, which no index can give to another machine."""
    import importlib.util
    import sysconfig

    spec = importlib.util.find_spec(offer.package)
    homes = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return bool(spec and spec.origin) and homes.isdisjoint(Path(str(spec.origin)).resolve().parents)  # type: ignore[union-attr]


def _metadata(guests: Sequence[Offer]) -> dict[str, str]:
    """What makes plugins of checkouts found there: their distribution's name, version and entry points."""
    from importlib.metadata import PackageNotFoundError, distribution

    texts: dict[str, str] = {}
    for offer in filter(_checkout, guests):
        try:
            found = distribution(offer.distribution)
        except PackageNotFoundError as error:
            raise PluginError(f"plugin {offer.name!r} is of no distribution that is installed here") from error
        folder = f"{offer.distribution.replace('-', '_')}-{found.version}.dist-info"
        texts[f"{folder}/METADATA"] = f"Metadata-Version: 2.1\nName: {offer.distribution}\nVersion: {found.version}\n"
        texts[f"{folder}/entry_points.txt"] = found.read_text("entry_points.txt") or ""
    return texts


def _expects(guests: Sequence[Offer]) -> dict[str, str]:
    from importlib.metadata import version

    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        OURS: version(OURS),
        **{o.distribution: o.version for o in guests if not _checkout(o)},
    }
