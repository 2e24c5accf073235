"""Who may look: a bearer token, and sessions for browsers, which cannot send one.

A browser gets a session for the token, once: a random cookie, which says nothing about the token
and is no use after this process has ended. So the token stands in no address and no log.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from time import monotonic
from typing import Final

from redisutils.errors import ConfigError
from redisutils.secret import Secret

__all__ = ["SESSIONS", "SESSION_SECONDS", "SHORTEST", "Access", "check_token"]

SHORTEST: Final = 16
"""Characters of a token: fewer can be guessed over the network."""

LONGEST: Final = 512

SESSIONS: Final = 1000
"""Sessions at a time. One more ends the one that was used longest ago."""

SESSION_SECONDS: Final = 12 * 3600.0
"""After so long without a request a session ends."""

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
    """Knows the token and the sessions. Without a token everybody may look.

    Args:
        clock: seconds, such as ``time.monotonic``.
    """

    def __init__(self, token: Secret | None, clock: Callable[[], float] = monotonic) -> None:
        self._digest = None if token is None else _digest(token)
        self._clock = clock
        # By the digest of the cookie, so that no comparison tells how near a guess was.
        self._sessions: OrderedDict[bytes, float] = OrderedDict()

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
            return scheme.lower() == "bearer" and self.knows(token.strip())
        return session is not None and self._continues(_digest(session))

    def knows(self, token: str) -> bool:
        """Whether this is the token."""
        return self._digest is not None and hmac.compare_digest(_digest(token), self._digest)

    def begin(self) -> str:
        """A new session: what its cookie holds."""
        session = secrets.token_urlsafe(32)
        self._sessions[_digest(session)] = self._clock()
        while len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def _continues(self, session: bytes) -> bool:
        used = self._sessions.get(session)
        if used is None:
            return False
        now = self._clock()
        if now - used > SESSION_SECONDS:
            del self._sessions[session]
            return False
        self._sessions[session] = now
        self._sessions.move_to_end(session)
        return True


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="surrogateescape")).digest()
