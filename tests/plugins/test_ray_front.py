"""Deployer `ray_serve`: one replica by itself, without a Ray around it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from mlops_ray.deployer import LIMITS, RayServeDeployer

from mlops_core import write_state
from mlops_core.contracts import Serving, plain

LEAVING = """
import asyncio, json, sys
from pathlib import Path

from mlops_core import read_state, write_state
from mlops_ray.front import DOOR, WANTED, Front, living


async def main(state):
    wanted, said, told = read_state(state / WANTED), asyncio.Queue(), []
    await Front(str(state)).reconfigure(None)
    told.append([r["generation"] for r in living(state)])
    write_state(state / WANTED, wanted | {"generation": 2})
    while living(state)[0]["generation"] != 2:
        await asyncio.sleep(0.01)
    said.put_nowait({"type": "lifespan.shutdown"})
    async def send(message):
        told.append(message["type"])
    await DOOR({"type": "lifespan"}, said.get, send)
    told.append(living(state))
    write_state(state / WANTED, wanted | {"generation": 3})
    await asyncio.sleep(0.5)
    told.append(living(state))
    print(json.dumps(told))


asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_replica_that_has_left_says_nothing_of_what_is_wanted_now(tiny_serving: Callable[..., Serving]) -> None:
    """Else it would refuse a change that every other one makes, or the host would wait for it."""
    serving = tiny_serving()
    (serving.state / "replicas").mkdir(parents=True)
    limits = {name: getattr(RayServeDeployer(), name) for name in LIMITS}
    wanted = {"generation": 1, "process": {"host": "127.0.0.1"}, "limits": limits, "serving": plain(serving)}
    write_state(serving.state / "wanted.json", wanted)
    done = subprocess.run(
        [sys.executable, "-c", LEAVING, str(serving.state)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[1], "lifespan.shutdown.complete", [], []]
