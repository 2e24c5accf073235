"""Who may look: a bearer token, and sessions for browsers, which cannot send one.

A browser gets a session for the token, once: a cookie with its end, signed with a key that is made
from the token. So the token stands in no address and no log, and every worker that has the same
token knows the session of another, and one of before it was restarted.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from time import time
from typing import Final

from redisutils.errors import ConfigError
from redisutils.secret import Secret

__all__ = ["SESSION_SECONDS", "SHORTEST", "Access", "check_token"]

SHORTEST: Final = 16
"""Characters of a token: fewer can be guessed over the network."""

LONGEST: Final = 512

SESSION_SECONDS: Final = 12 * 3600.0
"""After so long a session ends, whatever was asked for in it."""

_PLAIN: Final = re.compile(r"[!-~]+")


def check_token(token: str, name: str) -> Secret:
    """The token, hidden from those who print it.

    Args:
        name: what it is called, for the error.

    Raises:
        ConfigError: it is too short or too long, or cannot stand in a header.
    """
    if not _PLAIN.fullmatch(token):
        what = "is empty" if not token else "has a space or a character that is not ASCII"
        raise ConfigError(f"{name} {what}: {_ADVICE}")
    if not SHORTEST <= len(token) <= LONGEST:
        raise ConfigError(
            f"{name} has {len(token)} characters, must have {SHORTEST} to {LONGEST}: {_ADVICE}"
        )
    return Secret(token)


_ADVICE: Final = "make one with  python -c 'import secrets; print(secrets.token_urlsafe(32))'"


class Access:
    """Knows the token, and its own sessions. Without a token everybody may look.

    Args:
        clock: seconds, the same for all workers, such as ``time.time``.
    """

    def __init__(self, token: Secret | None, clock: Callable[[], float] = time) -> None:
        self._digest = None if token is None else _digest(token)
        self._clock = clock
        self.cookie = f"redisutils-{self._derived('cookie').hex()[:8]}"
        """The name of a session's cookie, another one for each token. Browsers send the cookies of
        one port to all ports of a host: those of two monitors must not get into each other's way.
        """

    @property
    def open(self) -> bool:
        """Whether everybody may look."""
        return self._digest is None

    def allows(self, authorization: str | None, session: str | None) -> bool:
        """Whether a request with this header and this cookie may look. In constant time."""
        if self._digest is None:
            return True
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() == "bearer" and self.knows(token.strip()):
                return True
        return session is not None and self._continues(session)

    def knows(self, token: str) -> bool:
        """Whether this is the token."""
        return self._digest is not None and hmac.compare_digest(_digest(token), self._digest)

    def begin(self) -> str:
        """A new session: what its cookie holds."""
        told = f"{self._clock() + SESSION_SECONDS:.0f}.{secrets.token_urlsafe(16)}"
        return f"{told}.{self._signature(told)}"

    def _continues(self, session: str) -> bool:
        told, _, signature = session.rpartition(".")
        if not hmac.compare_digest(_digest(signature), _digest(self._signature(told))):
            return False
        return self._clock() < float(told.partition(".")[0])  # ours: we have signed it

    def _signature(self, told: str) -> str:
        key = self._derived("sessions")
        return hmac.new(key, told.encode(errors="surrogateescape"), "sha256").hexdigest()

    def _derived(self, what: str) -> bytes:
        """Made from the token for one purpose, so that it tells nothing of it."""
        return hmac.digest(self._digest or b"", f"redisutils monitor: {what}".encode(), "sha256")


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="surrogateescape")).digest()
