"""The one callback: scores after each epoch, the best weights, checkpoints, early stop. Free of any namespace."""

from __future__ import annotations

import contextlib
import math
import os
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlops_core.contracts import Job, Pruned
from mlops_core.errors import TrainingError, did_you_mean
from mlops_lightning.learning.answers import tensor_of
from mlops_lightning.learning.data import Batches
from mlops_lightning.learning.gang import leads
from mlops_lightning.learning.settings import Settings
from mlops_lightning.learning.validation import Validation


@dataclass
class Progress:
    """How far a fit is; kept in each checkpoint. `began`: the epochs of the fit from which it goes on."""

    epochs: int = 0
    best_epoch: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    finished: bool = False
    began: int = 0


def seed_all(seed: int, epoch: int, rank: int = 0) -> None:
    """Randomness of an epoch is a function of seed and epoch, so that a resumed fit goes on as the whole one; other
    processes of a gang draw other numbers."""
    mixed = int(np.random.SeedSequence((seed, epoch, rank) if rank else (seed, epoch)).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


class Watch:
    """Mixed with a namespace's `Checkpoint`, so that Lightning calls it after the module's own epoch end."""

    def __init__(
        self,
        job: Job,
        validation: Validation,
        batches: Batches | None,
        progress: Progress,
        *,
        patience: int,
        every: int,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        self.job, self.validation, self.batches, self.progress = job, validation, batches, progress
        self.patience, self.every, self.steps = patience, every, steps
        self.settings = Settings()
        self.last, self.best = job.scratch / "last.ckpt", job.scratch / "best.ckpt"
        self.passing: BaseException | None = None  # what `report` raised: not the module's fault
        self._scores: dict[str, float] = {}
        self._answers: list[Tensor] = []
        self._current: Any = None
        self._hook: Any = None

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self._hook = module.register_forward_hook(self._overhear)
        if self.job.start is not None:
            self.settings.told(trainer)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.settings.hold(trainer)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        seed_all(self.job.seed, trainer.current_epoch, self.job.gang.rank if self.job.gang else 0)
        if self.batches is not None:
            self.batches.epoch = trainer.current_epoch

    def on_validation_epoch_start(self, trainer: Any, module: Any) -> None:
        self._answers = []

    def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, index: int, loader: int = 0) -> None:
        self._current = batch[0] if self.batches is not None else None

    def on_validation_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        self._current = None

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        # every process of a gang reads it: what a module logs may be gathered from all
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        improved = self._led(trainer, lambda: self._score(trainer, module, logged))
        trainer.should_stop = self.progress.finished
        if improved or self.progress.finished or self.progress.epochs % self.every == 0:
            self._save(trainer, module, improved)
        self._led(trainer, self._report)

    def _led(self, trainer: Any, do: Callable[[], Any]) -> Any:
        """What only rank 0 of a gang does; the others take over how far the fit is, or end with it."""
        if self.job.gang is None:
            return do()
        found, failed = None, None
        if leads(self.job):
            try:
                found = do()
            except BaseException as error:
                failed = error
        told = trainer.strategy.broadcast((found, asdict(self.progress), failed is not None))
        if failed is not None:
            raise failed
        found, progress, ended = told
        if ended:
            raise Pruned
        vars(self.progress).update(progress)
        return found

    def _score(self, trainer: Any, module: Any, logged: dict[str, float]) -> bool:
        """Takes the epoch's scores into the progress; whether it is the best so far."""
        self._scores = logged | dict(self.validation.scores(self._ask(trainer, module)))
        if self.job.metric not in self._scores:
            raise TrainingError(
                f"metric {self.job.metric!r} is never reported; {did_you_mean(self.job.metric, self._scores)}"
            )
        improved = self._judge(self._scores)
        self.progress.finished |= trainer.should_stop or self.progress.epochs >= trainer.max_epochs
        return improved

    def _report(self) -> None:
        try:
            self.job.report(self.progress.epochs, self._scores)
        except BaseException as error:
            self.passing = error
            raise

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        if self._hook is not None:
            self._hook.remove()

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["mlops"] = asdict(self.progress)
        if self.job.start is not None:
            checkpoint["mlops_settings"] = self.settings.now
        for name in [n for n in checkpoint if "hyper_parameters" in n or n.endswith(("hparams_name", "hparams_type"))]:
            del checkpoint[name]  # they may hold objects that only pickle can load; the module is made from its options

    def _judge(self, scores: dict[str, float]) -> bool:
        """Takes the epoch into the progress; whether it is the best so far."""
        progress, value = self.progress, scores[self.job.metric]
        progress.epochs += 1
        best = progress.scores.get(self.job.metric, math.nan)
        better = value > best if self.job.mode == "max" else value < best
        improved = math.isfinite(value) and (better or not progress.best_epoch)
        if improved:
            progress.best_epoch, progress.scores = progress.epochs, scores
        since = progress.epochs - max(progress.best_epoch, progress.began)
        progress.finished = bool(self.patience) and since >= self.patience
        progress.finished |= self.steps is not None and progress.epochs - progress.began >= self.steps
        return improved

    def _ask(self, trainer: Any, module: Any) -> Tensor:
        """Answers overheard in the validation loop where it asked for each row once, else asked for now."""
        heard, self._answers = self._answers, []
        if sum(map(len, heard)) == len(self.validation.target):
            return torch.cat(heard)
        with trainer.precision_plugin.forward_context():
            return self.validation.ask(module, module.device)

    def _overhear(self, module: Any, args: tuple[Any, ...], given: Any) -> None:
        if self._current is not None and args and args[0] is self._current:
            with contextlib.suppress(TrainingError):
                self._answers.append(tensor_of(given).detach().float().cpu())

    def _save(self, trainer: Any, module: Any, improved: bool) -> None:
        """The best weights first: a kill between the two makes the epoch again. They are the module's own words;
        into a checkpoint it may put, or leave out, what it likes."""
        fresh, first = self.last.with_suffix(".new"), leads(self.job)
        if improved and first:
            torch.save(module.state_dict(), fresh)
            os.replace(fresh, self.best)
        trainer.save_checkpoint(fresh, weights_only=False)  # in a gang rank 0 writes, and the others wait for it
        if first:
            os.replace(fresh, self.last)
