"""What runs first where a project was sent to, as module `mlops_aboard`: takes its secrets, looks around, runs mlops.

It travels with the project, for mlops itself may be missing there: the standard library and Ray only.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping


def main() -> int:
    told = json.loads(os.environ.pop("MLOPS_PARCEL"))
    try:
        secrets = _taken(told["parcel"]) if told["secrets"] else {}
    except Exception as error:
        return _fail(f"the secrets that were sent cannot be taken here: {type(error).__name__}: {error}", 1)
    wrong = list(_missing(told["expects"]))
    if wrong:
        return _fail("\n".join(wrong), 3)
    names = {"MLOPS_SECRETS": ",".join(secrets)} if secrets else {}  # a search hands them on to its trials
    settings = {**os.environ, **told["settings"], **secrets, **names}
    return os.execve(sys.executable, [sys.executable, "-m", "mlops_core", *sys.argv[1:]], settings)


def _taken(name: str) -> dict[str, str]:
    """Names and values, once: what was sent is gone from the cluster's memory afterwards."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    store, key = GcsClient(address=os.environ["RAY_ADDRESS"]), name.encode()
    held = store.internal_kv_get(key, None)
    store.internal_kv_del(key, False, None)
    if not held:
        raise LookupError("they were taken before")
    return dict(json.loads(held))


def _missing(expects: Mapping[str, str]) -> Iterator[str]:
    """What is not here as it is at home, and what to do."""
    from importlib.metadata import PackageNotFoundError, version

    found = ".".join(platform.python_version_tuple()[:2])
    if found != expects["python"]:
        yield f"the cluster runs Python {found}, the project was sent from {expects['python']}; use the same on both"
    for name, wanted in expects.items():
        if name == "python":
            continue
        try:
            there = version(name)
        except PackageNotFoundError:
            there = "none"
        if there != wanted:
            line = f"put '{name}=={wanted}' into a requirements file (--requirements), or into the cluster's image"
            yield f"{name} {wanted} is needed on the cluster, which has {there}; {line}"


def _fail(message: str, code: int) -> int:
    print(f"mlops: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
