"""A finding as one sentence."""

from __future__ import annotations

from mlops_core.evidence.guards import Guard, Judgement, State


def told(guard: Guard, state: State, found: Judgement, error: float) -> str:
    """What was seen, what it is held against, and how sure that is."""
    if not found.requests:
        return f"{_NAMES[guard.kind]}: nothing seen of the candidate yet"
    name = f"p{100 * guard.quantile:g} latency" if guard.kind == "latency" else _NAMES[guard.kind]
    seen = _SEEN[guard.kind].format(f=found, t=guard.tolerance)
    rows = "labelled rows" if guard.kind == "metric" else "requests"
    verdict = {
        "harm": "worse than tolerated",
        "safe": "within tolerance",
        "open": "not decided yet",
    }[state]
    sure = "" if state == "open" else f", wrong at most with probability {max(error, 1e-12):.2g}"
    return f"{name}: {verdict} after {found.requests:,} {rows} of the candidate{sure}; {seen}"


_NAMES = {"errors": "error rate", "latency": "latency", "predictions": "predictions", "metric": "loss"}
_DIFFERENCE = "difference between {f.low:+.2%} and {f.high:+.2%}, tolerated {t:+.2%}"
_SEEN = {
    "errors": "{f.candidate:.2%} against {f.stable:.2%}, " + _DIFFERENCE,
    "latency": "{f.candidate:.3g} s against {f.stable:.3g} s, factor {f.low:.3g} to {f.high:.4g} (5 ms forgiven), "
    "tolerated {t:g}",
    "predictions": "distance of the distributions between {f.low:.3f} and {f.high:.3f}, tolerated {t:g}",
    "metric": "{f.candidate:.4f} against {f.stable:.4f}, " + _DIFFERENCE.replace(".2%", ".4f"),
}
