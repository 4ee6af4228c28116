"""What an endpoint has answered, version by version: asked of its own metrics, on its admin port where it has one."""

from __future__ import annotations

import http.client
import os
import re
import urllib.request
from collections import Counter, defaultdict
from itertools import pairwise

from mlops_core.contracts import Endpoint, record
from mlops_core.flow.asking import opener

PATIENCE = 2.0  # seconds that an endpoint may take to tell
LARGEST = 16 << 20
_SAMPLE = re.compile(r"mlops_(requests_total|request_duration_seconds_bucket)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
Key = tuple[int, str]


@record
class Counted:
    """What a version did in a role ('stable', 'candidate', 'shadow', ...) since its endpoint began: requests that it
    `answered`, and `errors`, to which it gave no answer.

    `median` and `p99` are seconds, told from the counts of a histogram with three bounds a decade: within two bounds
    they are guessed, and above 10 s they are 10. None where nothing was answered.
    """

    version: int
    role: str
    answered: int
    errors: int
    median: float | None
    p99: float | None


def counted(endpoint: Endpoint) -> tuple[Counted, ...] | None:
    """By version and role. None where the endpoint does not tell in time, or tells nobody with the key of MLOPS_KEY."""
    url, key = endpoint.details.get("admin") or endpoint.url, os.environ.get("MLOPS_KEY", "").strip()
    request = urllib.request.Request(f"{url}/metrics", headers={"authorization": f"Bearer {key}"} if key else {})
    try:
        with opener(endpoint, url).open(request, timeout=PATIENCE) as answer:
            return read(answer.read(LARGEST).decode())
    except (OSError, http.client.HTTPException, ValueError, KeyError):  # or it is no endpoint of ours
        return None


def read(text: str) -> tuple[Counted, ...]:
    """What Prometheus's text format tells of versions."""
    outcomes: defaultdict[Key, Counter[bool]] = defaultdict(Counter)
    buckets: defaultdict[Key, Counter[float]] = defaultdict(Counter)
    for name, words, value in (m.groups() for m in map(_SAMPLE.fullmatch, text.splitlines()) if m):
        labels = dict(_LABEL.findall(words))
        of = (int(labels["version"]), labels["role"])
        if name == "requests_total":
            outcomes[of][labels["outcome"] == "answered"] += int(float(value))
        else:
            buckets[of][float(labels["le"])] += int(float(value))
    return tuple(
        Counted(
            version=version,
            role=role,
            answered=seen[True],
            errors=seen[False],
            median=quantile(buckets[version, role], 0.5),
            p99=quantile(buckets[version, role], 0.99),
        )
        for (version, role), seen in sorted(outcomes.items())
    )


def quantile(below: Counter[float], share: float) -> float | None:
    """Below which bound `share` of the values lie, evenly spread between two bounds; `below` counts up to each."""
    bounds = [(0.0, 0), *sorted(below.items())]
    wanted = share * bounds[-1][1]
    for (low, before), (high, count) in pairwise(bounds):
        if count >= wanted > 0:
            return low if high == float("inf") else low + (high - low) * (wanted - before) / (count - before)
    return None
