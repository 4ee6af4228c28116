"""Contestants: servers of one network, each with its processes, its request, and how its answer is read."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from serving_peers import network

HERE = Path(__file__).parent
START_SECONDS = 180
TORCH = "torch==2.13.0"
PEERS = {
    "litserve": ["litserve", "onnxruntime", TORCH],
    "bentoml": ["bentoml", "onnxruntime", TORCH],
    "mlserver": ["mlserver", "onnxruntime"],
    "torchserve": ["torchserve", "torch-model-archiver", "packaging", "pyyaml", "onnxruntime", TORCH],
}


def by_place(answer: Any) -> Any:
    """The probabilities of an answer that is the network's array."""
    return answer["probability"]


class Absent(Exception):
    """A contestant that cannot take part, and why."""


@dataclass
class Contestant:
    """A running server. `processes` is its whole tree; `bodies` its request by rows; `read` its probabilities."""

    name: str
    port: int
    path: str
    root: int
    bodies: Mapping[int, bytes]
    read: Callable[[Any], Any] = by_place
    headers: Mapping[str, str] = field(default_factory=dict)
    stop: Callable[[], None] = lambda: None

    def processes(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.root)
            return [root, *root.children(recursive=True)]
        return []

    def cpu(self) -> float:
        """CPU seconds of the tree so far, children that it has buried included."""
        total = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total

    def memory(self) -> float:
        """MiB that the tree holds, each shared page counted in parts."""
        total = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss / 2**20
        return total

    def pause(self, paused: bool = True) -> None:
        """Contestants that are not asked get no processor time, so that they do not disturb."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend() if paused else process.resume()

    def ask(self, rows: int) -> Any:
        """Its probabilities for the first rows. Raises OSError."""
        url = f"http://127.0.0.1:{self.port}{self.path}"
        headers = {"content-type": "application/json", **self.headers}
        request = urllib.request.Request(url, self.bodies[rows], headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as reply:
            return np.array(self.read(json.loads(reply.read())), float).reshape(-1, len(network.CLASSES))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def bodies(counts: tuple[int, ...]) -> dict[int, bytes]:
    return {n: network.body(network.rows(n)) for n in counts}


def tensors(counts: tuple[int, ...]) -> dict[int, bytes]:
    """The same rows as one tensor of the Open Inference Protocol."""
    found = {}
    for n in counts:
        x = network.matrix(network.rows(n))
        given = {"name": "matrix", "shape": list(x.shape), "datatype": "FP32", "data": x.reshape(-1).tolist()}
        found[n] = json.dumps({"inputs": [given]}).encode()
    return found


def installed(name: str, cache: Path) -> Path:
    """The environment of a peer, made where there is none yet. Raises Absent with the installer's last words."""
    folder, python = cache / name, cache / name / "bin" / "python"
    if (folder / ".installed").exists():
        return folder
    print(f"  installing {name} ...", file=sys.stderr, flush=True)
    uv = shutil.which("uv")
    links = [w for link in _find_links() for w in ("--find-links", link)]
    make = [uv, "venv", "-q", "--clear", str(folder)] if uv else [sys.executable, "-m", "venv", "--clear", str(folder)]
    pip = [uv, "pip", "install", "-q", "--python", str(python)] if uv else [str(python), "-m", "pip", "install", "-q"]
    torch = ["--torch-backend", "cpu"] if uv and not links else []
    for command in (make, [*pip, *links, *torch, *PEERS[name]]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Absent(f"cannot be installed: {_last(done.stderr or done.stdout)}")
    (folder / ".installed").touch()
    return folder


def started(name: str, command: list[str], folder: Path, port: int, env: Mapping[str, str] | None = None) -> Any:
    """A server as a child of this process, up. Raises Absent where it ends or does not listen."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1", **(env or {})}
    whole |= {"BENTOML_DO_NOT_TRACK": "True", "PYTHONDONTWRITEBYTECODE": ""}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=whole, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return process
        if process.poll() is not None or time.monotonic() > end:
            ended(process)
            raise Absent(f"did not start: {_last((folder / 'log').read_text(errors='replace'))}")
        time.sleep(0.1)


def ended(process: Any) -> None:
    """Its whole tree, asked first."""
    with suppress(psutil.NoSuchProcess):
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        for one in tree:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def ready(contestant: Contestant, rows: tuple[int, ...]) -> Contestant:
    """Answers, and answers what the network says. Raises Absent."""
    with tempfile.TemporaryDirectory() as folder:
        network.write(Path(folder) / "model.onnx")
        net = network.Onnx(Path(folder) / "model.onnx")
        wanted = {n: net(network.matrix(network.rows(n))) for n in rows}
    end, why = time.monotonic() + START_SECONDS, ""
    for n in rows:
        while True:
            try:
                found = contestant.ask(n)
                break
            except (OSError, ValueError, KeyError) as error:
                why = f"{type(error).__name__}: {error}"
            if time.monotonic() > end or not contestant.processes():
                contestant.stop()
                raise Absent(f"does not answer: {why}")
            time.sleep(0.2)
        if found.shape != wanted[n].shape or not np.allclose(found, wanted[n], atol=1e-4):
            contestant.stop()
            raise Absent("answers something else than the network")
    return contestant


def bare_ray(
    folder: Path, workers: int, counts: tuple[int, ...], ingress: str, name: str, answer: str = "numbers"
) -> Contestant:
    """`answer`: see with_ray.py."""
    (port,) = free_ports(1)
    words = [str(HERE / "with_ray.py"), str(port), str(folder.parent / "model.onnx"), str(workers), ingress, answer]
    process = started(name, [sys.executable, *words], folder, port)
    read = by_name if answer == "named" else by_place
    return Contestant(name, port, "/", process.pid, bodies(counts), read, stop=lambda: ended(process))


def by_name(answer: Any) -> list[list[float]]:
    """The probabilities of an answer in our form."""
    return [[p["probability"][c] for c in network.CLASSES] for p in answer["predictions"]]


def peer(name: str, cache: Path, folder: Path, workers: int, counts: tuple[int, ...]) -> Contestant:
    """One of PEERS, with as many workers as the others have. Raises Absent."""
    if name == "torchserve" and not shutil.which("java"):
        raise Absent("needs Java, and there is no 'java' here")
    bin, ports, model = installed(name, cache) / "bin", free_ports(5), str(folder.parent / "model.onnx")
    port, env = ports[0], {"BENCH_MODEL": model, "BENCH_WORKERS": str(workers)}
    folder.mkdir(parents=True, exist_ok=True)
    path, sent = "/predict", bodies(counts)
    read: Callable[[Any], Any] = by_place
    if name == "litserve":
        command = [str(bin / "python"), str(HERE / "with_litserve.py"), str(port), model, str(workers)]
    elif name == "bentoml":
        command = [str(bin / "bentoml"), "serve", "with_bentoml:Network", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--working-dir", str(HERE)]
        env |= {"BENTOML_HOME": str(folder / "home"), "PATH": f"{bin}:{os.environ['PATH']}"}
    elif name == "mlserver":
        path, sent = "/v2/models/network/infer", tensors(counts)
        read = lambda answer: answer["outputs"][0]["data"]  # noqa: E731
        settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": ports[1], "metrics_port": ports[2]}
        settings |= {"parallel_workers": 0, "debug": False}
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(
            json.dumps({"name": "network", "implementation": "with_mlserver.Network"})
        )
        command = [str(bin / "mlserver"), "start", str(folder)]
    else:
        path, command = "/predictions/network", _archived(bin, folder, ports, workers)
        env |= {"PATH": f"{bin}:{os.environ['PATH']}", "LOG_LOCATION": str(folder), "METRICS_LOCATION": str(folder)}
    process = started(name, command, folder, port, env)
    return Contestant(name, port, path, process.pid, sent, read, stop=lambda: ended(process))


def _archived(bin: Path, folder: Path, ports: list[int], workers: int) -> list[str]:
    """TorchServe's command, its archive and its configuration made."""
    words = ["--model-name", "network", "--version", "1", "--handler", str(HERE / "with_torchserve.py"), "--force"]
    words += ["--extra-files", str(HERE / "network.py"), "--export-path", str(folder)]
    done = subprocess.run([str(bin / "torch-model-archiver"), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Absent(f"its archive cannot be made: {_last(done.stderr)}")
    kinds = ("inference", "management", "metrics")
    lines = [f"{kind}_address=http://127.0.0.1:{port}" for kind, port in zip(kinds, ports[:3], strict=True)]
    lines += [f"grpc_inference_port={ports[3]}", f"grpc_management_port={ports[4]}"]
    lines += [f"default_workers_per_model={workers}", "disable_token_authorization=true"]
    lines += [f"model_store={folder}", "load_models=network.mar"]
    config = folder / "config.properties"
    config.write_text("\n".join(lines) + "\n")
    return [str(bin / "torchserve"), "--start", "--foreground", "--ts-config", str(config), "--ncs"]


def _find_links() -> list[str]:
    asked = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    told = os.environ.get("PIP_FIND_LINKS") or subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return told.split()


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
