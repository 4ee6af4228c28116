"""What a deployer looks at before anything runs: light, for every command loads it."""

from __future__ import annotations

from collections.abc import Mapping


def refuse_batching(batching: Mapping[str, float]) -> None:
    """Raises ValueError where this is no declaration of it."""
    size, wait = batching.get("size", 0), batching.get("wait", -1)
    if set(batching) != {"size", "wait"} or size < 1 or size != int(size) or not 0 <= wait <= 1:
        raise ValueError(
            f"batching {dict(batching)} is not {{size: whole rows, 1 or more; wait: seconds, 0 to 1}}, "
            "for example {size: 32, wait: 0.002}"
        )
