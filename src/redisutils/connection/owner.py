"""Who answers for a connection: told of what it cannot settle by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from redisutils.connection.reply import Batch, Reply
from redisutils.errors import ConnectionLost, Outcome, ProtocolError
from redisutils.metrics.counters import PoolMetrics

__all__ = ["NOBODY", "Owner", "Witness", "lost"]


class _Owned(Protocol):
    """What any owner needs of a connection."""

    peer: str
    metrics: PoolMetrics

    def lose(self, error: ConnectionLost) -> None: ...


C = TypeVar("C", bound=_Owned)


class Owner(Generic[C]):
    """Who answers for a connection. This one, for a connection of one caller, retries nothing."""

    __slots__ = ()

    name: str = ""
    """For log records."""
    hears_unasked: bool = False
    """Whether something is lost with the connection although no answer is owed: messages."""

    def on_rejected(self, connection: C, reply: Reply, value: Any, code: str) -> bool:
        """The server refused ``reply`` with an error of ``code``. Return True to take it over."""
        return False

    def on_partly_rejected(self, connection: C, batch: Batch, values: list[Any]) -> bool:
        """Errors are among the answers to ``batch``. Return True to take it over."""
        return False

    def on_lost(
        self,
        connection: C,
        error: ConnectionLost,
        unanswered: Sequence[Reply],
        unsent: int,
    ) -> None:
        """The connection is gone. The last ``unsent`` of the unanswered were never written."""
        written = len(unanswered) - unsent
        for position, reply in enumerate(unanswered):
            reply.fail(lost(error, position < written), connection.metrics)

    def on_blocked(self, connection: C) -> None:
        """A bound is reached: hold callers back."""

    def on_unblocked(self, connection: C) -> None:
        """There is room again."""

    def on_silent(self, connection: C, seconds: float) -> None:
        """Nothing has been heard for ``seconds`` although an answer is due."""

    def on_push(self, connection: C, message: Any) -> None:
        """A RESP3 push message came."""

    def on_unsolicited(self, connection: C, value: Any) -> None:
        """A reply came that nobody asked for."""
        connection.lose(ProtocolError(f"{connection.peer} sent a reply that nobody had asked for"))

    def on_unreadable(self, connection: C, error: UnicodeDecodeError) -> None:
        """Something came that nobody asked for, and is not text in the connection's encoding."""
        connection.lose(ProtocolError(f"{connection.peer} sent what nobody had asked for: {error}"))


class Witness(Protocol):
    """Told of what a connection shows of its server, whoever its owner is. Must raise nothing."""

    def refused(self, connection: Any, codes: Sequence[str]) -> None:
        """An answer had errors with these codes in it. Its owner has not been told yet."""

    def lost(self, connection: Any) -> None:
        """It is about to end, and nobody here wanted that."""


def lost(error: ConnectionLost, written: bool) -> ConnectionLost:
    """The error for one command of a lost connection: each caller gets its own instance."""
    mine = type(error)(error.message, outcome=Outcome.UNKNOWN if written else Outcome.NOT_SENT)
    mine.__cause__ = error.__cause__
    return mine


NOBODY: Final[Owner[Any]] = Owner()
"""The owner of a connection that nobody else answers for."""
