"""Who may call an endpoint: keys as they are made, kept and checked.

The ledger knows every key that ever was; an endpoint reads `keys.json` of its state folder, which holds the
live ones. Neither holds a secret: of a key there is a salted hash.
"""

from __future__ import annotations

from mlops_core.access.file import read_keys, write_keys
from mlops_core.access.keys import SCOPES, Key, Scope, expires_at, issue, per_second

__all__ = ["SCOPES", "Key", "Scope", "expires_at", "issue", "per_second", "read_keys", "write_keys"]
