"""An account's orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from decimal import Decimal
from time import time_ns
from typing import Any, Final, get_args

from redisutils import RedisPool
from redisutils.trading.codec import Encoding
from redisutils.trading.errors import InvalidValue, TradingError, UnknownOrder
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.ledger.ledger import Ledger
from redisutils.trading.ledger.outbox import Gap, Outbox, checked_mark, checked_outbox
from redisutils.trading.ledger.service import LedgerService
from redisutils.trading.money import number, positive_number
from redisutils.trading.names import checked_name
from redisutils.trading.orders.books import Books
from redisutils.trading.orders.checks import checked_order, checked_reject, checked_report
from redisutils.trading.orders.events import Event, Reader
from redisutils.trading.orders.intents import Apply, Ask, Place, Reject
from redisutils.trading.orders.lifecycle import OverfillPolicy
from redisutils.trading.orders.open_orders import OpenOrders
from redisutils.trading.orders.records import (
    Applied,
    CancelReject,
    ExecutionReport,
    Order,
    OrderRequest,
)
from redisutils.trading.orders.terms import Side
from redisutils.trading.pools import checked_pool
from redisutils.trading.portfolio.books import Positions
from redisutils.trading.portfolio.records import Method
from redisutils.trading.texts import shown
from redisutils.trading.times import moment

__all__ = ["Orders"]

WEEK: Final = 7 * 24 * 3600
CENTURY: Final = 100 * 365 * 24 * 3600

Number = Decimal | int | str


class Orders(LedgerService):
    """The orders of an account: placed, executed, replaced, cancelled; their history, and a stream
    of all that happens. Executions change the account's positions in the same step.

    Everything that changes something can be called again with the same arguments: it is done once,
    and tells the same. What is refused (:class:`~redisutils.trading.TradingError`) has changed
    nothing. After an error with ``Outcome.UNKNOWN``, call it again to know.

    Nobody waits for replicas: when a primary dies and a replica that was behind takes its place,
    what was answered last may never have happened. Who follows the account is told by a ``Gap``;
    apply the venue's reports again, and what is there is a duplicate, what was lost is applied.

    Keys, all in one slot, A being the account: ``ord:{A}:o:<id>`` an order, ``…:h:<id>`` its
    history, ``…:x:<trade date>`` executions, ``…:open`` and ``…:open:<instrument>`` ids of open
    orders, ``…:clid:<ClOrdID>`` later ClOrdIDs of a chain, ``…:ev`` all events,
    ``…:pos:<instrument>`` positions, from an instrument's first order on. For ever there are
    positions, the ids of adjustments (``…:adj``), open orders and their histories, which grow with
    every event of the order.

    :param pool: an open pool.
    :param account: whose orders.
    :param prefix: before all keys.
    :param retention: seconds for which closed orders and their history are kept; executions, by
        which duplicates are known, for twice as long after the last of their trade date, and for 3
        days at least; what is reported of that date later is refused. Open orders are kept for
        ever.
    :param overfill: executions beyond an order's quantity are refused (``"refuse"``) or recorded
        apart (``"apart"``).
    :param method: how the cost of positions is told that are opened from now on, by
        ``"average"`` or ``"fifo"``.
    :param encoding: of records, ``"json"`` or ``"msgpack"``; the same for all who share a prefix.
    :param outbox: about how many events are kept for those who follow or replay.
    :param clock: the present in nanoseconds, for receive times and to see times of the future.
    :raises InvalidValue: one of these cannot be meant.
    """

    def __init__(
        self,
        pool: RedisPool,
        *,
        account: str,
        prefix: str = "",
        retention: int = WEEK,
        overfill: OverfillPolicy = "refuse",
        method: Method = "average",
        encoding: Encoding = "json",
        outbox: int = 1_000_000,
        clock: Callable[[], int] = time_ns,
    ) -> None:
        pool = checked_pool(pool)
        if type(retention) is not int or not 1 <= retention <= CENTURY:
            raise InvalidValue(
                f"retention={shown(retention)} must be an int: seconds, 1 to {CENTURY} (a century)"
            )
        _check_one_of("overfill", overfill, get_args(OverfillPolicy))
        _check_one_of("method", method, get_args(Method))
        keys = Keys(account, prefix)
        self._keys = keys
        self._overfill = overfill
        self._clock = clock
        self._books = Books(keys, encoding, retention, Positions(keys, encoding, method))
        super().__init__("orders", Ledger.of(pool, keys, checked_outbox(outbox)))
        self._outbox = Outbox(pool, keys)
        self._reader = Reader(self._books)
        self._client = pool.lane("ledger", read_from="primary")
        self._open = OpenOrders(self._client, self._books)

    def __repr__(self) -> str:
        return f"<Orders {self._keys.account} {self._ledger!r}>"

    # -- changing ------------------------------------------------------------------------

    async def place(
        self,
        *,
        cl_ord_id: str,
        instrument: str,
        side: Side | str,
        order_qty: Number | None = None,
        price: Number | None = None,
        ord_type: str = "",
        time_in_force: str = "0",
        currency: str = "",
        multiplier: Number = 1,
        cash_order_qty: Number | None = None,
        venue: str = "",
        note: str = "",
        ts_event: int | None = None,
    ) -> Order:
        """Note a new order, before it is sent to the venue.

        :param cl_ord_id: its ClOrdID, which stays its id. The same again with the same content is
            the same order.
        :param order_qty: how much; or else ``cash_order_qty``, for how much money, and the venue's
            New tells the quantity.
        :param currency: of its price, and of the position that it leads to; as ``multiplier``, the
            first order (or transfer) of an instrument decides it for all.
        :param multiplier: what one unit is worth at a price of 1: 50 for a future on 50 times an
            index.
        :param ts_event: when it was decided, ns; without it, now.
        :returns: the order, as it is by now.
        :raises Conflict: the ClOrdID is that of another order, or the instrument is held or
            ordered in another currency or with another multiplier.
        """
        now = self._clock()
        fields = checked_order(
            cl_ord_id=cl_ord_id,
            instrument=instrument,
            side=side,
            order_qty=order_qty,
            cash_order_qty=cash_order_qty,
            price=price,
            multiplier=multiplier,
            now=now,
            ts_event=now if ts_event is None else ts_event,
            texts={
                "ord_type": ord_type,
                "time_in_force": time_in_force,
                "currency": currency,
                "venue": venue,
                "note": note,
            },
        )
        return await self._submit(Place(self._books, Order(**fields, ts_recv=now)))

    async def apply(self, report: ExecutionReport) -> Applied:
        """Apply an execution report. That of an order's status (``ORDER_STATUS``) is compared, told
        in ``drift``, and not kept.

        :returns: what became of the order; for a report that was applied before, what became of it
            then.
        :raises IllegalTransition: an order in its status cannot have this.
        :raises Overfill: more would be executed than was ordered.
        :raises Conflict: the ExecID was used before for another report.
        :raises UnknownOrder, UnknownExecution: what it is about is not known.
        """
        return await self._submit(
            Apply(self._books, checked_report(report, self._clock()), self._overfill)
        )

    async def apply_all(self, reports: Iterable[ExecutionReport]) -> list[Applied | TradingError]:
        """Apply reports in this order; one that is refused does not keep back the others.

        :returns: for each, what became of the order, or why it was refused.
        :raises InvalidValue: it is no series of reports.
        :raises redis.RedisError: some could not be written; apply all of them again.
        """
        given: object = reports
        if not isinstance(given, Iterable):
            raise InvalidValue(f"reports={shown(given)} must be a series of ExecutionReports")
        now = self._clock()
        found: list[InvalidValue | asyncio.Future[Applied]] = []
        futures: list[asyncio.Future[Applied]] = []
        try:
            for report in reports:
                self._check_open()
                try:
                    intent = Apply(self._books, checked_report(report, now), self._overfill)
                except InvalidValue as error:
                    found.append(error)
                else:
                    futures.append(await self._ledger.hand_in(intent))
                    found.append(futures[-1])
            if futures:
                await asyncio.wait(futures)
        except BaseException:  # cancelled, too: nobody waits for these any more
            for future in futures:
                future.cancel()
            raise
        outcomes = [_outcome(one) for one in found]
        for outcome in outcomes:
            if not isinstance(outcome, Applied | TradingError):
                raise outcome
        return [one for one in outcomes if isinstance(one, Applied | TradingError)]

    async def replace(
        self,
        orig_cl_ord_id: str,
        *,
        cl_ord_id: str,
        order_qty: Number | None = None,
        price: Number | None = None,
        ts_event: int | None = None,
    ) -> Order:
        """Note a request to replace an order, before it is sent to the venue.

        The order's status changes when the venue reports.

        :param orig_cl_ord_id: any ClOrdID of its chain.
        :param cl_ord_id: the request's own, which becomes one of the chain.
        :param order_qty: the new quantity, in all; without it, as it was.
        :param price: the new price; without it, as it was.
        :raises UnknownOrder: no order has that ClOrdID.
        :raises IllegalTransition: nothing is left to replace.
        :raises Conflict: the request's ClOrdID was used before, for something else.
        """
        return await self._ask(
            orig_cl_ord_id,
            cl_ord_id,
            ts_event,
            replaces=True,
            order_qty=None if order_qty is None else positive_number("order_qty", order_qty),
            price=None if price is None else number("price", price),
        )

    async def cancel(
        self, orig_cl_ord_id: str, *, cl_ord_id: str, ts_event: int | None = None
    ) -> Order:
        """Note a request to cancel an order, as :meth:`replace` does."""
        return await self._ask(orig_cl_ord_id, cl_ord_id, ts_event, replaces=False)

    async def _ask(
        self, orig_cl_ord_id: str, cl_ord_id: str, ts_event: int | None, **fields: Any
    ) -> Order:
        now = self._clock()
        request = OrderRequest(
            orig_cl_ord_id=checked_name("orig_cl_ord_id", orig_cl_ord_id),
            cl_ord_id=checked_name("cl_ord_id", cl_ord_id),
            ts_event=moment("ts_event", now if ts_event is None else ts_event, now),
            ts_recv=now,
            **fields,
        )
        return await self._submit(Ask(self._books, request))

    async def apply_reject(self, reject: CancelReject) -> Applied:
        """Apply an OrderCancelReject: the request that it refuses is no longer pending.

        :raises IllegalTransition: the order has no such request.
        :raises UnknownOrder: no order has these ClOrdIDs.
        """
        return await self._submit(Reject(self._books, checked_reject(reject, self._clock())))

    # -- reading -------------------------------------------------------------------------

    async def get(self, cl_ord_id: str) -> Order | None:
        """The order with this id, or any ClOrdID of its chain; None if there is none."""
        checked_name("cl_ord_id", cl_ord_id)
        key = self._keys.order(cl_ord_id)
        text: Any = await self._client.hget(key, "r")
        if text is None:
            link: Any = await self._client.get(self._keys.cl_ord_id(cl_ord_id))
            if link is None:
                return None
            key = self._keys.order(link.decode().partition(" ")[0])
            text = await self._client.hget(key, "r")
        return None if text is None else self._books.orders.codec.decode(text, key)

    async def open_orders(
        self, instrument: str | None = None, *, page: int = 1000
    ) -> AsyncGenerator[Order, None]:
        """The open orders, oldest first, as far as the commits tell them apart; with an instrument,
        its own, in no order.

        They are read in pages, while others may go on: each is as it was when its page was read.

        :param page: how many are read at once.
        :raises InvalidValue: ``page`` is no int of 1 or more, or the instrument is no symbol.
        """
        if type(page) is not int or page < 1:
            raise InvalidValue(f"page={page!r} must be an int: orders, 1 or more")
        if instrument is not None:
            checked_name("instrument", instrument)
        async with aclosing(self._open.orders(instrument, page)) as found:
            async for order in found:
                yield order

    async def history(self, cl_ord_id: str) -> AsyncGenerator[Event, None]:
        """What happened to an order, from its beginning.

        :raises UnknownOrder: no order has this ClOrdID.
        """
        order = await self.get(cl_ord_id)
        if order is None:
            raise UnknownOrder(f"no order has ClOrdID {cl_ord_id!r}")
        async for entry in self._outbox.history(self._keys.history(order.id), b"k", b"r", b"n"):
            yield self._reader.event(entry)

    async def replay(self, after: int | str = 0) -> AsyncGenerator[Event | Gap, None]:
        """What happened to the account, from after an event to now; with a word about what is not
        kept any more.

        :param after: the event's ``mark``, or its ``seq``; 0 for all that is kept.
        :raises InvalidValue: ``after`` is none of these.
        """
        async for entry in self._outbox.entries(checked_mark(after)):
            yield entry if isinstance(entry, Gap) else self._reader.event(entry)

    async def subscribe(self, after: int | str | None = None) -> AsyncGenerator[Event | Gap, None]:
        """What happens to the account, without an end. Who applies every event and meets no gap has
        everything.

        It holds one connection of the pool while it waits.

        :param after: begin after the event with this ``mark`` or ``seq``; without it, now. Only the
            mark tells of events that were lost and replaced by others while nobody listened.
        :raises InvalidValue: ``after`` is none of these.
        """
        mark = None if after is None else checked_mark(after)
        # Closed with this one, so that its connection goes back at once.
        async with aclosing(self._outbox.follow(mark)) as told:
            async for entry in told:
                yield entry if isinstance(entry, Gap) else self._reader.event(entry)


def _outcome(
    one: InvalidValue | asyncio.Future[Applied],
) -> Applied | BaseException:
    if isinstance(one, InvalidValue):
        return one
    return one.exception() or one.result()


def _check_one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidValue(f"{name}={shown(value)} must be one of {', '.join(choices)}")
