"""What the trading services refuse, and why. Each is a
:class:`~redisutils.errors.RedisUtilsError`; what a service raises for the sake of the connection is
in :mod:`redisutils.errors`."""

from __future__ import annotations

from redisutils.errors import Outcome, RedisUtilsError

__all__ = [
    "BookReplaced",
    "Crossed",
    "InvalidValue",
    "NotWritten",
    "ServiceClosed",
    "TradingError",
    "UnknownInstrument",
    "UnreadableRecord",
]


class TradingError(RedisUtilsError):
    """The root of what the trading services refuse by their own rules."""


class InvalidValue(TradingError, ValueError):
    """An argument that cannot be meant: nothing was sent.

    The text names the argument, its value and what would be right.
    """

    outcome = Outcome.NOT_SENT


class BookReplaced(TradingError):
    """Another writer has put a snapshot of this order book: ours is not the one that is read. A
    snapshot of ours takes it back."""

    outcome = Outcome.REJECTED


class Crossed(InvalidValue):
    """A bid above the offer: one of them is wrong."""


class UnknownInstrument(InvalidValue):
    """Not one of the instruments that the service was told of."""


class NotWritten(TradingError):
    """A service was closed, and could not write all that it held. ``count`` says how much it was;
    of a part it may be unknown whether it was written."""

    outcome = Outcome.UNKNOWN

    def __init__(self, message: str, count: int = 0) -> None:
        super().__init__(message)
        self.count = count


class ServiceClosed(TradingError):
    """The service was closed: nothing was sent."""

    outcome = Outcome.NOT_SENT


class UnreadableRecord(TradingError, ValueError):
    """What is stored under a key is no record of ours, or one of another kind."""
