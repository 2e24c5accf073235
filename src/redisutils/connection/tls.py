"""TLS contexts from files, read again when the files change."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from redisutils.errors import ConfigError
from redisutils.files import irregular

__all__ = ["Renewed", "TLSFiles"]

_Stamp = tuple[int, int, int]


class Renewed:
    """A context that is made anew when one of its files is another than it was.

    Args:
        make: makes the context from the files as they are, and says so if it cannot.
        *files: what it reads. Of a directory, every file in it counts.
    """

    def __init__(
        self, make: Callable[[], ssl.SSLContext], *files: str | os.PathLike[str] | None
    ) -> None:
        self._make = make
        self._files = [file for file in files if file]
        self._stamps: list[_Stamp] = []
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """The context for the files as they are now. Raises what ``make`` does."""
        # Before they are read: one that changes meanwhile is read again the next time.
        stamps = [stamp for file in self._files for stamp in _stamps(file)]
        if self._context is None or stamps != self._stamps:
            self._context = self._make()
            self._stamps = stamps
        return self._context


def _stamps(path: str | os.PathLike[str]) -> Iterator[_Stamp]:
    """One for a file; for a directory its own and one for each entry, so O(entries); none for
    what is not there."""
    with contextlib.suppress(OSError):
        yield _stamp(os.stat(path))
        if os.path.isdir(path):
            with os.scandir(path) as entries:
                # They may be links that lead nowhere: OpenSSL passes those over.
                yield from sorted(_stamp(entry.stat()) for entry in entries if entry.is_file())


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _look_at(named: str, path: Path) -> None:
    """OpenSSL would wait for who writes to a pipe, and read a device to its end."""
    try:
        wrong = irregular(path.stat())
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    if wrong:
        raise ConfigError(f"{named}: {wrong}")


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
        self._renewed = Renewed(self._load, cert, key, ca)

    def __call__(self) -> ssl.SSLContext:
        """The context for the files as they are now.

        Raises:
            ConfigError: a file is missing, unreadable or not what it should be.
        """
        return self._renewed()

    def _load(self) -> ssl.SSLContext:
        files = {"CERT": self._cert, "KEY": self._key, "CA": self._ca}
        for what, path in files.items():
            if path is not None:
                _look_at(f"REDIS_TLS_{what}_PATH={path}", path)
        try:
            # With a file, its authorities alone: the system's would vouch for strangers.
            context = ssl.create_default_context(cafile=self._ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"REDIS_TLS_CA_PATH={self._ca}: not a PEM file of certificates ({error})"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self._check_hostname
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
