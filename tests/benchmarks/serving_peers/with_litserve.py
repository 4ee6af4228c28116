"""The network behind LitServe: `python with_litserve.py PORT MODEL WORKERS`."""

from __future__ import annotations

import sys

import litserve
from network import Onnx, matrix


class Network(litserve.LitAPI):
    def setup(self, device):
        self.net = Onnx(sys.argv[2])

    def decode_request(self, request):
        return matrix(request["rows"])

    def predict(self, x):
        return self.net(x)

    def encode_response(self, output):
        return {"probability": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Network(), accelerator="cpu", workers_per_device=int(sys.argv[3]))
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
