"""A Lightning Trainer, run in silence and resumed after a kill; the best epoch's weights are left in the module."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import torch

from mlops_core.contracts import Job, Pruned
from mlops_core.errors import MlopsError, TrainingError
from mlops_lightning.imports import words
from mlops_lightning.learning.data import Batches
from mlops_lightning.learning.gang import backend, gathered, leads, lightning_options
from mlops_lightning.learning.quiet import interruptible
from mlops_lightning.learning.validation import Validation
from mlops_lightning.learning.watch import Progress, Watch, seed_all
from mlops_lightning.options import Options


def run(
    options: Options,
    job: Job,
    module: Any,
    namespace: str,
    validation: Validation,
    batches: Batches | None,
    **data: Any,
) -> Progress:
    """Fits `module`, of that Lightning namespace, on `data` (keyword arguments of Lightning's `fit`).

    In a gang, the best epoch's weights are those of rank 0 alone.
    """
    lightning = importlib.import_module(namespace)
    checkpoint = job.scratch / "last.ckpt"
    progress = _resumed(checkpoint, job.scratch / "best.ckpt")
    before = None
    if job.start is not None and job.start.scratch is not None and not progress.epochs:
        checkpoint = job.start.scratch / "last.ckpt"
        progress, before = _begun(checkpoint)
    watch = _watch_class(lightning)(
        job,
        validation,
        batches,
        progress,
        patience=options.patience,
        every=options.checkpoint_epochs,
        steps=job.start.steps if job.start is not None else None,
    )
    watch.settings.before = before
    if progress.finished:
        module.configure_model()  # as a fit would; by Lightning's word it may be called again
        if job.start is not None and progress.best_epoch:
            job.report(progress.epochs, progress.scores)
    else:
        with gathered(job.gang, backend(options.accelerator, job)):
            trainer = _trainer(lightning, options, job, watch)
            seed_all(job.seed, progress.epochs)
            if progress.epochs:
                data["ckpt_path"] = str(checkpoint)
            _fit(trainer, module, watch, job.project, data)
    if not leads(job):
        return progress
    if not progress.best_epoch:
        raise TrainingError(
            f"{job.metric} was never a finite number in {progress.epochs} epochs; "
            "look at the scores of each epoch, and try a lower learning rate"
        )
    module.cpu().load_state_dict(torch.load(watch.best, map_location="cpu", weights_only=True))
    module.eval()
    return progress


def _fit(trainer: Any, module: Any, watch: Any, project: Path, data: dict[str, Any]) -> None:
    try:
        with interruptible():
            trainer.fit(module, **data)
    except (MlopsError, Pruned):
        raise
    except Exception as error:
        if error is watch.passing:
            raise
        raise TrainingError(f"{type(module).__name__} failed in training: {words(error, project)}") from error


def _trainer(lightning: Any, options: Options, job: Job, watch: Any) -> Any:
    told: dict[str, Any] = {"plugins": []}
    if job.gang is not None:
        way = backend(options.accelerator, job)
        told = lightning_options(lightning, job.gang, way, users_own=bool(options.module))
    told["plugins"].append(_files_class(lightning)())
    try:
        return lightning.Trainer(
            accelerator=options.accelerator,
            devices=list(options.devices) if isinstance(options.devices, tuple) else options.devices,
            precision=options.precision,
            max_epochs=options.epochs,
            gradient_clip_val=options.gradient_clip or None,
            deterministic="warn",
            callbacks=[watch],
            default_root_dir=job.scratch,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **told,
        )
    except Exception as error:
        raise TrainingError(f"Lightning refuses accelerator, devices or precision: {error}") from error


def _resumed(checkpoint: Path, best: Path) -> Progress:
    """How far an earlier, killed fit came; from the start where there is none, or none that can be read safely."""
    try:
        progress = Progress(**torch.load(checkpoint, map_location="cpu", weights_only=True)["mlops"])
        if progress.best_epoch:
            torch.load(best, map_location="cpu", weights_only=True)
        return progress
    except Exception:  # whatever torch says of a file that is cut short, or holds more than tensors and plain data
        return Progress()


def _begun(checkpoint: Path) -> tuple[Progress, Any]:
    """Where a leg begins that goes on from this checkpoint, and the settings of the leg before."""
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True)
        epochs = found["mlops"]["epochs"]
    except Exception as error:
        raise TrainingError(f"cannot go on from {checkpoint}: {words(error)}") from error
    return Progress(epochs=epochs, began=epochs), found.get("mlops_settings")


@functools.cache
def _watch_class(lightning: Any) -> Any:
    return type("Watch", (Watch, lightning.callbacks.Checkpoint), {})


class _Files:
    """Checkpoints as plain files: tensors and plain data only. Lightning's own way imports every cloud's library."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        torch.save(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = None) -> Any:
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


@functools.cache
def _files_class(lightning: Any) -> Any:
    return type("Files", (_Files, lightning.plugins.CheckpointIO), {})
