"""What the outbox and the histories tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from redisutils.trading.errors import UnreadableRecord
from redisutils.trading.ledger.outbox import Entry, Mark
from redisutils.trading.orders.books import Books
from redisutils.trading.orders.records import CancelReject, ExecutionReport, Order, OrderRequest
from redisutils.trading.portfolio.records import Adjustment, Position

__all__ = ["Event", "EventKind", "Reader"]

EventKind = Literal[
    "placed",
    "executed",
    "replace-requested",
    "cancel-requested",
    "cancel-rejected",
    "adjusted",
]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to an account.

    ``seq`` counts from 1 without gaps. ``message`` is what came, by ``kind``: an Order, an
    ExecutionReport, an OrderRequest, a CancelReject or an Adjustment. ``order`` and ``position``
    are what they were after it; in an order's history there is no ``position``, and no ``commit``,
    the name of what wrote the event.
    """

    seq: int
    commit: str = ""
    kind: EventKind
    message: Order | ExecutionReport | OrderRequest | CancelReject | Adjustment
    order: Order | None = None
    position: Position | None = None

    @property
    def mark(self) -> str:
        """Where to go on after this event, for :meth:`Orders.subscribe` and :meth:`Orders.replay`.
        Unlike ``seq``, it tells whether the events before are still those that were told. For an
        event of an order's history it is not taken: go on after its ``seq``."""
        return str(Mark(self.seq, self.commit))


class Reader:
    """Makes events of what is stored."""

    __slots__ = ("_decode", "_order", "_position")

    def __init__(self, books: Books) -> None:
        self._order = books.orders.codec.decode
        self._position = books.positions.kind.codec.decode
        self._decode: Mapping[bytes, Callable[[bytes, str], Any]] = {
            b"placed": books.orders.codec.decode,
            b"executed": books.reports.decode,
            b"replace-requested": books.requests.decode,
            b"cancel-requested": books.requests.decode,
            b"cancel-rejected": books.rejects.decode,
            b"adjusted": books.positions.adjustments.decode,
        }

    def event(self, entry: Entry) -> Event:
        """The event of an entry.

        :raises UnreadableRecord: it is none of ours.
        """
        fields = entry.fields
        where = f"event {entry.seq}"
        kind: Any = fields.get(b"k")
        decode = self._decode.get(kind)
        if decode is None or b"r" not in fields:
            raise UnreadableRecord(f"no event of ours is {where}: its kind is {kind!r}")
        order, position = fields.get(b"n"), fields.get(b"p")
        return Event(
            seq=entry.seq,
            commit=entry.commit,
            kind=kind.decode(),
            message=decode(fields[b"r"], where),
            order=None if order is None else self._order(order, where),
            position=None if position is None else self._position(position, where),
        )
