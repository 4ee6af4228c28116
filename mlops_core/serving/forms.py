"""How a request and its answer are spelled: plain JSON rows, or the tensors of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import orjson

from mlops_core.contracts import Columns
from mlops_core.serving import protocol_grpc, protocol_v2
from mlops_core.serving.models import Loaded
from mlops_core.serving.problems import Refused
from mlops_core.serving.requests import checked_id, parse
from mlops_core.serving.rows import Batch


class Form(Protocol):
    def plain(self, data: bytes) -> Any:
        """The request as JSON would spell it. Raises Refused where it is none."""
        ...

    def read(self, model: Loaded, data: bytes, limit: int) -> tuple[Any, Batch]:
        """The request, and its rows. Raises Refused."""
        ...

    def id(self, request: Any) -> str:
        """The id that the request's body gives it, or ''."""
        ...

    def write(self, name: str, model: Loaded, id: str, answer: Columns, request: Any) -> bytes:
        """The answer's body."""
        ...


class Plain:
    """`{"rows": [...]}`, `{"columns": {...}}` or one row."""

    def plain(self, data: bytes) -> Any:
        return parse(data)

    def read(self, model: Loaded, data: bytes, limit: int) -> tuple[Any, Batch]:
        return None, model.reader.read(data, limit)

    def id(self, request: Any) -> str:
        return ""

    def write(self, name: str, model: Loaded, id: str, answer: Columns, request: Any) -> bytes:
        head = orjson.dumps({"id": id, "version": model.version})
        return b'%b,"predictions":%b}' % (head[:-1], model.speller.rows(answer))


class Tensors:
    """The protocol over REST, in JSON. Its answer is framed where the caller wants tensors raw."""

    def parse(self, data: bytes) -> Any:
        return parse(data)

    def plain(self, data: bytes) -> Any:
        return self.parse(data)

    def read(self, model: Loaded, data: bytes, limit: int) -> tuple[Any, Batch]:
        request = self.parse(data)
        batch = protocol_v2.read(model.reader, request, limit)
        protocol_v2.wanted(model, protocol_v2.names(request))
        return request, batch

    def id(self, request: Any) -> str:
        given = request.get("id")
        return "" if given is None or given == "" else checked_id(given)

    def write(self, name: str, model: Loaded, id: str, answer: Columns, request: Any) -> bytes:
        head = {"model_name": name, "model_version": str(model.version), "id": id}
        return protocol_v2.write(head, model, answer, request)


class Binary(Tensors):
    """The same with raw tensors behind the JSON, framed."""

    def parse(self, data: bytes) -> Any:
        return protocol_v2.parse_framed(data)

    def plain(self, data: bytes) -> Any:
        return protocol_v2.unraw(self.parse(data))


class Messages:
    """The protocol over gRPC: a ModelInferRequest and its answer."""

    def plain(self, data: bytes) -> Any:
        return protocol_v2.unraw(protocol_grpc.plain(protocol_grpc.parse(data)))

    def read(self, model: Loaded, data: bytes, limit: int) -> tuple[Any, Batch]:
        request = protocol_grpc.parse(data)
        batch = protocol_grpc.read(model.reader, request, limit)
        protocol_v2.wanted(model, [o.name for o in request.outputs])
        return request, batch

    def id(self, request: Any) -> str:
        return checked_id(request.id) if request.id else ""

    def write(self, name: str, model: Loaded, id: str, answer: Columns, request: Any) -> bytes:
        return protocol_grpc.write(name, model, id, answer, request)


LENGTH = b"inference-header-content-length"


def spelling(headers: Iterable[tuple[bytes, bytes]], data: bytes) -> tuple[str, bytes]:
    """The form of a body of tensors, and the body as that form takes it. Raises Refused."""
    length = next((value for name, value in headers if name == LENGTH), None)
    if length is None:
        return "tensors", data
    if not length.isdigit() or len(length) > 10 or int(length) > len(data):
        given = length[:40].decode("latin-1")
        raise Refused(400, f"inference-header-content-length is {given!r}, the body has {len(data)} bytes")
    return "binary", protocol_v2.framed(int(length), data)


FORMS: Mapping[str, Form] = {"plain": Plain(), "tensors": Tensors(), "binary": Binary(), "messages": Messages()}
