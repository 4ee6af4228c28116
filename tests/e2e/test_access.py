"""A project whose endpoint asks for keys, by the commands a person types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mlops_core import api

ROW = '{"a": 3.0, "b": 0.0}'


@pytest.fixture
def served(here: Any) -> Iterator[Any]:
    """The toy project with deployer http as it is by default."""
    config = here.root / "conf" / "config.yaml"
    config.write_text(config.read_text().replace("  - _self_\n", "  - deployer: http\n  - _self_\n"))
    try:
        yield here
    finally:
        api.stop(here.root)


def test_keys_from_the_command_line(served: Any) -> None:
    assert "no keys yet" in served.mlops("keys").stdout
    done = served.run()
    refused = served.mlops("predict", ROW, code=1).stderr
    assert "a key is needed" in refused and "set MLOPS_KEY to a key for predict; 'mlops keys create" in refused

    made = served.mlops("keys", "create", "--scope", "predict", "--expires", "30d", "--rate", "50/s", "--who", "ann")
    key = made.stdout.strip()
    assert re.fullmatch(r"mlops_[0-9a-f]{12}_[\w-]{43}", key) and "only time it is shown" in made.stderr
    served.env["MLOPS_KEY"] = key
    assert "version 1" in served.mlops("predict", ROW).stdout
    other = json.loads(served.mlops("keys", "create", "--scope", "predict", "--model", "another", "--json").stdout)
    assert other["scope"] == "predict" and "salt" not in other and "digest" not in other
    url = done["endpoint"]["url"]
    assert httpx.get(f"{url}/v2/models/toy", headers={"x-api-key": other["key"]}, trust_env=False).status_code == 403

    id = key.split("_")[1]
    assert served.mlops("keys", "revoke", id, "--reason", "ann left").stdout == f"key {id} is revoked\n"
    assert "this key is not known here" in served.mlops("predict", ROW, code=1).stderr
    assert "has no key 'nobody'" in served.mlops("keys", "revoke", "nobody", "--reason", "x", code=1).stderr
    for words in (["revoke", id], ["revoke"], ["create"], ["create", "--scope", "all"], ["make"]):
        served.mlops("keys", *words, code=3)
    listed = json.loads(served.mlops("keys", "list", "--json").stdout)
    assert [(k["who"], k["state"]) for k in listed] == [("ann", "revoked"), ("", "live")]

    entries, fault = api.audit(served.root)
    told = {e.action: e for e in entries if e.action.startswith("key.")}
    assert not fault and told["key.revoked"].reason == "ann left" and told["key.revoked"].subject == f"toy/key-{id}"
    secrets = [k.split("_", 2)[2].encode() for k in (key, other["key"])]
    for file in served.root.rglob("*"):
        assert not file.is_file() or not any(s in file.read_bytes() for s in secrets), file


def test_an_open_door_to_the_network_is_a_fault_of_the_declaration(served: Any) -> None:
    told = served.mlops("check", "deployer.host=0.0.0.0", "deployer.auth=none", code=3)
    assert "auth none would let everybody on the network in" in told.stdout + told.stderr
    served.mlops("check", "deployer.host=0.0.0.0")
    told = served.mlops("check", "deployer.tls_cert=cert.pem", code=3)
    assert "tls_cert needs tls_key beside it" in told.stdout + told.stderr
