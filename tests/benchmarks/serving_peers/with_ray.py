"""The network behind bare Ray Serve: `python with_ray.py PORT MODEL REPLICAS haproxy|default numbers|named`.

A raw ASGI application in a deployment, and nothing else: no key, no check, no version, no log, no metrics of ours.
With `haproxy` it has the ingress and the settings that deployer `ray_serve` gives itself; with `default` Serve's own.
With `numbers` it answers with the network's array as it is; with `named` as ours does, with a label and the share of
each class by its name for each row.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import orjson
from network import CLASSES, Onnx, matrix


class Network:
    def __init__(self, model: str, answer: str) -> None:
        self.net, self.spelled = Onnx(model), SPELLED[answer]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        found = self.net(matrix(orjson.loads(b"".join(parts))["rows"]))
        body = orjson.dumps(self.spelled(found), option=orjson.OPT_SERIALIZE_NUMPY)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def numbers(found: Any) -> Any:
    return {"probability": found}


def named(found: Any) -> Any:
    best = found.argmax(1).tolist()
    rows = [
        {"prediction": CLASSES[i], "probability": dict(zip(CLASSES, shares, strict=True))}
        for i, shares in zip(best, found.tolist(), strict=True)
    ]
    return {"predictions": rows}


SPELLED = {"numbers": numbers, "named": named}


def main() -> None:
    from mlops_ray.cluster import environment_of
    from mlops_ray.runtime import private_folder, started

    from mlops_core.errors import ServingError

    port, model, replicas, ingress, answer = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:]
    process = {"host": "127.0.0.1", "port": port, "haproxy": ingress == "haproxy", "request_timeout": 30.0}
    with private_folder() as folder:
        settings = environment_of(folder, process) if process["haproxy"] else {"RAY_SERVE_ENABLE_HA_PROXY": "0"}
        settings.pop("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", None)  # the short way is ours
        first = 14_000 + 400 * list(SPELLED).index(answer)
        for kind, at in (("HTTP", first), ("GRPC", first + 200)):
            settings[f"RAY_SERVE_DIRECT_INGRESS_MIN_{kind}_PORT"] = str(at)
            settings[f"RAY_SERVE_DIRECT_INGRESS_MAX_{kind}_PORT"] = str(at + 100)
        os.environ.update(settings)  # ray.serve reads them when it is imported
        with started(folder, ServingError, env=settings, preload=("ray.serve",)):
            from ray import serve

            options, quiet = {"num_cpus": 0.1}, {"enable_access_log": False}
            serve.start(http_options=serve.HTTPOptions(host="127.0.0.1", port=port), logging_config=quiet)

            @serve.deployment(
                num_replicas=replicas, max_ongoing_requests=100, ray_actor_options=options, logging_config=quiet
            )
            @serve.ingress(lambda: Network(model, answer))
            class Bare:
                pass

            serve.run(Bare.bind())
            ended = threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: ended.set())
            while not ended.wait(1):
                pass
            serve.shutdown()


if __name__ == "__main__":
    main()
