"""What the trading services refuse, and why. Each is a
:class:`~redisutils.errors.RedisUtilsError`; what a service raises for the sake of the connection is
in :mod:`redisutils.errors`."""

from __future__ import annotations

from redisutils.errors import Outcome, RedisUtilsError

__all__ = [
    "BookReplaced",
    "Conflict",
    "Crossed",
    "IllegalTransition",
    "InvalidValue",
    "LedgerClosed",
    "MissingLibrary",
    "NotWritten",
    "Overfill",
    "ServiceClosed",
    "TapeMismatch",
    "TradesMissing",
    "TradingError",
    "UnknownExecution",
    "UnknownInstrument",
    "UnknownOrder",
    "UnknownPosition",
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


class UnknownOrder(TradingError, LookupError):
    """No order has this id or ClOrdID: it was never placed here, or was closed for longer than it
    is kept."""

    outcome = Outcome.REJECTED


class UnknownPosition(TradingError, LookupError):
    """An adjustment of an instrument that was never ordered nor transferred."""

    outcome = Outcome.REJECTED


class UnknownExecution(TradingError, LookupError):
    """A bust or a correction of an execution that was never applied; or a report of a trade date
    whose executions are not kept any more, so that nobody can say whether it was applied before."""

    outcome = Outcome.REJECTED


class IllegalTransition(TradingError):
    """An event that an order in its status cannot have. Nothing was changed.

    ``order_id`` is the order, ``status`` what it is in, ``event`` what came, ``why`` the reason.
    """

    outcome = Outcome.REJECTED

    # The defaults are for unpickling, which gives only the message and sets the rest itself.
    def __init__(
        self, message: str, *, order_id: str = "", status: str = "", event: str = "", why: str = ""
    ) -> None:
        super().__init__(message)
        self.order_id = order_id
        self.status = status
        self.event = event
        self.why = why


class Conflict(TradingError):
    """An id that was used before, for something else. Nothing was changed."""

    outcome = Outcome.REJECTED


class Overfill(IllegalTransition):
    """An execution by which more than the order's quantity would be executed. Nothing was
    changed."""


class LedgerClosed(TradingError):
    """The service was closed; what it had accepted before was written."""

    outcome = Outcome.NOT_SENT


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
