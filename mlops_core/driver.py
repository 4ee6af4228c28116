"""Drives the rollout of a project: `python -m mlops_core.driver LOCK PROJECT [KEY=VALUE ...]`, a process of its own.

It looks twice a second at what the prediction log says of the step, and makes the transition that follows. It
keeps nothing: killed, it is started again by the next `mlops run`, `status` or `rollout`, reads the ledger and the
log, and comes to the same decision. It ends with its rollout. STATE/rollout.log tells what it did.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from mlops_core.contracts import Rollout
from mlops_core.errors import MlopsError
from mlops_core.flow import Context, deploying, rolling
from mlops_core.serving.state import write_state

EVERY = 0.5  # seconds between two looks
FAULT = 2.0  # seconds until the next try after what nobody foresaw
MENDING = 3.0  # seconds between two looks at the endpoint itself
LOG_BYTES = 4 * 1024 * 1024
DETACH = '"$@" &'  # the shell ends at once: the driver outlives the command that started it
log = logging.getLogger("mlops_core.driver")


def ensure(context: Context) -> bool:
    """Starts the driver where a rollout is under way and nobody drives it; whether it did."""
    rollout, held = rolling.active(context), rolling.held(context)
    if rollout is None or (overrides := _overrides(context, rollout)) is None:
        return False
    held.parent.mkdir(parents=True, exist_ok=True)
    with held.open("ab") as lock:
        if not _taken(lock):
            return False
        _start(context, overrides, lock)  # the driver inherits the lock: there is no moment without it
        return True


def _overrides(context: Context, rollout: Rollout) -> tuple[str, ...] | None:
    """Those of the command that made the endpoint as it is; None where none should run."""
    if context.workspace.ledger.desired(rollout.name) is None:
        return None
    return deploying.made_with(context, rollout.overrides)


def _start(context: Context, overrides: Sequence[str], lock: IO[bytes]) -> None:
    path = rolling.held(context).with_name("rollout.log")
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    words = [sys.executable, "-P", "-m", "mlops_core.driver", str(lock.fileno()), str(context.workspace.root)]
    with path.open("ab") as out:
        subprocess.run(
            ["/bin/sh", "-c", DETACH, "sh", *words, *overrides],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            pass_fds=[lock.fileno()],
            check=True,
        )


def _taken(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Driver:
    """One project's rollouts, one after the other, until none is under way."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.watch: Any = None
        self.mended = 0.0
        self.said = ""

    def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                if not self.turn():
                    return
            except MlopsError as error:  # told, and tried again: the endpoint, the disk or the database may come back
                self._say(str(error))
                time.sleep(EVERY)
            except Exception as error:  # a disk, a stranger's plugin, a fault of ours: a rollout is never left alone
                self._say("".join(traceback.format_exception(error)).rstrip())
                self.watch = None  # half a look counts for nothing: the log is read again
                time.sleep(FAULT)
            time.sleep(max(0.05, EVERY - (time.monotonic() - began)))

    def turn(self) -> bool:
        """One look and what follows; False where there is nothing left to drive."""
        rollout = rolling.active(self.context)
        if rollout is None or self.context.workspace.ledger.desired(rollout.name) is None:
            self._mend(now=True)
            return False
        decision, look = self._look(rollout)
        if decision is None:
            self._mend(now=False)
            return True
        from mlops_core.rollout.machine import evidence

        with rolling.traffic(self.context):
            if rolling.active(self.context) != rollout:  # a person was faster
                return True
            log.info("%s: %s", decision.event, decision.reason)
            self._declare()
            rolling.move(
                self.context,
                rollout,
                decision.event,
                state=decision.state,
                step=decision.step,
                reason=decision.reason,
                facts=evidence(look),
                champion=decision.champion,
                actor="rollout driver",
            )
        return True

    def _say(self, words: str) -> None:
        """Once, however often it comes again."""
        if words != self.said:
            log.error("%s", words)
        self.said = words

    def _declare(self) -> None:
        """The declaration of today: an endpoint is made with the deployer's options as they are now, and as the last
        command that made it gave them."""
        from mlops_core.config import declare

        rollout = self.context.workspace.ledger.rollout(self.context.declaration.name)
        overrides = _overrides(self.context, rollout) if rollout else None
        try:
            if overrides is not None:
                self.context.overrides = overrides
            self.context.declaration = declare(self.context.workspace.root, self.context.overrides, data=False)
        except MlopsError as error:  # half an edit: what was declared before is good enough to go on
            self._say(str(error))

    def _look(self, rollout: Rollout) -> Any:
        """The decision that is due, and what was seen; `rollout.json` shows the latter to `mlops status`."""
        from mlops_core.rollout.machine import decide

        seen = self.watch.rollout if self.watch else None
        if seen is None or (seen.id, seen.step, seen.since) != (rollout.id, rollout.step, rollout.since):
            self.watch = rolling.watched(self.context, rollout)
        look = self.watch.look()
        write_state(
            rolling.held(self.context).with_name("rollout.json"),
            {"driver": os.getpid(), "rollout": rollout.id, "step": rollout.step, "at": time.time(), "look": look},
        )
        return decide(rollout, look), look

    def _mend(self, now: bool) -> None:
        """An endpoint that is not as it should be, as after a kill in the middle of a transition, is made so."""
        if not now and time.monotonic() - self.mended < MENDING:
            return
        self.mended = time.monotonic()
        with rolling.traffic(self.context):
            if self.context.workspace.ledger.desired(self.context.declaration.name) is None:
                return  # stopped by a person
            wanted, now_is = deploying.desired(self.context), deploying.actual(self.context)
            if wanted and (now_is is None or now_is[1].routes != wanted.routes):
                log.info("the endpoint is not as it should be: applied again")
                self._declare()
                wanted = deploying.desired(self.context) or wanted
                deploying.apply(self.context, wanted, "made as the rollout stands")


def main(arguments: list[str]) -> int:
    from mlops_core.config import declare
    from mlops_core.workspace import Workspace

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    lock, root, overrides = os.fdopen(int(arguments[0]), "ab"), Path(arguments[1]), tuple(arguments[2:])
    workspace = Workspace(root, declare(root, overrides, data=False))
    try:
        context = Context(workspace, workspace.declaration, overrides=overrides)
        workspace.plugins.watch([workspace.plugins.build("observer", c) for c in context.declaration.observers])
        log.info("driver %d begins", os.getpid())
        while True:
            Driver(context).run()
            fcntl.flock(lock, fcntl.LOCK_UN)
            # One that began just now, while our lock kept another driver away?
            due = rolling.active(context) and workspace.ledger.desired(context.declaration.name)
            if not due or not _taken(lock):
                break
        log.info("driver %d ends: no rollout is under way", os.getpid())
    except MlopsError as error:
        log.error("%s", error)
        return error.exit_code
    finally:
        workspace.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
