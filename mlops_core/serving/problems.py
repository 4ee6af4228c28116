"""What is answered when a request cannot be: problem+json (RFC 9457), for a person and for a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

TITLES = {
    400: "bad request",
    401: "a key is needed",
    403: "not with this key",
    404: "not found",
    405: "method not allowed",
    408: "too slow",
    413: "too large",
    415: "unsupported media type",
    422: "the rows do not fit the model's signature",
    429: "too many requests",
    500: "the request failed here",
    503: "not ready",
}
SHOWN = 20


Fault = tuple[int | None, str, str]


class Refused(Exception):
    """A request that is answered with a problem. `faults` are (row, column, message); row is None for all rows."""

    def __init__(self, status: int, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.faults = list(faults)
        self.headers: list[tuple[bytes, bytes]] = []

    @classmethod
    def unfit(cls, faults: Sequence[Fault]) -> Refused:
        """422 with every fault (the first ones shown), the first of them in `detail`."""
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return cls(422, describe(*faults[0]) + more, faults)

    @classmethod
    def told(cls, body: bytes) -> Refused:
        """The refusal whose `body` this is, from another process."""
        said = orjson.loads(body)
        faults = [(e["row"], e["column"], e["message"]) for e in said.get("errors", ())]
        return cls(said["status"], said["detail"], faults)

    def body(self) -> bytes:
        """`error` repeats `detail` under the name that clients of the Open Inference Protocol read."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": TITLES[self.status],
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
        }
        if self.faults:
            content["errors"] = [{"row": r, "column": c, "message": m} for r, c, m in self.faults[:SHOWN]]
        return orjson.dumps(content)


def describe(row: int | None, column: str, message: str) -> str:
    where = ", ".join([f"row {row}"] * (row is not None) + [f"column {column!r}"] * bool(column))
    return f"{where}: {message}" if where else message
