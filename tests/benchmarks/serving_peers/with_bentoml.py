"""The network behind BentoML: `bentoml serve with_bentoml:Network`; its model and workers are in the environment.

No type annotation is a string here: BentoML reads them.
"""

import os
from typing import Any

import bentoml
from network import Onnx, matrix


@bentoml.service(workers=int(os.environ["BENCH_WORKERS"]), logging={"access": {"enabled": False}})
class Network:
    def __init__(self) -> None:
        self.net = Onnx(os.environ["BENCH_MODEL"])

    @bentoml.api
    def predict(self, rows: list[dict[str, float]]) -> dict[str, Any]:
        return {"probability": self.net(matrix(rows)).tolist()}
