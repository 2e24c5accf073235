"""TLS contexts from files, read again when the files change."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from redisutils.errors import ConfigError

__all__ = ["TLSFiles"]


class TLSFiles:
    """Makes client contexts: TLS 1.2 or newer, the server verified, mutual with cert and key.

    Args:
        cert, key: PEM files of our own certificate and key, both or neither.
        ca: PEM file of the authorities to trust; None for the system's.
        check_hostname: whether the server's certificate must name the host.
    """

    def __init__(
        self, cert: Path | None, key: Path | None, ca: Path | None, *, check_hostname: bool = True
    ) -> None:
        self._cert, self._key, self._ca = cert, key, ca
        self._check_hostname = check_hostname
        self._stamp: tuple[tuple[int, int, int], ...] | None = None
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """The context for the files as they are now.

        Raises:
            ConfigError: a file is missing, unreadable or not what it should be.
        """
        stamp = tuple(self._stat(path) for path in (self._cert, self._key, self._ca) if path)
        if self._context is None or stamp != self._stamp:
            self._context = self._load()
            self._stamp = stamp
        return self._context

    @staticmethod
    def _stat(path: Path) -> tuple[int, int, int]:
        try:
            found = os.stat(path)
        except OSError as error:
            raise ConfigError(f"cannot read the TLS file {path}: {error.strerror}") from None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self._check_hostname
        if self._ca is not None:
            try:
                context.load_verify_locations(cafile=self._ca)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"REDIS_TLS_CA_PATH={self._ca}: not a PEM file of certificates ({error})"
                ) from None
        if self._cert is not None:
            try:
                # Without a password OpenSSL asks for one at the terminal, and the loop waits.
                context.load_cert_chain(self._cert, self._key, password="")
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"REDIS_TLS_CERT_PATH={self._cert} and REDIS_TLS_KEY_PATH={self._key}: "
                    f"not a PEM certificate and its key without a password ({error})"
                ) from None
        return context
