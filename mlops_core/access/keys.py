"""A key: made once, shown once, kept as a hash.

The text is `mlops_<id>_<secret>`, the secret 256 random bits. What is kept is SHA-256 of salt and secret. Slow
hashes (argon2, bcrypt) make guessing what people choose expensive; nobody guesses 256 random bits, however fast
the hash (NIST SP 800-63B, 5.1.2.2: look-up secrets of at least 112 bits need no more than a hash), and a slow one
would be paid at each request.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from mlops_core.errors import UsageError
from mlops_core.records import record

Scope = Literal["predict", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "mlops_"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@record
class Key:
    """What is known of a key. `model` '' means any model of the endpoint, `rate` 0 any number of requests a second.

    Times are ISO 8601 in UTC; `expires` '' means never, `revoked` '' not yet.
    """

    id: str
    scope: Scope
    salt: str
    digest: str
    model: str = ""
    rate: float = 0.0
    who: str = ""
    created: str = ""
    expires: str = ""
    revoked: str = ""

    def state(self, now: datetime) -> str:
        """live, revoked or expired."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and datetime.fromisoformat(self.expires) <= now else "live"


def issue(
    scope: str, *, model: str = "", expires: str = "", rate: str = "", who: str = "", now: datetime | None = None
) -> tuple[Key, str]:
    """A new key, and its text, which nobody can tell afterwards. Raises UsageError for what cannot be meant."""
    if scope not in SCOPES:
        raise UsageError(f"unknown scope {scope!r}; expected {', '.join(SCOPES)}")
    now = now or datetime.now(UTC)
    secret, salt, id = secrets.token_urlsafe(32), secrets.token_hex(16), secrets.token_hex(6)
    made = Key(
        id=id,
        scope=scope,
        salt=salt,
        digest=digest(salt.encode(), secret.encode()),
        model=model,
        rate=per_second(rate),
        who=who,
        created=now.isoformat(timespec="seconds"),
        expires=expires_at(expires, now),
    )
    return made, f"{PREFIX}{id}_{secret}"


def digest(salt: bytes, secret: bytes) -> str:
    return hashlib.sha256(salt + secret).hexdigest()


def expires_at(text: str, now: datetime) -> str:
    """'30d', '12h' or a date and time (ISO 8601; without a zone, UTC) as a time in UTC; '' stays ''."""
    if not text:
        return ""
    if found := re.fullmatch(r"(\d{1,6})([smhdw])", text):
        return (now + timedelta(seconds=int(found[1]) * _UNITS[found[2]])).isoformat(timespec="seconds")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"expires {text!r} is no time; expected 30d, 12h or 2027-01-31") from None
    moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    if moment <= now:
        raise UsageError(f"expires {text!r} is past; a key must live for a while")
    return moment.isoformat(timespec="seconds")


def per_second(text: str) -> float:
    """'100/s', '60/m' or '1000/h' as requests a second; '' is 0, no limit."""
    if not text:
        return 0.0
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)/([smhd])", text)
    rate = float(found[1]) / _UNITS[found[2]] if found else 0.0
    if rate <= 0:
        raise UsageError(f"rate {text!r} is no rate; expected 100/s, 60/m or 1000/h")
    return rate
