"""How a request and its answer are spelled: plain JSON rows, or the tensors of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any, Protocol

from mlops_core.contracts import Columns
from mlops_core.serving import protocol_v2
from mlops_core.serving.models import Loaded
from mlops_core.serving.requests import checked_id
from mlops_core.serving.rows import Batch


class Form(Protocol):
    def read(self, model: Loaded, request: Any, limit: int) -> Batch:
        """The request's rows. Raises Refused."""
        ...

    def id(self, request: Any) -> str:
        """The id that the request's body gives it, or ''."""
        ...

    def write(self, name: str, model: Loaded, id: str, answer: Columns, request: Any) -> dict[str, Any]: ...


class Plain:
    def read(self, model: Loaded, request: Any, limit: int) -> Batch:
        return model.reader.body(request, limit)

    def id(self, request: Any) -> str:
        return ""

    def write(self, name: str, model: Loaded, id: str, answer: Columns, request: Any) -> dict[str, Any]:
        return {"id": id, "version": model.version, "predictions": model.plain(answer)}


class Tensors:
    def read(self, model: Loaded, request: Any, limit: int) -> Batch:
        batch = protocol_v2.read(model.reader, request, limit)
        protocol_v2.wanted(model, request)
        return batch

    def id(self, request: Any) -> str:
        given = request.get("id")
        return "" if given is None or given == "" else checked_id(given)

    def write(self, name: str, model: Loaded, id: str, answer: Columns, request: Any) -> dict[str, Any]:
        found = protocol_v2.outputs(model, answer, request)
        return {"model_name": name, "model_version": str(model.version), "id": id, "outputs": found}


PLAIN, TENSORS = Plain(), Tensors()
