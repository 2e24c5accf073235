"""How an account's orders and executions are stored, found and indexed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from redisutils.trading.codec import Codec, Encoding
from redisutils.trading.errors import UnknownExecution
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.ledger.view import Kind, View
from redisutils.trading.orders.records import (
    CancelReject,
    Executed,
    ExecutionReport,
    Order,
    OrderRequest,
)
from redisutils.trading.portfolio.books import Positions
from redisutils.trading.portfolio.records import Position

__all__ = ["Books"]

SHORTEST = 3 * 24 * 3600
"""Seconds for which executions are kept at least: over a weekend their trade date may go on, and
what is not known to be a duplicate has to be refused."""


class Books:
    """The kinds of records, and where they are.

    :param retention: seconds for which closed orders are kept.
    """

    def __init__(
        self, keys: Keys, encoding: Encoding, retention: int, positions: Positions
    ) -> None:
        self.keys = keys
        self.retention = retention
        self._executions_kept = max(2 * retention, SHORTEST)
        self.positions = positions
        self.orders: Kind[Order] = Kind(Codec(Order, encoding), self._indexed)
        self.executed = Codec(Executed, encoding)
        self.reports = Codec(ExecutionReport, encoding)
        self.rejects = Codec(CancelReject, encoding)
        self.requests = Codec(OrderRequest, encoding)

    # -- finding -------------------------------------------------------------------------

    def probable_key(self, view: View, cl_ord_id: str) -> str:
        """Where the order with this ClOrdID probably is."""
        return self.keys.order(view.hint(self.keys.cl_ord_id(cl_ord_id)) or cl_ord_id)

    def find(self, view: View, *cl_ord_ids: str) -> Order | None:
        """The order that one of these ClOrdIDs leads to."""
        for cl_ord_id in filter(None, cl_ord_ids):
            order = view.record(self.orders, self.probable_key(view, cl_ord_id))
            if order is None or not _tells_of(order, cl_ord_id):
                order = self._find_by_link(view, cl_ord_id)
            if order is not None:
                return order
        return None

    def _find_by_link(self, view: View, cl_ord_id: str) -> Order | None:
        key = self.keys.cl_ord_id(cl_ord_id)
        value = view.field(key)
        if value is None:
            # Without a link it can only be the first of a chain, if it is not that of a link that
            # was remembered and is gone.
            return view.record(self.orders, self.keys.order(cl_ord_id))
        order_id = value.decode().partition(" ")[0]
        view.remember(key, order_id)
        return view.record(self.orders, self.keys.order(order_id))

    def venue_of(self, view: View, *cl_ord_ids: str) -> str:
        """The venue of the order that one of these ClOrdIDs leads to; "" if nothing says it."""
        order = self.find(view, *cl_ord_ids)
        return "" if order is None else order.venue

    @staticmethod
    def executed_field(venue: str, exec_id: str) -> str:
        """The field of a report in the hash of its trade date; names have no blanks."""
        return f"{venue} {exec_id}"

    def position_of(self, view: View, what: Callable[[], str], order: Order) -> Position:
        """The position that an order leads to, a new one if there is none.

        :param what: says what moves it, for the error.
        :raises Conflict: it is in another currency than the order, or has another multiplier.
        """
        return self.positions.of(view, what, order.instrument, order.currency, order.multiplier)

    @staticmethod
    def not_kept(key: str, what: str) -> UnknownExecution:
        """There were executions of this trade date, and they are not kept any more."""
        day = key.rpartition(":")[2]
        return UnknownExecution(
            f"{what}: the executions of {day} are not kept any more, so nobody can say whether it "
            "was applied before. If the venue's status report says that it was not, apply it with "
            "the present trade date"
        )

    # -- writing -------------------------------------------------------------------------

    def keep_executions(self, view: View, key: str) -> None:
        """Keep the executions of a trade date from now on."""
        view.keep(key, self._executions_kept)
        view.last(key)

    def link(self, view: View, order: Order, cl_ord_id: str, content: str) -> Order:
        """Let another ClOrdID lead to an order. It is to be unused."""
        view.name(self.keys.cl_ord_id(cl_ord_id), "", f"{order.id} {content}".encode())
        view.append(self.keys.links(order.id), cl_ord_id)
        return replace(order, links=order.links + 1)

    def before_closing(self, view: View, before: Order | None, after: Order) -> None:
        """Read what will have to be changed with an order that is opened or closed."""
        if before is not None and before.links and before.is_open is not after.is_open:
            view.hold(self.keys.links(after.id))

    def tell(self, view: View, kind: str, message: bytes, order: Order, position: bytes) -> None:
        """Change the order, and tell so in its history and the outbox."""
        after = view.put(self.orders, self.keys.order(order.id), order)
        words: tuple[str | bytes, ...] = ("k", kind, "r", message, "n", after)
        if position:
            words += ("p", position)
        view.event(self.keys.history(order.id), 6, *words)

    def _indexed(self, view: View, key: str, before: Order | None, after: Order) -> None:
        keys = self.keys
        if before is not None and before.is_open is after.is_open:
            if not after.is_open:  # a filled one, which a larger replacement may open again
                for one in self._linked(after, view.appended.get(keys.links(after.id), ())):
                    view.keep(one, self.retention)
            return
        here = keys.open_in(after.instrument)
        if after.is_open:
            view.open(keys.open, after.id)
            view.command("SADD", here, after.id)
            if before is not None:
                for one in self._kept_with(view, before, after):
                    view.command("PERSIST", one)
            return
        if before is not None:
            view.command("ZREM", keys.open, after.id)
            view.command("SREM", here, after.id)
        for one in self._kept_with(view, before, after):
            view.keep(one, self.retention)

    def _kept_with(self, view: View, before: Order | None, after: Order) -> list[str]:
        """All keys of an order."""
        keys = self.keys
        links = keys.links(after.id)
        # What is not linked in the store has no list there that somebody would have read.
        stored = before is not None and before.links
        names = view.list(links) if stored else view.appended.get(links, ())
        return [keys.order(after.id), keys.history(after.id), *self._linked(after, names)]

    def _linked(self, order: Order, names: Iterable[str]) -> list[str]:
        """The keys of an order's links."""
        found = [self.keys.cl_ord_id(name) for name in names]
        return [self.keys.links(order.id), *found] if found else found


def _tells_of(order: Order, cl_ord_id: str) -> bool:
    """Whether the order itself says that this ClOrdID is of its chain. It does not name all that
    once were; and what was remembered may be of a chain that is gone, and its names used again."""
    return cl_ord_id in (order.id, order.cl_ord_id) or any(
        one.cl_ord_id == cl_ord_id for one in order.pending
    )
