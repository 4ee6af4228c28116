"""One request answered by one loaded version: parse, validate, predict, spell the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops_core.contracts import Columns
from mlops_core.serving.forms import FORMS, Form
from mlops_core.serving.models import Loaded
from mlops_core.serving.rows import Batch


@dataclass(frozen=True, slots=True)
class Answered:
    """A version's answer: what goes back, and what the prediction log gets."""

    id: str
    batch: Batch
    answer: Columns
    body: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read: `id` is its own where its body names one."""

    form: Form
    request: Any
    id: str
    batch: Batch

    def answered(self, model: Loaded, endpoint: str, given: Columns) -> Answered:
        return Answered(self.id, self.batch, given, self.form.write(endpoint, model, self.id, given, self.request))


def read(model: Loaded, form: str, id: str, data: bytes, max_rows: int) -> Asked:
    """Raises Refused where the request cannot be answered."""
    spelled = FORMS[form]
    request, batch = spelled.read(model, data, max_rows)
    return Asked(spelled, request, spelled.id(request) or id, batch)


def answer(model: Loaded, endpoint: str, form: str, id: str, data: bytes, max_rows: int) -> Answered:
    """Raises Refused where the request cannot be answered, and whatever the model raises."""
    asked = read(model, form, id, data, max_rows)
    return asked.answered(model, endpoint, model.predict(asked.batch.columns))
