"""What can be wanted of an order: each decides by what it reads, and writes what follows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from redisutils.trading.errors import Conflict, UnknownExecution, UnknownOrder
from redisutils.trading.ledger.naming import unique_name
from redisutils.trading.ledger.view import Field, Kind, View
from redisutils.trading.orders.books import Books
from redisutils.trading.orders.drift import drift
from redisutils.trading.orders.lifecycle import (
    OPENING,
    OverfillPolicy,
    Step,
    apply,
    apply_reject,
    request,
)
from redisutils.trading.orders.moving import moved
from redisutils.trading.orders.records import (
    Applied,
    CancelReject,
    Executed,
    ExecutionReport,
    Fill,
    Order,
    OrderRequest,
    Pending,
)
from redisutils.trading.orders.terms import ExecType
from redisutils.trading.portfolio.records import Position

__all__ = ["Apply", "Ask", "Place", "Reject"]

_CORRECTING = (ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT)

Expected = Iterable[tuple[str, Kind[Any]]]


class Place:
    """A new order; the same again is the same order."""

    __slots__ = ("books", "order", "text")

    def __init__(self, books: Books, order: Order) -> None:
        codec = books.orders.codec
        self.books = books
        self.order = replace(order, content=codec.content(order, ts_recv=0, ts_placed=0))
        self.text = codec.encode(self.order)

    def expected(self, view: View) -> Expected:
        """The order, to see that it is none."""
        books = self.books
        yield books.keys.order(self.order.id), books.orders
        yield books.keys.position(self.order.instrument), books.positions.kind

    def decide(self, view: View) -> Order:
        """The order, as it was placed or as it is."""
        books, order = self.books, self.order
        stored = view.record(books.orders, books.keys.order(order.id))
        if stored is not None:
            if stored.content != order.content:
                raise Conflict(
                    f"ClOrdID {order.id!r} is that of another order: {_differences(order, stored)}"
                )
            return stored
        if view.taken(books.keys.cl_ord_id(order.id)) is not None:
            raise Conflict(f"ClOrdID {order.id!r} is that of a later request of another order")
        position = books.position_of(view, lambda: f"order {order.id!r}", order)
        view.absent(books.keys.cl_ord_id(order.id))
        books.tell(view, "placed", self.text, order, books.positions.decided(view, position))
        return order


_TERMS = (
    "instrument",
    "side",
    "order_qty",
    "price",
    "ord_type",
    "time_in_force",
    "currency",
    "multiplier",
    "cash_order_qty",
    "venue",
    "note",
)


def _differences(order: Order, stored: Order) -> str:
    pairs = ((name, getattr(order, name), getattr(stored, name)) for name in _TERMS)
    found = [f"{name}={here!s}, there {there!s}" for name, here, there in pairs if here != there]
    return "; ".join(found) or "it was placed with other terms, and replaced since"


class Apply:
    """An execution report. It is of its order's venue if it names none."""

    __slots__ = ("at", "books", "by", "content", "overfill", "report", "text", "venue")

    def __init__(self, books: Books, report: ExecutionReport, overfill: OverfillPolicy) -> None:
        self.books = books
        self.report = report
        self.overfill = overfill
        self.text = books.reports.encode(report)
        # The same report is received anew at another moment, with another remark perhaps; its
        # venue is in the key.
        self.content = books.reports.content(report, ts_recv=0, text="", venue="")
        self.by = unique_name()
        self.venue = report.venue
        self.at = self._at(report.trade_date, report.exec_id)

    def _at(self, trade_date: str, exec_id: str) -> Field:
        books = self.books
        return books.keys.executions(trade_date), books.executed_field(self.venue, exec_id)

    def expected(self, view: View) -> Expected:
        """The order; its position is not known before it is."""
        books, report = self.books, self.report
        key = books.probable_key(view, report.cl_ord_id)
        yield key, books.orders
        order = view.peek(key)
        if isinstance(order, Order):
            yield books.keys.position(order.instrument), books.positions.kind

    def decide(self, view: View) -> Applied:
        """What became of the order, now or when the report was first applied."""
        books, report = self.books, self.report
        if not report.venue:
            self.venue = books.venue_of(view, report.cl_ord_id, report.orig_cl_ord_id)
            self.at = self._at(report.trade_date, report.exec_id)
        is_status = report.exec_type is ExecType.ORDER_STATUS  # which may all have one ExecID
        if not is_status and (seen := view.taken(*self.at)) is not None:
            return self._applied_before(books.executed.decode(seen, " ".join(self.at)))
        if not is_status and view.gone(self.at[0]):
            raise books.not_kept(self.at[0], f"{report.exec_type.name} {report.exec_id!r}")
        before = books.find(view, report.cl_ord_id, report.orig_cl_ord_id)
        if before is None and report.exec_type not in OPENING:
            raise UnknownOrder(
                f"{report.exec_type.name} {report.exec_id!r}: no order has ClOrdID "
                f"{report.cl_ord_id!r}"
            )
        if before is not None:
            _check_same(before, report)
            if is_status:
                return _applied(before, drift(before, report))
        root, meant = None, None
        if report.exec_type in _CORRECTING:
            root, meant = self._root(view)
        step = apply(before, report, None if meant is None else meant.fill, self.overfill)
        return self._write(view, before, step, root, meant)

    def _applied_before(self, seen: Executed) -> Applied:
        if seen.content != self.content:
            report = self.report
            raise Conflict(
                f"ExecID {report.exec_id!r} of venue {self.venue!r} on {report.trade_date} was "
                f"used before, for another report, of order {seen.applied.order_id!r}: "
                f"{_known_differences(report, seen.fill)}"
            )
        return seen.applied if seen.by == self.by else replace(seen.applied, duplicate=True)

    def _root(self, view: View) -> tuple[Field, Executed]:
        """The execution that a bust or a correction is about: the first of its chain."""
        books, report = self.books, self.report
        at = self._at(report.ref_trade_date or report.trade_date, report.exec_ref_id)
        for _ in range(2):
            text = view.field(*at)
            if text is None:
                break
            executed = books.executed.decode(text, " ".join(at))
            if executed.root is None:
                return at, executed
            at = executed.root
        raise UnknownExecution(
            f"{report.exec_type.name} {report.exec_id!r}: venue {self.venue!r} reported no "
            f"execution {report.exec_ref_id!r} on {report.ref_trade_date or report.trade_date} (of "
            "another day: give ref_trade_date)"
        )

    def _write(
        self,
        view: View,
        before: Order | None,
        step: Step,
        root: Field | None,
        meant: Executed | None,
    ) -> Applied:
        books, report, order = self.books, self.report, step.order
        position, fill = self._moved(view, before, step)
        link = _new_link(books, view, before, report)
        applied = _applied(order, drift(order, report))
        executed = Executed(
            content=self.content,
            by=self.by,
            applied=applied,
            root=root,
            fill=fill if root is None else None,
        )
        books.before_closing(view, before, order)

        if root is not None and meant is not None:
            view.amend(*root, books.executed.encode(replace(meant, fill=fill)))
            books.keep_executions(view, root[0])
        view.name(*self.at, books.executed.encode(executed))
        books.keep_executions(view, self.at[0])
        if before is None:
            view.absent(books.keys.cl_ord_id(order.id))
        if link:
            order = books.link(view, order, link, "")
        if position is None:
            text = b""
        elif before is None and report.fee is None:
            text = books.positions.decided(view, position)
        else:
            text = books.positions.put(view, position)
        books.tell(view, "executed", self.text, order, text)
        return applied

    def _moved(
        self, view: View, before: Order | None, step: Step
    ) -> tuple[Position | None, Fill | None]:
        order, report = step.order, self.report
        moves = step.moves or step.gone is not None or report.fee is not None
        opens = before is None and order.is_open
        if not moves and not opens:
            return None, step.fill
        position = self.books.position_of(
            view, lambda: f"{report.exec_type.name} {report.exec_id!r} of order {order.id!r}", order
        )
        return moved(position, step, report) if moves else (position, step.fill)


def _known_differences(report: ExecutionReport, fill: Fill | None) -> str:
    """What can be told of the first report, of which only what became of it is kept."""
    if fill is not None:
        pairs = ("last_qty", report.last_qty, fill.qty), ("last_px", report.last_px, fill.px)
        found = [f"{name}={here}, there {there}" for name, here, there in pairs if here != there]
        if found:
            return "; ".join(found)
    same = "quantity and price are the same, " if fill is not None else ""
    return f"{same}another field is not (ts_recv, text and zeros at a number's end do not count)"


def _check_same(order: Order, report: ExecutionReport) -> None:
    if report.instrument not in ("", order.instrument):
        raise Conflict(
            f"report {report.exec_id!r} is about {report.instrument}, order {order.id!r} about "
            f"{order.instrument}"
        )
    if report.side is not None and report.side is not order.side:
        raise Conflict(
            f"report {report.exec_id!r} is for {report.side.name}, order {order.id!r} for "
            f"{order.side.name}"
        )


def _applied(order: Order, differences: tuple[str, ...]) -> Applied:
    return Applied(
        order_id=order.id,
        status=order.status,
        order_qty=order.order_qty,
        cum_qty=order.cum_qty,
        leaves_qty=order.leaves_qty,
        notional=order.notional,
        drift=differences,
    )


def _new_link(books: Books, view: View, before: Order | None, report: ExecutionReport) -> str:
    """A ClOrdID that the order did not have: of a request that was not sent from here."""
    name = report.cl_ord_id
    if before is None or name in (before.id, before.cl_ord_id):
        return ""
    return "" if view.field(books.keys.cl_ord_id(name)) is not None else name


class Ask:
    """A request to cancel or replace an order, which the caller sends to the venue."""

    __slots__ = ("asked", "books", "content", "message", "text")

    def __init__(self, books: Books, message: OrderRequest) -> None:
        self.books = books
        self.message = message
        self.asked = Pending(
            cl_ord_id=message.cl_ord_id,
            replaces=message.replaces,
            order_qty=message.order_qty,
            price=message.price,
        )
        self.text = books.requests.encode(message)
        self.content = books.requests.content(message, ts_event=0, ts_recv=0)

    def expected(self, view: View) -> Expected:
        """The order; and what has the request's ClOrdID, to see that it is none."""
        yield self.books.probable_key(view, self.message.orig_cl_ord_id), self.books.orders
        yield self.books.keys.order(self.message.cl_ord_id), self.books.orders

    def decide(self, view: View) -> Order:
        """The order with the request, or as it is if it had the request before."""
        books, message = self.books, self.message
        order = books.find(view, message.orig_cl_ord_id)
        if order is None:
            raise UnknownOrder(f"no order has ClOrdID {message.orig_cl_ord_id!r}")
        key = books.keys.cl_ord_id(message.cl_ord_id)
        value = view.field(key)
        if value is not None:
            if value != f"{order.id} {self.content}".encode():
                raise Conflict(f"ClOrdID {message.cl_ord_id!r} is that of another request")
            return order
        other = books.keys.order(message.cl_ord_id)
        if view.record(books.orders, other) is not None:
            raise Conflict(f"ClOrdID {message.cl_ord_id!r} is that of an order")
        after = replace(request(order, self.asked), ts_recv=message.ts_recv)
        books.before_closing(view, order, after)
        after = books.link(view, after, message.cl_ord_id, self.content)
        view.absent(other, "n")
        kind = "replace-requested" if message.replaces else "cancel-requested"
        books.tell(view, kind, self.text, after, b"")
        return after


class Reject:
    """An OrderCancelReject. It is of its order's venue if it names none."""

    __slots__ = ("books", "by", "content", "message", "text")

    def __init__(self, books: Books, message: CancelReject) -> None:
        self.books = books
        self.message = message
        self.text = books.rejects.encode(message)
        self.content = books.rejects.content(message, ts_recv=0, text="", venue="")
        self.by = unique_name()

    def expected(self, view: View) -> Expected:
        """The order."""
        yield self.books.probable_key(view, self.message.cl_ord_id), self.books.orders

    def decide(self, view: View) -> Applied:
        """What became of the order, now or when the reject was first applied."""
        books, message = self.books, self.message
        venue = message.venue or books.venue_of(view, message.cl_ord_id, message.orig_cl_ord_id)
        # It has no ExecID; a ClOrdID is refused once.
        at: Field = books.keys.executions(message.trade_date), f"{venue} {message.cl_ord_id} 9"
        if (seen := view.taken(*at)) is not None:
            executed = books.executed.decode(seen, " ".join(at))
            if executed.content != self.content:
                raise Conflict(
                    f"the reject of {message.cl_ord_id!r} on {message.trade_date} was another one "
                    "(ts_recv and text do not count)"
                )
            applied = executed.applied
            return applied if executed.by == self.by else replace(applied, duplicate=True)
        if view.gone(at[0]):
            raise books.not_kept(at[0], f"the reject of {message.cl_ord_id!r}")
        before = books.find(view, message.cl_ord_id, message.orig_cl_ord_id)
        if before is None:
            raise UnknownOrder(f"cancel reject: no order has ClOrdID {message.cl_ord_id!r}")
        order = apply_reject(before, message)
        told = message.ord_status
        here = order.status
        differs = f"ord_status: {told} by the reject, {here.name} by its executions"
        applied = _applied(order, () if told in (None, here) else (differs,))
        books.before_closing(view, before, order)
        executed = Executed(content=self.content, by=self.by, applied=applied)
        view.name(*at, books.executed.encode(executed))
        books.keep_executions(view, at[0])
        books.tell(view, "cancel-rejected", self.text, order, b"")
        return applied
