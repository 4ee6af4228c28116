"""One request answered by one loaded version: parse, validate, predict, spell the answer."""

from __future__ import annotations

from dataclasses import dataclass

from mlops_core.contracts import Columns
from mlops_core.serving.forms import FORMS
from mlops_core.serving.models import Loaded
from mlops_core.serving.rows import Batch


@dataclass(frozen=True, slots=True)
class Answered:
    """A version's answer: what goes back, and what the prediction log gets."""

    id: str
    batch: Batch
    answer: Columns
    body: bytes


def answer(model: Loaded, endpoint: str, form: str, id: str, data: bytes, max_rows: int) -> Answered:
    """Raises Refused where the request cannot be answered, and whatever the model raises.

    `id` is the request's unless its body names one.
    """
    spelled = FORMS[form]
    request = spelled.parse(data)
    batch = spelled.read(model, request, max_rows)
    id = spelled.id(request) or id
    given = model.predict(batch.columns)
    return Answered(id, batch, given, spelled.write(endpoint, model, id, given, request))
