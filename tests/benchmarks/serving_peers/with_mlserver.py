"""The network behind MLServer, as a runtime of one's own: one tensor in, one out."""

from __future__ import annotations

import os

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from network import Onnx


class Network(MLModel):
    async def load(self) -> bool:
        self.net = Onnx(os.environ["BENCH_MODEL"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self.net(NumpyCodec.decode_input(payload.inputs[0]).astype("f4", copy=False))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probability", found)])
