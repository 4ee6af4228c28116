"""What was counted, in Prometheus's text format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import accumulate
from typing import Any

from mlops_core.contracts import Route
from mlops_core.serving.telemetry import BOUNDS, Counts

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, Any], float]


def expose(whole: Counts, name: str, version: str, routes: Iterable[Route]) -> bytes:
    """`whole` as `Telemetry.whole` gives it; `name` is the endpoint's, `version` ours."""
    counts, now = whole["counts"], whole["now"]
    arms = [(_labels(key), series) for key, series in sorted(counts["series"].items())]
    log, guests = counts["log"] | now["log"], counts["guests"]
    written = datetime.fromisoformat(log["written_at"]).timestamp() if log["written_at"] else 0.0
    families: list[tuple[str, str, list[Sample]]] = [
        ("build_info", "The endpoint and the mlops_core that serves it", [({"name": name, "version": version}, 1)]),
        ("requests_total", "Requests by the version that was asked, and how it came out", _outcomes(arms)),
        ("rows_total", "Rows predicted", [(labels, series["rows"]) for labels, series in arms]),
        ("refused_requests_total", "Requests that were refused, by HTTP status", _by("status", counts["refused"])),
        ("failed_requests_total", "Requests that failed here, HTTP 500", [({}, counts["failed"])]),
        ("unseen_values_total", "Values of categories that training never saw", [({}, counts["unseen"])]),
        ("requests_in_flight", "Requests under way", [({}, now["in_flight"])]),
        ("replicas", "Processes that answer", [({}, now["replicas"])]),
        ("route_weight_percent", "Declared share of the traffic", [(_route(r), r.weight) for r in routes]),
        ("guest_up", "Replicas whose guest of this version answers", _by("version", now["guests"], "up")),
        ("guest_starts_total", "Starts of guest processes", _by("version", guests, "starts")),
        ("guest_failures_total", "Requests that guests did not answer", _by("version", guests, "failures")),
        ("log_rows_written_total", "Rows written to the prediction log", [({}, log["written"])]),
        ("log_rows_dropped_total", "Rows that the prediction log lost", [({}, log["dropped"])]),
        ("labels_kept_total", "Labels that were acknowledged", [({}, log["labels"])]),
        ("labels_error", "1 while labels cannot be kept", [({}, bool(log["labels_error"]))]),
        ("log_rows_waiting", "Rows that wait for the prediction log", [({}, log["waiting"])]),
        ("log_last_write_timestamp_seconds", "When the prediction log last wrote; 0: never", [({}, written)]),
        ("log_error", "1 while the prediction log cannot write", [({}, bool(log["error"]))]),
    ]
    lines = [line for family in families for line in _family(*family)] + _histogram(arms)
    return ("\n".join(lines) + "\n").encode()


def _family(name: str, help: str, samples: list[Sample]) -> list[str]:
    kind = "counter" if name.endswith("_total") else "gauge"
    lines = [f"mlops_{name}{_spelled(labels)} {float(value):.15g}" for labels, value in samples]
    return [f"# HELP mlops_{name} {help}", f"# TYPE mlops_{name} {kind}", *lines] if lines else []


def _histogram(arms: list[tuple[dict[str, Any], Any]]) -> list[str]:
    name, lines = "mlops_request_duration_seconds", []
    for labels, series in arms:
        for bound, below in zip((*BOUNDS, "+Inf"), accumulate(series["buckets"]), strict=True):
            lines.append(f"{name}_bucket{_spelled(labels | {'le': bound})} {below}")
        lines.append(f"{name}_sum{_spelled(labels)} {series['seconds']:.15g}")
        lines.append(f"{name}_count{_spelled(labels)} {sum(series['buckets'])}")
    help = f"# HELP {name} Seconds from a whole request to its whole answer"
    return [help, f"# TYPE {name} histogram", *lines] if lines else []


def _labels(key: str) -> dict[str, Any]:
    version, role, arm = key.split("|", 2)
    return {"version": version, "arm": arm, "role": role}


def _route(route: Route) -> dict[str, Any]:
    return {"version": route.version, "arm": route.arm, "role": route.role}


def _outcomes(arms: Iterable[tuple[dict[str, Any], Any]]) -> list[Sample]:
    return [(of | {"outcome": o}, n) for of, series in arms for o, n in sorted(series["outcomes"].items())]


def _by(label: str, counted: Mapping[str, Any], of: str = "") -> list[Sample]:
    return [({label: name}, found[of] if of else found) for name, found in sorted(counted.items())]


def _spelled(labels: Mapping[str, Any]) -> str:
    text = ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items())
    return f"{{{text}}}" if text else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
