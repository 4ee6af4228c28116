"""Several processes that fit the model of one trial together: a gang, on the trial's own placement group.

Rank 0 is the process of the trial. Its peers are actors on the other bundles; they stay warm for the next trial of this
process, and end with it. Ray Train would start a group of its own for each trial, outside of Tune's resources.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_core.contracts import Gang, Params, Pruned, Scores
from mlops_core.errors import TrainingError
from mlops_core.stages import Objective
from mlops_ray.home import lent
from mlops_ray.runtime import private_folder
from mlops_ray.trial import Told, WorkerFailed, tidy, words

GRACE = 5.0  # seconds in which the others see by themselves that one of them has ended
TAIL = 20_000  # characters of a peer's output that output.log is given
CUT_OFF = re.compile(r"gloo|nccl|Connection (closed|reset|refused)|Broken pipe|Dist\w+Error|did not end", re.I)

_peers: dict[str, list[Any]] = {}  # of this process, by its placement group


def together(
    objective: Objective, params: Params, out: Path, told: Told, resources: Mapping[str, float], workers: int
) -> Scores:
    """The scores of rank 0, which is this process. Raises what it raises; WorkerFailed where a peer was the cause."""
    peers, meet = _peers_of(workers), _meeting_place()
    kept = _files(out / "scratch")
    calls = [
        peer.fit.remote(objective, params, resources, Gang(rank=rank, workers=workers, meet=meet), kept, lent())
        for rank, peer in enumerate(peers, 1)
    ]
    try:
        with _watched(calls):
            scores = objective(params, out, told, resources, Gang(rank=0, workers=workers, meet=meet))
    except Pruned:
        _ended(calls)
        raise
    except Exception as error:
        why = _cause(words(error), _ended(calls))
        if why:
            print(why, file=sys.stderr)
            raise WorkerFailed(why) from None
        raise
    _ended(calls)
    return scores


class Peer:
    """One more process of a gang. Fits what rank 0 sends, in a folder of its own, which may be on another machine."""

    def fit(
        self,
        objective: Objective,
        params: Params,
        resources: Mapping[str, float],
        gang: Gang,
        kept: dict[str, bytes],
        secrets: Mapping[str, str],
    ) -> tuple[str, str]:
        """Why it failed, or '', and what it printed."""
        os.environ.update(secrets)
        with private_folder() as folder:
            for name, content in kept.items():
                file = folder / "scratch" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            log, why = folder / "output.log", ""
            with log.open("w", buffering=1) as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                try:
                    objective(params, folder, lambda step, scores: None, resources, gang)
                except Pruned:
                    pass
                except Exception as error:
                    traceback.print_exc()
                    why = words(error)
            tidy()
            return why, log.read_text(errors="replace")[-TAIL:]


def _peers_of(workers: int) -> Sequence[Any]:
    """The peers of this process's placement group, made where there are none yet."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = ray.util.get_current_placement_group()
    home = group.id.hex()
    if home not in _peers:
        _peers.clear()
        _peers[home] = [
            ray.remote(Peer)
            .options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                memory=bundle.get("memory"),
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
            )
            .remote()
            for index, bundle in enumerate(group.bundle_specs)
            if 0 < index < workers
        ]
    return _peers[home]


def _dismiss() -> None:
    """The next trial of this process gets new peers."""
    import ray

    for peer in [p for peers in _peers.values() for p in peers]:
        ray.kill(peer)
    _peers.clear()


def _meeting_place() -> str:
    """Where rank 0 will listen: a port of this machine's address in the cluster that is free now."""
    import ray

    host = ray.util.get_node_ip_address()
    with socket.create_server((host, 0)) as found:
        return f"{host}:{found.getsockname()[1]}"


def _files(folder: Path) -> dict[str, bytes]:
    """What a retried trial goes on from, for peers whose machine may not have it."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def _ended(calls: Sequence[Any]) -> dict[int, str]:
    """Waits for the peers; why each of those failed that did, by rank. Who does not end is dismissed."""
    import ray

    ray.wait(calls, num_returns=len(calls), timeout=GRACE)
    failed = {}
    for rank, call in enumerate(calls, 1):
        why, said = _outcome(call)
        if said:
            print(f"--- worker {rank} of {len(calls) + 1}", said.rstrip(), "---", sep="\n", file=sys.stderr)
        if why:
            failed[rank] = f"worker {rank} of {len(calls) + 1}: {why}"
    if failed:
        _dismiss()
    return failed


def _outcome(call: Any) -> tuple[str, str]:
    """Why it failed, or '', and what it printed."""
    import ray

    try:
        why, said = ray.get(call, timeout=0)
        return why, said
    except ray.exceptions.GetTimeoutError:
        return "it did not end", ""
    except ray.exceptions.RayActorError:
        return "its process died (killed, or out of memory)", ""
    except Exception as error:  # as when what it was sent cannot be loaded there
        return words(error), ""


def _cause(mine: str, peers: Mapping[int, str]) -> str:
    """The peer's words where a peer failed first: who is cut off by another says so. '' where it was rank 0."""
    first = next((why for why in peers.values() if not CUT_OFF.search(why)), "")
    return first if CUT_OFF.search(mine) or "its process died" in first else ""


@contextlib.contextmanager
def _watched(calls: Sequence[Any]) -> Iterator[None]:
    """Ends this thread's work where a peer has failed and it does not see that: it may wait for ever, as on a GPU."""
    over, thread = threading.Event(), threading.get_ident()
    threading.Thread(target=_watch, args=(calls, over, thread), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(calls: Sequence[Any], over: threading.Event, thread: int) -> None:
    import ray

    waiting = list(calls)
    while waiting and not over.is_set():
        ready, waiting = ray.wait(waiting, num_returns=1, timeout=1.0)
        why = next((why for why, _ in map(_outcome, ready) if why), "")
        if not why or over.wait(GRACE):
            continue
        print(f"a worker of this trial failed and the rest waits for it: {why}", file=sys.stderr, flush=True)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(CutOff))
        if not over.wait(GRACE):  # it is not in Python
            os._exit(1)


class CutOff(TrainingError):
    """Raised in the thread of a fit, from another."""

    def __init__(self) -> None:
        super().__init__("Connection closed: a worker of this trial has failed")
