"""Labels that callers send: `{"labels": [{"id", "label", "time"?}, ...]}`, or one object of these."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson

from mlops_core.contracts import Signature
from mlops_core.errors import StoreError
from mlops_core.feedback import LabelLog, checked
from mlops_core.serving import requests
from mlops_core.serving.cells import kind_of
from mlops_core.serving.problems import Refused

log = logging.getLogger("mlops_core.serving")


class Labelling:
    """Takes labels into the prediction log's folder. Thread-safe; blocks until they are on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error = ""
        self._kept = LabelLog(folder)

    @property
    def kept(self) -> int:
        return self._kept.kept

    def take(self, data: bytes, signature: Signature, limit: int, by: str) -> bytes:
        """The answer's body, once every label of the request is kept; Refused where one is wrong, then none is."""
        rows = _rows(requests.parse(data))
        if not rows:
            raise Refused(422, "there are no labels; send at least one")
        if len(rows) > limit:
            raise Refused(413, f"{len(rows)} labels are more than the {limit} that one request may hold; send several")
        labels, faults = checked(rows, signature, by=by)
        if faults:
            raise Refused.unfit(faults)
        try:
            self._kept.add(labels)
        except OSError as error:
            if not self.error:
                log.error("labels in %s: %s; they are refused", self.folder, error)
            self.error = StoreError.of("not kept", error).message
            raise Refused(503, "the labels cannot be kept now; send all of them again later") from None
        self.error = ""
        return orjson.dumps({"accepted": len(labels)})

    def close(self) -> None:
        self._kept.close()


def _rows(body: Any) -> list[Any]:
    if not isinstance(body, dict) or not body:
        raise Refused(422, f'the body is {kind_of(body)}; send {{"labels": [{{"id": ..., "label": ...}}]}}')
    if "labels" not in body:
        return [body]
    beside = [k for k in body if k != "labels"]
    if beside:
        raise Refused.unfit([(None, str(beside[0])[:80], "does not belong beside 'labels'")])
    if not isinstance(body["labels"], list):
        raise Refused(422, f"'labels' is {kind_of(body['labels'])}, expected a list")
    return body["labels"]
