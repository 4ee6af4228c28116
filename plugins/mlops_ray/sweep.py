"""One search with Ray Tune. Imported only while a search runs: it is the one module that builds on Ray's classes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray  # noqa: TID253 - this module is imported by the search alone
from ray import tune  # noqa: TID253
from ray.tune.schedulers import (  # noqa: TID253
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import Searcher  # noqa: TID253

from mlops_core import Trials
from mlops_core.contracts import Goal, Space, Tuned
from mlops_core.errors import TrainingError
from mlops_core.stages import Objective
from mlops_ray.board import Board, Limits
from mlops_ray.deaths import deaths_of_memory, reason
from mlops_ray.home import road_home
from mlops_ray.legs import Legs
from mlops_ray.page import page
from mlops_ray.points import Points, check_optuna
from mlops_ray.runtime import environment, private_folder, ray_running
from mlops_ray.search import Resources, Search
from mlops_ray.trial import Attempt

ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # trials.jsonl and points.jsonl are what a resume rests on
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "20",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "100000",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # `Suggest` knows better how many may wait
    "RAY_prestart_worker_first_driver": "0",  # as many workers as cores, each with all that is preloaded, idle
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}

LOOK = 5.0  # seconds between two looks at how much room there is


def sweep(
    tuner: Search, objective: Objective, space: Space, goal: Goal, out: Path, report: Callable[..., None]
) -> Tuned:
    check_optuna()
    known = Trials(out)
    points = (Legs if tuner.legs() else Points)(tuner, space, goal, out, known)
    board = Board(points=points, known=known, goal=goal, out=out, report=report, limits=_limits(tuner))
    for trial in known:
        board.tell(trial)
    left = points.left
    if not left or (len(known) and (board.stale or board.spent)):
        return _found(board, space)
    modules = (*tuner.preload, "ray.tune", "mlops_ray.trial")
    running = ray_running(tuner.address, TrainingError, env=ENVIRONMENT, preload=modules)
    with environment(ENVIRONMENT), private_folder() as storage, running as own, deaths_of_memory():
        refuse_impossible(tuner.resources)
        told = replace(goal, earlier=())
        share, workers = _told(tuner.resources), tuner.resources.workers
        with contextlib.nullcontext() if own else road_home(objective, out) as road:
            steps = tuner.interval if tuner.legs() else None
            attempt = Attempt(objective, told, out, share, board.limits.timeout, workers, road, steps)
            _run(tuner, attempt, board, left, storage)
    board.close()
    if board.fatal:
        raise TrainingError(board.fatal)
    if not len(known):
        limit = f"cost of {tuner.cost}" if board.spent else f"time budget of {tuner.time_budget}"
        raise TrainingError(f"no trial reported a score within the {limit}")
    return _found(board, space)


def _found(board: Board, space: Space) -> Tuned:
    """The best, and the page; where every trial failed the page is there too, in the folder of the search."""
    report = board.out / "report.html"
    with contextlib.suppress(OSError):  # a full disk takes no search's result
        report.write_text(page(space, board.goal, tuple(board.known), board.curves.read()))
    return replace(board.known.tuned(board.goal), report=report if report.exists() else None)


def _run(tuner: Search, attempt: Attempt, board: Board, left: int, storage: Path) -> None:
    def trial(config: dict[str, Any]) -> None:
        attempt(config)

    tune.run(
        trial,
        name="sweep",
        metric="score",
        mode=board.goal.mode,
        num_samples=left,
        search_alg=Suggest(board, tuner.resources),
        scheduler=_scheduler(tuner, board.goal),
        stop=Stop(board),
        time_budget_s=tuner.seconds(),
        resources_per_trial=tune.PlacementGroupFactory([bundle(tuner.resources)] * tuner.resources.workers),
        max_concurrent_trials=tuner.concurrency or None,
        max_failures=tuner.max_failures,
        reuse_actors=True,
        raise_on_failed_trial=False,
        callbacks=[Watch(board)],
        storage_path=str(storage),
        verbose=0,
    )


class Unhurried(TrialScheduler):  # type: ignore[misc]  # Ray is untyped to us
    """A process that is free takes the oldest of the trials for which no other is being started.

    Tune lets it take the oldest of all, and the process that was being started for that is given up: trials that take
    less than a start would run in one process, one after the other, and processes would be started without end.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        waiting = [t for t in tune_controller.get_trials() if t.status == "PENDING"]
        controller = getattr(tune_controller, "_tune_controller", tune_controller)
        actors, started = controller._trial_to_actor, controller._actor_manager.is_actor_started
        free = (t for t in waiting if t not in actors or not started(actors[t]))
        return next(free, waiting[-1] if waiting else None)


class Unstopped(Unhurried, FIFOScheduler):  # type: ignore[misc]
    """Lets each trial run to its end."""


class Median(Unhurried, MedianStoppingRule):  # type: ignore[misc]
    """Stops what is below the median of the others' means."""


class Halving(Unhurried, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Stops what falls behind at a rung."""


def _scheduler(tuner: Search, goal: Goal) -> TrialScheduler:
    if tuner.scheduler in ("none", "pbt") or goal.objectives:
        return Unstopped()
    if tuner.scheduler == "median":
        # a pause, which it offers while it has seen too few, would begin a trial again
        return Median(time_attr="step", grace_period=tuner.grace, min_time_slice=math.inf)
    # HyperBandScheduler pauses too: its brackets without pauses are what its authors made of it (Li et al. 2020)
    return Halving(
        time_attr="step",
        max_t=max(100_000, tuner.grace),
        grace_period=tuner.grace,
        reduction_factor=tuner.reduction,
        brackets=3 if tuner.scheduler == "hyperband" else 1,
        stop_last_trials=False,
    )


def _limits(tuner: Search) -> Limits:
    return Limits(
        cost=tuner.seconds("cost"),
        amount=(tuner.resources.gpus or tuner.resources.cpus or 1.0) * tuner.resources.workers,
        patience=tuner.patience,
        timeout=tuner.seconds("trial_timeout"),
    )


class _Told:
    """Holds the board, which stays here: Tune pickles what it is given."""

    board: Board

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Suggest(_Told, Searcher):  # type: ignore[misc]  # Ray is untyped to us
    """Hands Tune the next point: as many as there is room for, and one that waits.

    A free process takes whichever trial waits, and the process that was being started for that is given up. With one
    that waits at the beginning, short trials would never get a second process; with many, points would be chosen
    before those that run have taught anything.
    """

    def __init__(self, board: Board, resources: Resources) -> None:
        super().__init__(metric="score", mode=board.goal.mode)
        self.board, self._resources, self._room, self._looked = board, resources, 0, 0.0

    def suggest(self, trial_id: str) -> Any:
        if time.monotonic() - self._looked > LOOK:  # nodes come and go
            self._room, self._looked = room(self._resources), time.monotonic()
        if len(self.board.running) > self._room:
            return None
        point = self.board.next(trial_id)
        if point is None:
            return None if self.board.waits else Searcher.FINISHED
        return {"number": point.number, "after": point.after, "params": dict(point.params)}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The board is told by `Watch`, which knows more."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the folder of the search holds it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


class Watch(_Told, tune.Callback):  # type: ignore[misc]  # Ray is untyped to us
    """Tells the board what Tune tells."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.board.started(trial.trial_id)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.board.stumbled(trial.trial_id)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        overdue = self.board.overdue()
        for trial in [t for t in trials if t.trial_id in overdue and t.temporary_state.ray_actor]:
            trial.max_failures = 0  # what hung once would hang again
            ray.kill(trial.temporary_state.ray_actor)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.board.scored(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.board.ended(trial.trial_id, trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.board.broke(trial.trial_id, reason(trial))


class Stop(_Told, tune.Stopper):  # type: ignore[misc]  # Ray is untyped to us
    """Ends a search that cannot succeed (its metric is never reported, or nothing but failures so far), or whose cost
    is spent."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def __call__(self, trial_id: str, result: Any) -> bool:
        return bool(result.get("fatal"))

    def stop_all(self) -> bool:
        return bool(self.board.fatal) or self.board.hopeless or self.board.spent


def bundle(resources: Resources) -> dict[str, float]:
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": float(resources.bytes())}
    return {name: amount for name, amount in wanted.items() if amount} or {"CPU": 0.001}


def room(resources: Resources) -> int:
    """How many trials the nodes that are alive hold at once; the workers of one may be on several."""
    wanted = bundle(resources)
    return sum(_holds(node, wanted) for node in _nodes()) // resources.workers


def refuse_impossible(resources: Resources) -> None:
    """Raises TrainingError where the nodes never have what one trial needs: Ray would wait for ever."""
    wanted, nodes = bundle(resources), _nodes()
    found = sum(_holds(node, wanted) for node in nodes)
    if found >= resources.workers:
        return
    have = "; ".join(sorted({_amounts(node) for node in nodes}))
    if not found:
        raise TrainingError(
            f"a {'trial' if resources.workers == 1 else 'worker'} wants {_amounts(wanted)}, which no node has; "
            f"there is {have}; lower tuner.resources"
        )
    raise TrainingError(
        f"a trial wants {resources.workers} workers of {_amounts(wanted)}, and the nodes have room for {found}; "
        f"there is {have}; lower tuner.resources"
    )


def _nodes() -> list[Mapping[str, float]]:
    return [n["Resources"] for n in ray.nodes() if n["Alive"]]


def _holds(node: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    return min(int(node.get(name, 0) / amount + 1e-9) for name, amount in wanted.items())  # 1 // 0.1 is 9


def _amounts(found: Mapping[str, float]) -> str:
    memory = f", {found['memory'] / 2**30:.1f}GiB memory" if found.get("memory") else ""
    return f"{found.get('CPU', 0):g} cpus, {found.get('GPU', 0):g} gpus{memory}"


def _told(resources: Resources) -> dict[str, float]:
    memory = {"memory": float(resources.bytes())} if resources.memory else {}
    return {"cpus": resources.cpus, "gpus": resources.gpus, **memory}
