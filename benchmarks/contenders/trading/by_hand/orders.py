"""Orders and positions: a hash each, changed together under WATCH, and a stream of events.

Executions of one instrument go one after the other in this process, by a lock: else most of them
would find their position changed and begin again. WATCH is for other processes.

It leaves out: which status may follow which; busts, corrections, replacements and cancels; the
content of an execution that comes again; what an order was before, and a history of it; sums by
which position and cash can be proved; and which transaction was done, if the connection is lost.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from redis.exceptions import WatchError

from benchmarks.contenders.trading.base import Executed, NewOrder

_BATCH = 1000
"""Orders of one pipeline."""

_KEPT = 1_000_000
_OPEN = "orders:open"


class Fill(NamedTuple):
    """An execution."""

    exec_id: str
    order_id: str
    instrument: str
    qty: Decimal
    price: Decimal


class Order(NamedTuple):
    """An order, as it is stored."""

    id: str
    instrument: str
    side: str
    status: str
    order_qty: Decimal
    price: Decimal
    cum_qty: Decimal
    notional: Decimal


class Book:
    """An account's orders and positions."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def place(self, orders: Sequence[NewOrder]) -> None:
        """In transactions: each order, and its id among the open ones."""
        for at in range(0, len(orders), _BATCH):
            pipe = self._client.pipeline(transaction=True)
            for order in orders[at : at + _BATCH]:
                fields = {
                    "id": order.id,
                    "instrument": order.instrument,
                    "side": "buy" if order.buys else "sell",
                    "status": "new",
                    "order_qty": str(10**9),
                    "price": "1640.25",
                    "cum_qty": "0",
                    "notional": "0",
                }
                pipe.hset(_order(order.id), mapping=fields)
                pipe.sadd(_OPEN, order.id)
                pipe.xadd("orders:events", fields, maxlen=_KEPT, approximate=True)
            await pipe.execute()

    async def apply(self, fill: Fill) -> Order:
        """Change the order and its position, once for each ExecID."""
        async with self._locks[fill.instrument]:
            while True:
                try:
                    return await self._attempt(fill)
                except WatchError:
                    continue

    async def _attempt(self, fill: Fill) -> Order:
        order_key, position_key = _order(fill.order_id), _position(fill.instrument)
        async with self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(order_key, position_key)
            order = _read(await pipe.hgetall(order_key))
            if await pipe.sismember("orders:executions", fill.exec_id):
                return order
            qty, cost, realised = _read_position(await pipe.hgetall(position_key))
            cum_qty = order.cum_qty + fill.qty
            if cum_qty > order.order_qty:
                raise ValueError(f"{fill.order_id} would be overfilled")
            changed = order._replace(
                cum_qty=cum_qty,
                notional=order.notional + fill.qty * fill.price,
                status="filled" if cum_qty == order.order_qty else "partially filled",
            )
            signed = fill.qty if order.side == "buy" else -fill.qty
            qty, cost, realised = moved(qty, cost, realised, signed, fill.price)
            totals = {
                "status": changed.status,
                "cum_qty": str(changed.cum_qty),
                "notional": str(changed.notional),
            }
            pipe.multi()
            pipe.hset(order_key, mapping=totals)
            if changed.status == "filled":
                pipe.srem(_OPEN, order.id)
            held = {"qty": str(qty), "cost": str(cost), "realised": str(realised)}
            pipe.hset(position_key, mapping=held)
            pipe.sadd("orders:executions", fill.exec_id)
            event = {
                "exec_id": fill.exec_id,
                "order_id": fill.order_id,
                "qty": str(fill.qty),
                "price": str(fill.price),
                **totals,
            }
            pipe.xadd("orders:events", event, maxlen=_KEPT, approximate=True)
            await pipe.execute()
            return changed

    async def apply_all(self, fills: Sequence[Fill]) -> None:
        """Those of one instrument one after the other, different ones at once."""
        by_instrument: defaultdict[str, list[Fill]] = defaultdict(list)
        for fill in fills:
            by_instrument[fill.instrument].append(fill)

        async def in_order(some: list[Fill]) -> None:
            for fill in some:
                await self.apply(fill)

        await asyncio.gather(*map(in_order, by_instrument.values()))

    async def executed(self, orders: Sequence[NewOrder]) -> Executed:
        """The sums, read in pipelines."""
        pipe = self._client.pipeline(transaction=False)
        for order in orders:
            pipe.hgetall(_order(order.id))
        found = [_read(fields) for fields in await pipe.execute()]
        names = sorted({order.instrument for order in orders})
        for name in names:
            pipe.hget(_position(name), "qty")
        held = {
            name: Decimal(text.decode())
            for name, text in zip(names, await pipe.execute(), strict=True)
            if text is not None
        }
        cum_qty = sum((order.cum_qty for order in found), Decimal(0))
        return Executed(cum_qty, sum((order.notional for order in found), Decimal(0)), held)

    async def open_orders(self) -> AsyncIterator[Order]:
        """By the set of their ids, in pipelines."""
        ids = [name.decode() for name in await self._client.smembers(_OPEN)]
        for at in range(0, len(ids), _BATCH):
            pipe = self._client.pipeline(transaction=False)
            for order_id in ids[at : at + _BATCH]:
                pipe.hgetall(_order(order_id))
            for fields in await pipe.execute():
                if fields:
                    yield _read(fields)


def _order(order_id: str) -> str:
    return f"order:{order_id}"


def _position(instrument: str) -> str:
    return f"position:{instrument}"


def _read(fields: dict[bytes, bytes]) -> Order:
    return Order(
        fields[b"id"].decode(),
        fields[b"instrument"].decode(),
        fields[b"side"].decode(),
        fields[b"status"].decode(),
        Decimal(fields[b"order_qty"].decode()),
        Decimal(fields[b"price"].decode()),
        Decimal(fields[b"cum_qty"].decode()),
        Decimal(fields[b"notional"].decode()),
    )


def _read_position(fields: dict[bytes, bytes]) -> tuple[Decimal, Decimal, Decimal]:
    names = (b"qty", b"cost", b"realised")
    qty, cost, realised = (Decimal(fields.get(name, b"0").decode()) for name in names)
    return qty, cost, realised


def moved(
    qty: Decimal, cost: Decimal, realised: Decimal, signed: Decimal, price: Decimal
) -> tuple[Decimal, Decimal, Decimal]:
    """A position at average cost after an execution; one that is closed earns, one that turns is
    opened anew with the rest."""
    if qty * signed >= 0:
        return qty + signed, cost + signed * price, realised
    closed = -qty if abs(signed) >= abs(qty) else signed
    released = cost * closed / qty
    realised += released - closed * price
    rest = signed - closed
    return qty + signed, cost + released + rest * price, realised
