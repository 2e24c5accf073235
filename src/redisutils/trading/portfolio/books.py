"""How an account's positions are stored and indexed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from redisutils.trading.codec import Codec, Encoding
from redisutils.trading.errors import Conflict
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.ledger.view import Kind, View
from redisutils.trading.portfolio.records import Adjustment, Method, Position

__all__ = ["Positions"]


class Positions:
    """The kinds of records, and where they are.

    :param method: of positions that are opened; each keeps the one that it was opened with.
    """

    def __init__(self, keys: Keys, encoding: Encoding, method: Method) -> None:
        self.keys = keys
        self.method = method
        self.kind: Kind[Position] = Kind(Codec(Position, encoding), self._indexed)
        self.adjustments = Codec(Adjustment, encoding)

    def of(
        self,
        view: View,
        what: Callable[[], str],
        instrument: str,
        currency: str,
        multiplier: Decimal,
    ) -> Position:
        """The position in an instrument, a new one if there is none.

        :param what: says what moves it, for the error.
        :raises Conflict: it is in another currency, or has another multiplier.
        """
        position = view.record(self.kind, self.keys.position(instrument))
        if position is None:
            return Position(
                instrument=instrument, currency=currency, multiplier=multiplier, method=self.method
            )
        if position.currency != currency or position.multiplier != multiplier:
            raise Conflict(
                f"{what()}: {instrument} is held in currency={position.currency!r} with "
                f"multiplier={position.multiplier}, not in currency={currency!r} with "
                f"multiplier={multiplier}: the first order or transfer of an instrument decides "
                "it; what is traded otherwise needs another name"
            )
        return position

    def decided(self, view: View, position: Position) -> bytes:
        """Keep a position if it is new, flat as it is: whatever comes next has to be in its
        currency. As what it is written; empty if it is not new."""
        if view.record(self.kind, self.keys.position(position.instrument)) is not None:
            return b""
        return self.put(view, position)

    def put(self, view: View, position: Position) -> bytes:
        """Change a position; as what it is written."""
        return view.put(self.kind, self.keys.position(position.instrument), position)

    def _indexed(self, view: View, key: str, before: Position | None, after: Position) -> None:
        if before is None:
            view.command("SADD", self.keys.positions, after.instrument)
