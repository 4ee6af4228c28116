"""Who can reach an endpoint: this machine or the network, in clear or by TLS."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.errors import ServingError

if TYPE_CHECKING:
    import ssl


def refuse_open(host: str, auth: str) -> None:
    """Raises ValueError where everybody on a network could call without a key."""
    if auth == "none" and not is_loopback(host):
        raise ValueError(
            f"host {host!r} is not loopback, and auth none would let everybody on the network in: "
            "declare auth: keys, or host: 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_half(cert: Path | None, key: Path | None) -> None:
    """Raises ValueError where only one of the two files is declared."""
    if (cert is None) != (key is None):
        there, missing = ("tls_cert", "tls_key") if key is None else ("tls_key", "tls_cert")
        raise ValueError(f"{there} needs {missing} beside it: the certificate's file and its private key's")


def certificate(cert: Path | None, key: Path | None) -> dict[str, str]:
    """The two files as a process finds them; empty for none. Raises ServingError where they are of no use."""
    if cert is None or key is None:
        return {}
    tls_context(cert, key)
    return {"tls_cert": str(cert.absolute()), "tls_key": str(key.absolute())}


def tls_files(process: Mapping[str, Any]) -> tuple[Path, Path] | None:
    """The two files as a process was told of them; None without."""
    return (Path(process["tls_cert"]), Path(process["tls_key"])) if process.get("tls_cert") else None


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """What a server shows its callers. Raises ServingError."""
    import ssl

    for name, path in (("tls_cert", cert), ("tls_key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ServingError(f"deployer.{name}: cannot read {path}: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        why = error.reason or str(error)
        apart = why in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
        words = "they do not belong together" if apart else f"not PEM, or protected ({why})"
        raise ServingError(f"deployer.tls_cert {cert} and tls_key {key} cannot be used: {words}") from error
    return context


def answers(host: str, port: int, tls: bool, seconds: float = 5.0) -> bool:
    """Whether who listens there says that it is ready. Its certificate is for others to look at."""
    import http.client
    import ssl

    connection: http.client.HTTPConnection
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _no_password() -> str:
    """A key with a password would have the process wait at a terminal that is not there."""
    return ""
