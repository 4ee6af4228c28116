"""Ray on demand: started here where nobody did, silent, on loopback only, and stopped again.

An embedded Ray keeps everything it writes, its access token included, in one private folder with a short
path (Unix sockets allow 107 characters), which is removed when it stops.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_core import hold, is_held
from mlops_core.errors import MlopsError

PREFIX = "mlops-ray-"
OBJECT_STORE = 128 * 1024 * 1024
SILENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # one machine: every socket on loopback
    "RAY_agent_register_timeout_ms": "300000",  # a busy machine is no reason to give up
}
# What a job of a cluster finds: the files and modules that they name are in that cluster's memory, not in ours.
OF_ANOTHER = ("RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_ADDRESS")


@contextlib.contextmanager
def ray_running(
    address: str, failure: type[MlopsError], *, env: Mapping[str, str] | None = None, preload: Iterable[str] = ()
) -> Iterator[Path | None]:
    """Ray, for as long as the block: 'local' starts one and stops it, anything else is joined and left.

    A Ray that this process is connected to already is used as it is. Gives the private folder of a Ray that
    was started here. Raises `failure` where no Ray can be had.
    """
    import ray

    if ray.is_initialized():
        yield None
        return
    if address != "local":
        _reach(address, failure)
        with _settings_of_ray() if _only_on_loopback(address) else contextlib.nullcontext():
            try:
                _join(address, failure)
                yield None
            finally:
                ray.shutdown()
        return
    with private_folder() as folder, started(folder, failure, env=env, preload=preload):
        yield folder


@contextlib.contextmanager
def started(
    folder: Path, failure: type[MlopsError], *, env: Mapping[str, str] | None = None, preload: Iterable[str] = ()
) -> Iterator[None]:
    """A Ray of our own in `folder`, with `env` in all of its processes."""
    import ray

    settings: dict[str, str | None] = {**SILENT, "PYTHONPATH": _pythonpath(), **_token(folder), **(env or {})}
    settings |= dict.fromkeys(OF_ANOTHER)
    modules = [m for m in preload if m]
    if modules:
        settings["RAY_preload_python_modules"] = ",".join(modules)
    with environment(settings), _settings_of_ray(), _signals():
        try:
            with _few_processes():
                _start(folder, failure)
            yield
        finally:
            ray.shutdown()


def _start(folder: Path, failure: type[MlopsError]) -> None:
    import ray

    for attempt in (1, 2):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                object_store_memory=OBJECT_STORE,
                _temp_dir=str(folder / "ray"),  # Ray opens its own folder to everybody
            )
            return
        except Exception as error:  # raylet gives up in many ways when a machine is too busy
            ray.shutdown()
            if attempt == 2:
                why = _first_line(error)
                raise failure(f"ray did not start on this machine, tried twice: {why}; is it out of memory?") from error
            time.sleep(2)


@contextlib.contextmanager
def _few_processes() -> Iterator[None]:
    """A Ray without its autoscaler, log monitor and API server: three Python processes that have nothing to do on one
    machine whose logs nobody reads and whose dashboard is off. They cost 2 CPU seconds at the start and 290 MiB."""
    from ray._private.node import Node

    def none(node: Any, **_: Any) -> None:
        node._webui_url = ""

    names = ("start_monitor", "start_log_monitor", "start_api_server")
    before = {name: getattr(Node, name) for name in names}
    for name in names:
        setattr(Node, name, none)
    try:
        yield
    finally:
        for name in names:
            setattr(Node, name, before[name])


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _join(address: str, failure: type[MlopsError]) -> None:
    import ray

    try:
        with environment(SILENT):
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (Exception, SystemExit) as error:  # a cluster of another version, no cluster, a wrong token
        ray.shutdown()
        raise failure(f"no ray cluster can be joined at {address!r}: {_first_line(error)}") from error


def _only_on_loopback(address: str) -> bool:
    """Whether the cluster there cannot be reached by this machine's own address, which Ray would put in the place of
    127.0.0.1, and then wait for minutes."""
    import ray

    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost"):
        return False
    try:
        socket.create_connection((ray.util.get_node_ip_address(), int(port)), timeout=5).close()
    except OSError:
        return True
    return False


def _reach(address: str, failure: type[MlopsError]) -> None:
    """Ray itself would try an unreachable address for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        if address == "auto":
            return
        raise failure(f"address {address!r} is neither 'local', 'auto' nor 'host:port'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
        raise failure(f"no ray cluster answers at {address!r}: {error}; set address to 'local' to run here") from error


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder of ours only, under a short path; what killed processes left behind is swept first."""
    root = Path("/tmp") if os.access("/tmp", os.W_OK) else Path(tempfile.gettempdir())
    _sweep(root)
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=root))
    with hold(made / "lock"):
        folder = made.rename(root / made.name.removeprefix("."))  # nobody sees it under this name without its lock
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Also what has no lock: a worker that was still starting makes the folder of its dead Ray again."""
    for folder in root.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):  # somebody else's
            if not is_held(folder / "lock") and folder.stat().st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _token(folder: Path) -> dict[str, str]:
    """Whoever may read this file may run code in this Ray: we only."""
    path = folder / "token"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def _pythonpath() -> str:
    """What this process can import, its workers can: the project's folder, a plugin's checkout."""
    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own = [p for p in sys.path if p and p not in installed and not p.endswith((".zip", "lib-dynload"))]
    return os.pathsep.join(dict.fromkeys([*own, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))


@contextlib.contextmanager
def environment(settings: Mapping[str, str | None]) -> Iterator[None]:
    """`settings` in the environment of this process and of those it starts, for as long as the block; None unsets."""
    before = {name: os.environ.get(name) for name in settings}
    _set(settings)
    try:
        yield
    finally:
        _set(before)


def _set(settings: Mapping[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _settings_of_ray() -> Iterator[None]:
    """Ray reads its environment once, when it is imported, which may have been long ago."""
    from ray._private import ray_constants, worker
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # it has a stub, in parts

    def read(cluster: Any, say: Any) -> None:
        ray_constants.ENABLE_RAY_CLUSTER = cluster
        worker.print_to_stdstream = say
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()

    before: Any = ray_constants.ENABLE_RAY_CLUSTER
    say: Any = worker.print_to_stdstream  # raylet's news of dead workers, which log_to_driver does not silence
    read(False, lambda *_, **__: None)
    try:
        yield
    finally:
        read(before, say)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself and would keep it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
