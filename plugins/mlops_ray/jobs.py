"""Launcher `ray`: a project as a Ray job."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from mlops_core.contracts import Parcel, Submission
from mlops_core.errors import LaunchError, UsageError
from mlops_ray import jobs_aboard
from mlops_ray.jobs_client import connect, send

STATES: dict[str, Any] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "stopped",
}
OURS = "mlops_project"
ENDING = 30.0  # seconds that a stopped job may take to end


@dataclass(frozen=True)
class RayLauncher:
    """Runs a command of mlops as a job of a Ray cluster, through the REST API of its dashboard.

    The project becomes the job's working directory; plugins that are checkouts here come beside it. Where the cluster
    asks for a token, it is that of RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token. The values of secrets go
    through the cluster's memory and are taken out there once, by the job's driver: they are in no job description,
    log or file. Workers on other nodes do not have them.

    address: the dashboard, http://HEAD:8265 or https://...; RAY_API_SERVER_ADDRESS where it is not given
    cpus: processor cores to reserve for the command itself; with 0 it runs on the head node
    gpus: graphics processors to reserve for the command itself
    """

    address: str = ""
    cpus: Annotated[float, Ge(0)] = 0
    gpus: Annotated[float, Ge(0)] = 0

    def submit(self, parcel: Parcel) -> Submission:
        """See `mlops_core.stages.Launcher`."""
        client, held = connect(self.address), ""
        environment = {
            "working_dir": send(client, parcel.project.read_bytes()),
            "py_modules": [send(client, content) for content in _beside(parcel)],
            **({"pip": list(parcel.requirements)} if parcel.requirements else {}),
        }
        try:
            if parcel.secrets:
                values = {name: os.environ[name] for name in parcel.secrets}
                held = send(client, json.dumps(values).encode(), f"mlops-{secrets.token_hex(16)}")
            id = _submitted(
                client,
                entrypoint=f"python -m mlops_aboard {shlex.join(parcel.words)}",
                submission_id=f"{parcel.name}-{secrets.token_hex(4)}",
                runtime_env={**environment, "env_vars": {"MLOPS_PARCEL": _told(parcel, held)}},
                metadata={OURS: parcel.name, "mlops_words": json.dumps(parcel.words)},
                **({"entrypoint_num_cpus": self.cpus} if self.cpus else {}),
                **({"entrypoint_num_gpus": self.gpus} if self.gpus else {}),
            )
        except BaseException:
            _empty(client, held)
            raise
        return Submission(id=id, project=parcel.name, words=parcel.words, state="waiting")

    def follow(self, id: str, out: Callable[[str], None], notice: Callable[[str], None]) -> Submission:
        """See `mlops_core.stages.Launcher`."""
        from mlops_ray.jobs_tail import tail

        client = connect(self.address)
        _look(client, id)
        found = tail(client, id, functools.partial(_look, client, id), out, notice)
        if found.exit_code != 0:  # it may have ended before it took them
            _empty(client, _parcel(client.get_job_info(id)))
        return found

    def status(self, id: str) -> Submission:
        return _look(connect(self.address), id)

    def all(self) -> Sequence[Submission]:
        """See `mlops_core.stages.Launcher`."""
        found = [d for d in connect(self.address).list_jobs() if OURS in (d.metadata or {})]
        return [_submission(d) for d in sorted(found, key=lambda d: -(d.start_time or 0))]

    def stop(self, id: str) -> bool:
        """See `mlops_core.stages.Launcher`."""
        client = connect(self.address)
        if _look(client, id).over:
            return False
        client.stop_job(id)
        _empty(client, _parcel(client.get_job_info(id)))
        end = time.monotonic() + ENDING
        while not _look(client, id).over:
            if time.monotonic() > end:
                raise LaunchError(f"{id} was told to stop and has not ended after {ENDING:g} s")
            time.sleep(0.2)
        return True


def _beside(parcel: Parcel) -> Iterator[bytes]:
    """What must be importable there: our first module, and plugins of checkouts."""
    yield _zip({"mlops_aboard.py": Path(jobs_aboard.__file__).read_text()})
    if parcel.beside:
        yield parcel.beside.read_bytes()


def _told(parcel: Parcel, held: str) -> str:
    """What our first module is told there; anybody may read it."""
    names, settings = list(parcel.secrets), dict(parcel.settings)
    return json.dumps({"expects": dict(parcel.expects), "secrets": names, "settings": settings, "parcel": held})


def _submitted(client: Any, **job: Any) -> str:
    try:
        return str(client.submit_job(**job))
    except LaunchError as error:
        raise LaunchError(f"{error}; the job may have been taken all the same: see 'mlops submit list'") from error
    except (RuntimeError, ValueError) as error:
        text = str(error).strip()
        if "No available agent" in text:
            text = "its agent is not ready; two clusters on one host need a --dashboard-agent-listen-port each"
        raise LaunchError(f"the cluster did not take the job: {text.splitlines()[-1]}") from error


def _empty(client: Any, parcel: str) -> None:
    """Nobody will take the secrets of a job that does not begin: they must not stay."""
    if parcel:
        with contextlib.suppress(Exception):
            send(client, b"{}", parcel.removeprefix("gcs://").removesuffix(".zip"))


def _parcel(details: Any) -> str:
    """Where the secrets of a job were put; '' where it has none."""
    variables = (details.runtime_env or {}).get("env_vars") or {}
    return str(json.loads(variables.get("MLOPS_PARCEL", "{}")).get("parcel", ""))


def _look(client: Any, id: str) -> Submission:
    """How a job stands. Raises UsageError where there is none of that id."""
    try:
        return _submission(client.get_job_info(id))
    except RuntimeError as error:
        if "404" not in str(error):
            raise LaunchError(f"the cluster does not tell of {id}: {str(error).splitlines()[0]}") from error
        raise UsageError(f"the cluster knows no submission {id!r}; see 'mlops submit list'") from error


def _submission(details: Any) -> Submission:
    metadata, state = details.metadata or {}, STATES[str(getattr(details.status, "value", details.status))]
    message, code = _end(details, state)
    return Submission(
        id=details.submission_id or "",
        project=metadata.get(OURS, ""),
        words=tuple(json.loads(metadata.get("mlops_words", "[]"))),
        state=state,
        message=message,
        exit_code=code,
        began=_time(details.start_time),
        ended=_time(details.end_time),
    )


def _end(details: Any, state: str) -> tuple[str, int | None]:
    """What is to be said of its end, and the command's exit code; Ray's own client knows only 0 and 1."""
    code, message = details.driver_exit_code, ""
    if state not in ("succeeded", "failed", "stopped"):
        return "", None
    if state != "failed":
        return message, 0 if state == "succeeded" else 130
    if code is None:
        lines = [line.strip() for line in str(details.message or "").splitlines() if line.strip()]
        return f"it did not begin: {lines[-1][:500] if lines else 'for no reason that Ray tells'}", 1
    if code == 127:
        return "the cluster has no command 'python'", 1
    if code < 0 or code > 128:
        return f"it was killed by signal {-code if code < 0 else code - 128}; was it out of memory?", 1
    return message, int(code)


def _time(milliseconds: int | None) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds") if milliseconds else ""


def _zip(texts: dict[str, str]) -> bytes:
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return out.getvalue()
