"""What the trading services refuse, and why. Each is a
:class:`~redisutils.errors.RedisUtilsError`; what a service raises for the sake of the connection is
in :mod:`redisutils.errors`."""

from __future__ import annotations

from redisutils.errors import Outcome, RedisUtilsError

__all__ = [
    "InvalidValue",
    "MissingLibrary",
    "TapeMismatch",
    "TradesMissing",
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


class UnknownInstrument(InvalidValue):
    """Not one of the instruments that the service was told of."""


class UnreadableRecord(TradingError, ValueError):
    """What is stored under a key is no record of ours, or one of another kind."""


class MissingLibrary(TradingError, ImportError):
    """What was asked for needs a library that is not installed; it says which."""

    outcome = Outcome.NOT_SENT


class TapeMismatch(TradingError):
    """An instrument's trades are kept with other intervals, policy or encoding than these here:
    nothing was written. Whoever writes to a tape has to say the same, or bars would have holes."""

    outcome = Outcome.NOT_SENT


class TradesMissing(TradingError):
    """Trades that were given earlier are not in, and these here come after them: nothing was
    written, for else the earlier ones would be taken for duplicates when they come again.

    :param instrument: whose.
    :param after: the place in the source up to which everything is in, -1 if nothing is: write
        again what comes after it.
    """

    outcome = Outcome.NOT_SENT

    def __init__(self, instrument: str, after: int, why: str) -> None:
        super().__init__(
            f"trades of {instrument} after seq {after} are missing ({why}): write again from there"
        )
        self.instrument = instrument
        self.after = after
