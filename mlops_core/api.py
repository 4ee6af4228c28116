"""Every command as one typed call. The CLI is a skin over this; notebooks and services use it alike.

Each takes the project's folder and Hydra overrides (`["trainer.lr=0.01"]`), raises `MlopsError` for what a
person can mend, and leaves nothing open.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.contracts import Choice, Endpoint, ModelVersion, Rollout, Submission, Verdict, Window, record
from mlops_core.errors import MlopsError, Problem, ServingError, StoreError, UsageError, did_you_mean
from mlops_core.ledger import AuditEntry, RunRow, whoami
from mlops_core.plan import Plan
from mlops_core.workspace import STATE, Workspace

if TYPE_CHECKING:
    from mlops_core.access import Key
    from mlops_core.config import Origin
    from mlops_core.flow import Finished
    from mlops_core.flow.keeping import Told
    from mlops_core.flow.rolling import Verb
    from mlops_core.flow.signing import Signed
    from mlops_core.forgetting import Found
    from mlops_core.plugins import Plugins
    from mlops_core.rollout.watch import Look
    from mlops_core.stages import Launcher

CHAMPION, PREVIOUS = "champion", "previous"
Waiting = Callable[[str], None] | None  # told who holds the project, once, where that is waited for


@record
class Rolling:
    """The latest rollout, and what its driver saw last (None before the first look); `driven` while it lives."""

    rollout: Rollout
    look: Look | None
    driven: bool


@record
class Status:
    """What is there and how it does: versions, aliases, endpoint, verdict of the last window, last runs, rollout."""

    name: str
    versions: tuple[ModelVersion, ...]
    aliases: Mapping[str, int]
    endpoint: Endpoint | None
    verdict: Verdict | None
    window: Window | None
    runs: tuple[RunRow, ...]
    rollout: Rolling | None = None


def init(folder: Path, recipe: str = "credit") -> Path:
    """Makes a project folder from a shipped recipe. Refuses a folder that holds anything."""
    source = recipes()
    if recipe not in source:
        raise UsageError(f"unknown recipe {recipe!r}; {did_you_mean(recipe, source)}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; name a new folder")
    ignored = shutil.ignore_patterns(STATE, "__pycache__")
    try:
        shutil.copytree(source[recipe], folder, dirs_exist_ok=True, ignore=ignored)
    except OSError as error:  # shutil.Error, of many files, is one too
        raise StoreError.of(f"cannot make a project in {folder}", error) from error
    return folder


def recipes() -> dict[str, Path]:
    """The shipped recipes by name."""
    from mlops_core.shipped import shipped

    return {p.name: p for p in sorted(shipped("recipes").iterdir()) if (p / "conf" / "config.yaml").exists()}


def check(project: Path, overrides: Sequence[str] = ()) -> tuple[Problem, ...]:
    """Everything wrong with the declaration, each with its place and the nearest right thing; else empty."""
    from mlops_core.config import check as problems
    from mlops_core.config import find_root

    return problems(find_root(Path(project)), overrides)


def config(project: Path, overrides: Sequence[str] = ()) -> str:
    """The composed declaration as YAML, every default filled in; a secret stands as its reference."""
    from mlops_core.config import composed, find_root

    return composed(find_root(Path(project)), overrides)


def origins(project: Path, overrides: Sequence[str] = ()) -> Mapping[str, Origin]:
    """Dotted key -> its value and where that came from: file and line, preset, override, default."""
    from mlops_core.config import find_root
    from mlops_core.config import origins as found

    return found(find_root(Path(project)), overrides)


def plugins() -> Plugins:
    """What is installed: `all()`, `names(kind)`, `offer(kind, name)` with its manual, `options`, `broken`."""
    from mlops_core.plugins import Plugins

    return Plugins()


def plan(project: Path, overrides: Sequence[str] = ()) -> Plan:
    """What `run` would do and why; changes nothing."""
    from mlops_core.plan import plan as compute

    with _context(project, overrides, data=True) as context:
        return compute(context, _places(project, overrides, context.workspace.plugins))


def run(
    project: Path,
    overrides: Sequence[str] = (),
    *,
    cause: str = "manual",
    until: str = "",
    observers: Iterable[Any] = (),
    waiting: Waiting = None,
) -> Finished:
    """Makes reality equal to the declaration; see `mlops_core.flow.run` for what it gives and raises."""
    from mlops_core.flow import keeping
    from mlops_core.flow import run as close

    with _context(project, overrides, data=True) as context:
        _watch(context, observers)
        keeping.tidy(context)
        try:
            return close(context, cause, until, waiting)
        finally:
            _drive(context)


def status(project: Path, overrides: Sequence[str] = (), *, judge: bool = True) -> Status:
    """What is there. With `judge`, the monitor judges what the serving version has answered so far."""
    from mlops_core.flow import deploying, judging

    with _context(project, overrides) as context:
        name, ledger = context.declaration.name, context.workspace.ledger
        found = deploying.actual(context)
        _watch(context)
        judged: tuple[Window | None, Verdict] | None = None
        try:
            judged = judging.judge(context, found[1]) if judge and found else None
        except MlopsError as error:  # what cannot be judged is told, and hides nothing else
            plugin = context.declaration.monitor.plugin
            judged = None, Verdict(monitor=plugin, state="unknown", reasons=(str(error),))
        past = ledger.verdicts(name, limit=1)
        window, verdict = judged or (past[0] if past else (None, None))
        return Status(
            name=name,
            versions=_versions(context),
            aliases=ledger.aliases(name),
            endpoint=found[0] if found else None,
            verdict=verdict,
            window=window,
            runs=ledger.runs(name, limit=5),
            rollout=_rolling(context),
        )


def rollout(project: Path, overrides: Sequence[str] = ()) -> Rolling | None:
    """The latest rollout as it stands; None where there was none. Starts its driver again where that died."""
    with _context(project, overrides) as context:
        return _rolling(context)


def steer(
    project: Path, verb: Verb, *, reason: str = "", overrides: Sequence[str] = (), waiting: Waiting = None
) -> Rollout:
    """Pauses, resumes, promotes or aborts the rollout under way; the endpoint follows before this returns."""
    from mlops_core.flow import rolling

    with _context(project, overrides) as context:
        _watch(context)
        with rolling.traffic(context, waiting):
            seen = _rolling(context)
            moved = rolling.steer(context, verb, reason, _seen(seen.look if seen else None))
        _drive(context)
        return moved


def versions(project: Path, overrides: Sequence[str] = ()) -> tuple[tuple[ModelVersion, ...], Mapping[str, int]]:
    """Every version, and the aliases."""
    with _context(project, overrides) as context:
        return _versions(context), context.workspace.ledger.aliases(context.declaration.name)


def version(project: Path, number: int, overrides: Sequence[str] = ()) -> ModelVersion:
    """One version. Raises StoreError that names the versions there are."""
    with _context(project, overrides) as context:
        return _here(context, context.workspace.ledger.version(context.declaration.name, number))


def sign(project: Path, number: int, *, reason: str, overrides: Sequence[str] = ()) -> ModelVersion:
    """Signs an accepted version with the declared key, as one from before signing was declared; says so in the audit.

    Raises UsageError for a rejected version, and where the key cannot be used.
    """
    from mlops_core.flow import deploying, signing

    with _context(project, overrides) as context:
        signing.ready(context)
        version = context.workspace.ledger.version(context.declaration.name, number)
        deploying.lay_out(context, version)
        return _here(context, signing.sign(context, version, reason))


def signed(project: Path, number: int, overrides: Sequence[str] = ()) -> Signed:
    """Who signed a version, and whether the declared public key verifies it."""
    from mlops_core.flow import signing

    with _context(project, overrides) as context:
        return signing.signed(context, context.workspace.ledger.version(context.declaration.name, number))


def audit(project: Path, limit: int = 200, overrides: Sequence[str] = ()) -> tuple[tuple[AuditEntry, ...], str]:
    """The latest audit entries, and the first fault of the chain ('' when it is whole)."""
    with _context(project, overrides) as context:
        return context.workspace.ledger.audit(limit=limit), context.workspace.ledger.verify_audit()


def promote(
    project: Path,
    number: int,
    *,
    reason: str,
    now: bool = False,
    overrides: Sequence[str] = (),
    waiting: Waiting = None,
) -> Endpoint | None:
    """Makes an accepted version champion by hand, and the endpoint serve it; a run under way is waited for.

    Where the declaration has a rollout and an endpoint serves another champion, the version gets its traffic by
    that, unless `now`; a rollout under way gives way to it.
    """
    from mlops_core.flow import rolling
    from mlops_core.flow.proving import gradual

    with _context(project, overrides) as context:
        ledger, name = context.workspace.ledger, context.declaration.name
        chosen = ledger.version(name, number)
        if chosen.status != "accepted":
            why = "; ".join(chosen.reasons)
            raise UsageError(f"version {number} was rejected by its gate ({why}); only an accepted one can be promoted")
        _watch(context)
        with rolling.alone(context, waiting):
            before, running = ledger.aliases(name).get(CHAMPION), rolling.active(context)
            if before == number:
                raise UsageError(f"version {number} is the champion already")
            if gradual(context) and not now:
                if running and running.candidate == number:
                    raise UsageError(
                        f"the rollout of version {number} is {running.state}; 'mlops rollout promote' ends it"
                    )
                endpoint = rolling.begin(context, number, reason)[1]
                _drive(context)
                return endpoint
            if running and running.candidate == number:
                rolling.steer(context, "promote", reason)
            else:
                if running:
                    rolling.supersede(context, running, f"version {number} was made champion by hand: {reason}")
                _move(context, before, number, reason)
            return _redeploy(context, reason)


def rollback(
    project: Path, *, reason: str, overrides: Sequence[str] = (), waiting: Waiting = None
) -> tuple[int, Endpoint | None]:
    """Makes the previous champion champion again, and the endpoint serve it; a run under way is waited for. While a
    rollout is under way, that is aborted, and the champion stays."""
    from mlops_core.flow import rolling

    with _context(project, overrides) as context:
        ledger, name = context.workspace.ledger, context.declaration.name
        _watch(context)
        if rolling.active(context):
            with rolling.traffic(context, waiting):
                stable = rolling.steer(context, "abort", reason).stable
                return stable, _redeploy(context, reason, back=stable)
        with rolling.alone(context, waiting):
            aliases = ledger.aliases(name)
            previous, before = aliases.get(PREVIOUS), aliases.get(CHAMPION)
            if previous is None or previous == before:
                raise UsageError("there is no earlier champion to roll back to; see 'mlops versions'")
            _move(context, before, previous, reason)
            return previous, _redeploy(context, reason)


def deploy(project: Path, overrides: Sequence[str] = (), *, reason: str = "", waiting: Waiting = None) -> Endpoint:
    """Makes the endpoint as declared, with the champion and a rollout under way, and runs no stage: after a reboot.
    A run under way is waited for. Raises UsageError where there is nothing to serve."""
    from mlops_core.flow import deploying, rolling

    with _context(project, overrides) as context:
        _watch(context)
        with rolling.alone(context, waiting):
            wanted = deploying.desired(context)
            if wanted is None:
                if context.declaration.deployer is None:
                    raise UsageError("no deployer is declared, so nothing is served")
                raise UsageError("no version is champion yet: 'mlops run' makes one")
            endpoint = deploying.apply(context, wanted, reason)
        _drive(context)
        return endpoint


def stop(project: Path, overrides: Sequence[str] = (), *, reason: str = "") -> bool:
    """Stops the endpoint; False where none was running. A rollout under way stays as it is until the next run."""
    from mlops_core.flow import rolling

    with _context(project, overrides) as context:
        ledger, name = context.workspace.ledger, context.declaration.name
        recorded = ledger.desired(name)
        choice = Choice(plugin=recorded[0]) if recorded else context.declaration.deployer
        if choice is None:
            return False
        with rolling.traffic(context):  # else a rollout's driver would find the endpoint dead, and make it again
            stopped: bool = context.build("deployer", choice).stop(name, context.workspace.state / "serve" / name)
            if ledger.desired(name):
                ledger.desire(name, None, deployer=choice.plugin, actor=whoami(), reason=reason or "stopped by hand")
        return stopped


def submit(
    project: Path,
    words: Sequence[str],
    *,
    given: Mapping[str, Any] | None = None,
    notice: Callable[[str], None] = lambda line: None,
) -> Submission:
    """Sends the project, with a command such as `["run", "trainer.lr=0.01"]`, to the machine of the declared launcher.

    `given` stands in place of keys of `launcher:` (`{"address": "http://head:8265", "env": ["LEDGER_URL"]}`); its `env`
    is sent beside the declared one.
    Returns once it is there; `launcher().follow` gives its output. Raises before anything is sent where state would
    be lost, a declared file does not travel, or the machine does not answer.
    """
    from mlops_core import sending
    from mlops_core.config import declare, find_root
    from mlops_core.plugins import Plugins

    root, plugins = find_root(Path(project)), Plugins()
    declaration = declare(root, sending.overrides_of(words), data=False)
    return sending.submit(root, declaration, plugins, words, given or {}, notice)


def launcher(project: Path, given: Mapping[str, Any] | None = None) -> Launcher:
    """The declared launcher: `follow`, `status`, `stop` a submission, or list `all`.

    With an address `given`, no project is asked."""
    from mlops_core import sending
    from mlops_core.config import declare, find_root
    from mlops_core.plugins import Plugins

    given = given or {}
    choice = None if given.get("address") else declare(find_root(Path(project)), data=False).launcher
    return sending.launcher(Plugins(), choice, given)


def feedback(project: Path, path: Path, *, id: str = "id", label: str = "label", overrides: Sequence[str] = ()) -> Told:
    """Keeps the labels of a CSV, JSON lines or Parquet file by prediction id; the endpoint need not run.

    Raises DataError with the wrong rows; then none is kept.
    """
    from mlops_core.flow import keeping

    with _context(project, overrides) as context:
        return keeping.label(context, Path(path), id, label)


def forget(project: Path, where: Mapping[str, str], *, reason: str, overrides: Sequence[str] = ()) -> Found:
    """Erases a subject's rows from the prediction log, labels, windows and quarantine, and says so in the audit.

    `where`: column -> value as text; all must hold. Gives what went, and the frozen files that still hold it.
    """
    from mlops_core.flow import keeping

    with _context(project, overrides) as context:
        return keeping.forget(context, where, reason)


def create_key(
    project: Path,
    scope: str,
    *,
    model: str = "",
    expires: str = "",
    rate: str = "",
    who: str = "",
    reason: str = "",
    overrides: Sequence[str] = (),
) -> tuple[Key, str, str]:
    """A key for callers of the endpoint, its text, which is nowhere kept, and what is odd about it ('' or words).

    See `mlops_core.access.issue` for `expires` and `rate`. The running endpoint knows it at once.
    """
    from mlops_core.access import issue
    from mlops_core.flow import deploying

    with _context(project, overrides) as context:
        ledger, name = context.workspace.ledger, context.declaration.name
        key, text = issue(scope, model=model, expires=expires, rate=rate, who=who)
        ledger.add_key(name, key, actor=whoami(), reason=reason or f"for {who or scope}")
        deploying.tell_keys(context)
        odd = f"this project's model is {name!r}; the key opens only {model!r}" if model not in ("", name) else ""
        return key, text, odd


def keys(project: Path, overrides: Sequence[str] = ()) -> tuple[Key, ...]:
    """Every key that was ever made for the endpoint, the oldest first."""
    with _context(project, overrides) as context:
        found: tuple[Key, ...] = context.workspace.ledger.keys(context.declaration.name)
        return found


def revoke_key(project: Path, id: str, *, reason: str, overrides: Sequence[str] = ()) -> None:
    """From now on refused by every replica of the endpoint. Raises StoreError for an id that there is not."""
    from mlops_core.flow import deploying

    with _context(project, overrides) as context:
        context.workspace.ledger.revoke_key(context.declaration.name, id, actor=whoami(), reason=reason)
        deploying.tell_keys(context)


def predict(
    project: Path, rows: Sequence[Mapping[str, Any]] = (), *, samples: int = 0, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Asks the running endpoint. Without rows, sends the first `samples` rows of the champion's smoke set."""
    from mlops_core.flow import deploying
    from mlops_core.flow.asking import ask

    with _context(project, overrides) as context:
        found = deploying.actual(context)
        if found is None:
            raise ServingError("no endpoint is running; start it with 'mlops run'")
        endpoint, serving = found
        if not rows:
            rows = _sample_rows(serving.routes[0].bundle, samples or 1)
    return ask(endpoint, rows)


@contextlib.contextmanager
def _context(project: Path, overrides: Sequence[str], *, data: bool = False) -> Iterator[Any]:
    """The open project. Only where stages are at stake is the data asked: at 3 a.m. a version is rolled back though its
    source is out of reach."""
    from mlops_core.config import declare, find_root
    from mlops_core.flow import Context

    root = find_root(Path(project))
    workspace = Workspace(root, declare(root, overrides, data=data))
    try:
        yield Context(workspace, workspace.declaration, overrides=tuple(overrides))
    finally:
        workspace.close()


def _places(project: Path, overrides: Sequence[str], plugins: Any) -> Callable[[str], str]:
    """Where a value is written; the composed origins are only worked out when a cause is to be told."""
    from functools import cache

    from mlops_core.config import find_root, origins

    @cache
    def found() -> Mapping[str, Any]:
        return origins(find_root(Path(project)), overrides, plugins)

    def place(key: str) -> str:
        if key.startswith(("code.", "library.", "input.", "source", "tuned.")):
            return ""
        origin = found().get(key)
        return origin.place if origin else ""

    return place


def _versions(context: Any) -> tuple[ModelVersion, ...]:
    return tuple(_here(context, v) for v in context.workspace.ledger.versions(context.declaration.name))


def _here(context: Any, version: ModelVersion) -> ModelVersion:
    """The version with its bundle's place today: a project may have been moved since."""
    home = context.workspace.home("bundles", version.model.artifact)
    return replace(version, model=replace(version.model, path=home))


def _watch(context: Any, observers: Iterable[Any] = ()) -> None:
    """The declared observers, and those given, are told from now on."""
    plugins = context.workspace.plugins
    plugins.watch([*(plugins.build("observer", c) for c in context.declaration.observers), *observers])


def _move(context: Any, before: int | None, after: int, reason: str) -> None:
    from mlops_core.flow import deploying

    deploying.fit(context, context.workspace.ledger.version(context.declaration.name, after))
    moves = {CHAMPION: after} | ({PREVIOUS: before} if before is not None else {})
    context.workspace.ledger.set_aliases(context.declaration.name, moves, actor=whoami(), reason=reason)


def _drive(context: Any) -> None:
    """A rollout under way has its driver; one that died is started again."""
    from mlops_core.flow import rolling

    if rolling.active(context):
        from mlops_core.driver import ensure

        ensure(context)


def _seen(look: Look | None) -> Mapping[str, Any]:
    from mlops_core.rollout.machine import evidence

    return evidence(look) if look else {}


def _rolling(context: Any) -> Rolling | None:
    from mlops_core.contracts import restore
    from mlops_core.flow import rolling
    from mlops_core.serving.state import is_held, read_state

    latest = context.workspace.ledger.rollout(context.declaration.name)
    if latest is None:
        return None
    _drive(context)
    look, lock = None, rolling.held(context)
    with contextlib.suppress(OSError, ValueError):
        seen = read_state(lock.with_name("rollout.json"))
        if (seen["rollout"], seen["step"]) == (latest.id, latest.step):
            from mlops_core.rollout.watch import Look

            look = restore(Look, seen["look"])
    return Rolling(rollout=latest, look=look, driven=is_held(lock))


def _redeploy(context: Any, reason: str, back: int = 0) -> Endpoint | None:
    from mlops_core.flow import deploying

    if deploying.actual(context) is None:
        return None
    wanted = deploying.desired(context, back=back)
    return deploying.apply(context, wanted, reason) if wanted else None


def _sample_rows(bundle: Path, count: int) -> list[dict[str, Any]]:
    from mlops_core.bundle import sample_rows

    return sample_rows(bundle)[:count]
