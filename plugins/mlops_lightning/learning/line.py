"""A fit, from the frozen data to the model folder."""

from __future__ import annotations

import math
from typing import Any

from mlops_core import Encoder, refuse_empty, refuse_metric
from mlops_core.contracts import Dataset, Gang, Job, Scores
from mlops_lightning import imports
from mlops_lightning.learning import subject as subjects
from mlops_lightning.learning.data import Batches, Rows
from mlops_lightning.learning.fitting import run
from mlops_lightning.learning.gang import leads
from mlops_lightning.learning.quiet import no_chatter, no_warnings, own_globals
from mlops_lightning.learning.saved import leave
from mlops_lightning.learning.validation import Validation
from mlops_lightning.learning.watch import seed_all
from mlops_lightning.options import Options

ASKED = 4096  # rows that the built-in network is asked at once


def fit(options: Options, dataset: Dataset, job: Job) -> Scores:
    """See `mlops_core.stages.Trainer.fit`."""
    if not options.module:  # which may log metrics of its own
        refuse_metric(job.metric, dataset.task)
    refuse_empty(dataset)
    threads = options.threads or math.ceil(job.resources.get("cpus", 0))
    with no_warnings(), own_globals(threads), imports.importable(job.project):
        seed_all(job.seed, 0)
        return _fit(options, dataset, job)


def _fit(options: Options, dataset: Dataset, job: Job) -> Scores:
    own = bool(options.module)
    encoder = Encoder.fit(dataset, layout=options.layout if own else "split")
    subject = subjects.users_own(options, dataset, encoder) if own else None

    def batches(split: Any, size: int, seed: int | None, gang: Gang | None = None) -> Batches:
        budget, pack = options.memory_mb * 2**20, _pair if own else _whole
        return Batches(dataset, split, encoder, size, seed=seed, budget=budget, gang=gang, pack=pack)

    train = batches("train", options.batch_size, job.seed, job.gang)
    held = batches("validation", options.batch_size if own else ASKED, None)
    subject = subject or subjects.built_in(options, dataset, train)
    validation = Validation(dataset, held, as_dict=subject.as_dict, output=options.output)
    subjects.look(subject, validation)
    if subject.datamodule is not None:
        data, shuffled = {"datamodule": subject.datamodule}, None
    else:
        data, shuffled = {"train_dataloaders": train} | ({"val_dataloaders": held} if own else {}), train
    with no_chatter():
        progress = run(options, job, subject.module, subject.namespace, validation, shuffled, **data)
        if leads(job):
            leave(options.export, dataset, job.out, encoder, subject, validation)
            if job.start is not None and progress.epochs >= options.epochs:
                for file in job.scratch.glob("*.ckpt"):  # there is nothing to go on with
                    file.unlink()
    return progress.scores


def _whole(rows: Rows) -> Rows:
    return rows


def _pair(rows: Rows) -> tuple[Any, Any]:
    """(x, y), as a module of the user's own is given them."""
    inputs = rows.inputs
    return (next(iter(inputs.values())) if len(inputs) == 1 else inputs), rows.target
