"""Every exception that redisutils raises, and what each says about a write.

Each class also inherits the redis-py exception that people already catch in its
place, so ``except redis.ConnectionError`` goes on working after the migration.

Every error that a command can raise carries ``outcome``. Errors that are
redis-py's own classes (``ResponseError`` and family, ``DataError``) get the same
attribute on the instance: see :func:`with_outcome` and :func:`outcome_of`.
"""

from __future__ import annotations

import enum
from typing import Literal, TypeVar

import redis.exceptions as rpy

__all__ = [
    "AuthenticationFailed",
    "CircuitOpen",
    "CommandTimeout",
    "ConfigError",
    "ConnectFailed",
    "ConnectTimeout",
    "ConnectionLost",
    "CrossSlot",
    "LeaseReleased",
    "NotSharable",
    "Outcome",
    "PoolClosed",
    "PoolTimeout",
    "ProtocolError",
    "RedisUtilsError",
    "WrongLoop",
    "happened",
    "outcome_of",
    "with_outcome",
]


class Outcome(enum.Enum):
    """What is known about a command that raised."""

    NOT_SENT = "not sent"
    """No byte of it was written: it has had, and will have, no effect."""

    REJECTED = "rejected"
    """The server answered with an error. It had no effect, save for scripts and
    transactions, which may have done a part of their work before they failed."""

    UNKNOWN = "unknown"
    """It was written and no reply came: it may or may not have taken effect."""

    EXECUTED = "executed"
    """The server executed it; only its reply could not be turned into a value
    (bytes that do not decode, a response callback that raised)."""


class RedisUtilsError(Exception):
    """The root of this package's exceptions."""

    outcome: Outcome | None = None

    tells_outcome = False
    """Whether its text ends with the outcome: it is about a command, not about how it was called,
    and whoever reads it in a log at night wants to know."""

    def __init__(self, message: str, *, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        self.message = message
        """What happened, without the outcome."""
        if outcome is not None:
            self.outcome = outcome

    def __str__(self) -> str:
        text = super().__str__()
        if self.tells_outcome and self.outcome is not None:
            return f"{text} [outcome: {self.outcome.name}]"
        return text


class ConfigError(RedisUtilsError, rpy.DataError, ValueError):
    """A setting or an argument is wrong. The message names it, shows its value
    (secrets never) and says what would be right."""

    outcome = Outcome.NOT_SENT


class ConnectFailed(RedisUtilsError, rpy.ConnectionError):
    """No connection could be made: refused, unreachable, TLS or handshake failed.

    ``fatal`` says that trying again cannot help, as with a wrong password; ``own``, that it failed
    on our side, and says nothing of the server; ``elsewhere``, that what is connected to may soon
    be another server, so that the attempt counts against nobody's retries.
    """

    tells_outcome = True
    outcome = Outcome.NOT_SENT
    fatal = False
    own = False
    elsewhere = False

    def __init__(
        self, message: str, *, outcome: Outcome | None = None, fatal: bool | None = None
    ) -> None:
        super().__init__(message, outcome=outcome)
        if fatal is not None:
            self.fatal = fatal


class ConnectTimeout(ConnectFailed, rpy.TimeoutError):
    """Connecting, TLS and handshake together took longer than allowed."""


class CircuitOpen(ConnectFailed):
    """The server is known dead, and is tried again in the background: nobody waits for it
    meanwhile. The message says since when, and why."""


class AuthenticationFailed(ConnectFailed, rpy.AuthenticationError):
    """The server refused the user name or the password. Not retried."""

    fatal = True


class ConnectionLost(RedisUtilsError, rpy.ConnectionError):
    """The connection died with commands unanswered, or before they were written."""

    tells_outcome = True
    outcome = Outcome.UNKNOWN


class ProtocolError(ConnectionLost, rpy.InvalidResponse):
    """The peer sent what is not RESP, a reply nobody asked for, or one over the
    limit. Nothing after it can be trusted: the connection is closed."""


class CommandTimeout(RedisUtilsError, rpy.TimeoutError):
    """The command's time budget ran out: while it waited (``NOT_SENT``) or
    after it was written (``UNKNOWN``)."""

    tells_outcome = True


class PoolTimeout(RedisUtilsError, rpy.TimeoutError, rpy.MaxConnectionsError):
    """A checkout took longer than its phase allows.

    ``phase`` is ``"wait"`` (for a free connection), ``"recycle"`` (of idle ones) or ``"create"``.
    """

    tells_outcome = True
    outcome = Outcome.NOT_SENT

    # The default is for unpickling, which gives only the message and sets the rest itself.
    def __init__(self, message: str, phase: Literal["wait", "recycle", "create"] = "wait") -> None:
        super().__init__(message)
        self.phase = phase


class PoolClosed(RedisUtilsError, rpy.ConnectionError):
    """The pool is closed, or was closed while the caller waited."""

    tells_outcome = True
    outcome = Outcome.NOT_SENT


class LeaseReleased(RedisUtilsError, rpy.ConnectionError):
    """A connection was used after it had been given back to its pool."""

    outcome = Outcome.NOT_SENT


class NotSharable(RedisUtilsError, rpy.DataError):
    """A command that changes its connection's state was issued on a shared one.
    The message says what to use instead."""

    outcome = Outcome.NOT_SENT


class CrossSlot(RedisUtilsError, rpy.ClusterCrossSlotError):
    """The keys of one command, or of one transaction, live in different slots of a cluster. The
    message names two of them."""

    outcome = Outcome.NOT_SENT


class WrongLoop(RedisUtilsError, RuntimeError):
    """A pool was used from another event loop or process than the one it belongs to."""

    outcome = Outcome.NOT_SENT


_E = TypeVar("_E", bound=BaseException)


def with_outcome(error: _E, outcome: Outcome) -> _E:
    """Mark ``error``, of whatever class, with an outcome, and return it."""
    error.outcome = outcome  # type: ignore[attr-defined]  # exceptions have a __dict__
    return error


def outcome_of(error: BaseException) -> Outcome | None:
    """What ``error`` says about its command, or None when it says nothing."""
    outcome = getattr(error, "outcome", None)
    return outcome if isinstance(outcome, Outcome) else None


def happened(error: BaseException) -> str:
    """What ``error`` tells, without the outcome: for the text of another one, whose outcome may be
    another, too."""
    return error.message if isinstance(error, RedisUtilsError) else str(error)


def with_code(error: _E, code: str) -> _E:
    """Mark a server's refusal with its first word, such as LOADING, and return it."""
    error.code = code  # type: ignore[attr-defined]  # exceptions have a __dict__
    return error


def code_of(error: BaseException) -> str:
    """The first word of a server's refusal; empty for every other error."""
    code = getattr(error, "code", "")
    return code if isinstance(code, str) else ""
