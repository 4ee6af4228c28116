"""A certificate that is renewed while its endpoint answers: new callers are shown the new one, without a restart."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.errors import ServingError
from mlops_core.serving.reach import tls_context

if TYPE_CHECKING:
    import ssl

EVERY = 2.0  # seconds between two looks at the files, which cost a caller some microseconds
log = logging.getLogger("mlops_core.serving")


class Pair:
    """The files of a certificate and of its key. Looked at when a caller comes: no thread, no timer."""

    def __init__(self, cert: Path, key: Path) -> None:
        self.cert, self.key = cert, key
        self._seen, self._looked = self._marks(), time.monotonic()

    def renewed(self) -> ssl.SSLContext | None:
        """The context of a pair that is another than at the last look, and of use. What is of no use, such as a new
        certificate whose key is yet to come, is told in the log once, and the pair before goes on."""
        now = time.monotonic()
        if now - self._looked < EVERY:
            return None
        self._looked, marks = now, self._marks()
        if marks == self._seen:
            return None
        self._seen = marks
        try:
            found = tls_context(self.cert, self.key)
        except (ServingError, OSError) as error:
            log.warning("the certificate before goes on: %s", error)
            return None
        log.info("the certificate %s was renewed", self.cert)
        return found

    def keep(self, context: ssl.SSLContext) -> None:
        """Has `context` show its callers the latest pair."""
        latest = context

        def choose(connection: Any, name: str | None, before: Any) -> None:
            nonlocal latest
            latest = self.renewed() or latest
            # Not load_cert_chain(): beside a key of another kind, the certificate before would stay on offer.
            connection.context = latest

        context.sni_callback = choose

    def credentials(self) -> Any:
        """The same for gRPC."""
        from grpc import dynamic_ssl_server_credentials

        return dynamic_ssl_server_credentials(self._configuration(), lambda: self.renewed() and self._configuration())

    def _configuration(self) -> Any:
        from grpc import ssl_server_certificate_configuration

        return ssl_server_certificate_configuration([(self.key.read_bytes(), self.cert.read_bytes())])

    def _marks(self) -> tuple[Any, ...]:
        try:
            found = [path.stat() for path in (self.cert, self.key)]
        except OSError:
            return ()
        return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in found)
