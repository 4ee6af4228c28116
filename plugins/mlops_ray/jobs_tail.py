"""The output of a Ray job as it comes, over connections that may be cut."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from mlops_core.contracts import Submission
from mlops_core.errors import LaunchError

QUIET = 60.0  # seconds without a word after which a new connection is made: a dead one says nothing either
PAUSE = 1.0  # seconds between two tries
PATIENCE = 300.0  # seconds without any answer of the cluster


def tail(
    client: Any, id: str, look: Callable[[], Submission], out: Callable[[str], None], notice: Callable[[str], None]
) -> Submission:
    """Gives every piece of the output once, and how the job ended. Raises LaunchError where the cluster stays away."""
    told, answered, lost = 0, time.monotonic(), False

    def heard() -> None:
        nonlocal answered, lost
        if lost:
            notice("connected again")
        answered, lost = time.monotonic(), False

    def give(text: str, at: int) -> None:
        nonlocal told
        heard()
        if at + len(text) > told:
            out(text[max(0, told - at) :])
            told = at + len(text)

    while True:
        cut = asyncio.run(_pieces(client, id, give))
        try:
            found = look()
            heard()
            if found.over:
                give(client.get_job_logs(id), 0)
                return found
        except (LaunchError, RuntimeError) as error:
            cut = str(error).splitlines()[0]
            if time.monotonic() - answered > PATIENCE:
                hint = f"it may go on: 'mlops submit logs {id}' follows it again"
                raise LaunchError(f"{cut}, for {PATIENCE:g} s; {hint}") from error
            if not lost:
                notice(f"{cut}; trying again")
            lost = True
        time.sleep(PAUSE if cut else 0.1)


async def _pieces(client: Any, id: str, give: Callable[[str, int], None]) -> str:
    """The output from its beginning, until its end, silence, or a cut: what that was, else ''."""
    import aiohttp

    at = 0
    stream: AsyncIterator[str] = client.tail_job_logs(id)
    waiting = asyncio.ensure_future(anext(stream))
    try:
        while (await asyncio.wait({waiting}, timeout=QUIET))[0]:
            piece = waiting.result()
            give(piece, at)
            at += len(piece)
            waiting = asyncio.ensure_future(anext(stream))
    except StopAsyncIteration:
        return ""
    except (aiohttp.ClientError, OSError, RuntimeError) as error:
        return str(error) or type(error).__name__
    finally:
        waiting.cancel()
        with contextlib.suppress(BaseException):
            await waiting
    return ""
