"""What positions are worth, by prices whose age is told, and without those that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from redisutils.trading.errors import InvalidValue
from redisutils.trading.money import ARITHMETIC, ZERO, number, positive_number
from redisutils.trading.portfolio.records import Position
from redisutils.trading.times import SECOND

__all__ = ["Priced", "Prices", "Totals", "Valuation", "Valued", "valued"]

_add, _multiply, _subtract = ARITHMETIC.add, ARITHMETIC.multiply, ARITHMETIC.subtract


class Priced(Protocol):
    """A price, and when it was made."""

    @property
    def price(self) -> Decimal:
        """In the instrument's currency."""
        ...

    @property
    def ts_event(self) -> int:
        """By the venue's clock, ns."""
        ...


class Prices(Protocol):
    """Where prices come from."""

    async def prices(
        self, instruments: Sequence[str], *, max_age: float | None = None
    ) -> Mapping[str, Priced]:
        """The latest price of each; without those that have none.

        :param max_age: seconds: where there are several, one that is not older.
        """
        ...


class Valued(msgspec.Struct, frozen=True, kw_only=True):
    """A position and what it is worth.

    ``state`` says whether its price is ``"fresh"``, ``"stale"`` (older than was asked for) or
    ``"missing"``; a flat position needs none. ``age`` is the price's, in seconds. ``value`` and
    ``unrealised`` are None without a price, and there with a stale one.
    """

    position: Position
    state: Literal["fresh", "stale", "missing", "flat"]
    price: Decimal | None = None
    age: float | None = None
    value: Decimal | None = None
    unrealised: Decimal | None = None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the positions in one currency. ``value`` and ``unrealised`` are over those that
    have a price; ``complete`` says whether these are all, and all prices fresh. ``fees`` are all
    fees in this currency, of whatever position."""

    currency: str
    value: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    unrealised: Decimal = ZERO
    fees: Decimal = ZERO
    complete: bool = True

    @property
    def profit(self) -> Decimal:
        """Realised and unrealised, less fees."""
        return _subtract(_add(self.realised, self.unrealised), self.fees)


class Valuation(msgspec.Struct, frozen=True, kw_only=True):
    """An account's positions and what they are worth, at ``ts`` (ns)."""

    ts: int
    positions: dict[str, Valued]
    totals: dict[str, Totals]
    """By currency."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The instruments without a price."""
        return self._in("missing")

    @property
    def stale(self) -> tuple[str, ...]:
        """The instruments whose price is too old."""
        return self._in("stale")

    @property
    def complete(self) -> bool:
        """Whether every position has a fresh price."""
        return not self.missing and not self.stale

    def _in(self, state: str) -> tuple[str, ...]:
        return tuple(name for name, one in self.positions.items() if one.state == state)

    def total(self, currency: str, rates: Mapping[str, Decimal]) -> Totals:
        """All of it in one currency.

        :param rates: what one unit of each other currency is worth in this one.
        :raises InvalidValue: a rate is missing, or is none.
        """
        sums = dict.fromkeys(("value", "cost", "realised", "unrealised", "fees"), ZERO)
        for name, part in self.totals.items():
            if name == currency:
                rate = Decimal(1)
            elif name in rates:
                rate = positive_number(f"rates[{name!r}]", rates[name])
            else:
                raise InvalidValue(f"rates must say what {name!r} is worth in {currency!r}")
            for field in sums:
                sums[field] = _add(sums[field], _multiply(getattr(part, field), rate))
        return Totals(currency=currency, complete=self.complete, **sums)


def valued(
    positions: Iterable[Position], prices: Mapping[str, Priced], now: int, max_age: float | None
) -> Valuation:
    """What positions are worth.

    :param now: ns.
    :param max_age: seconds; older prices are stale. None: none is.
    """
    found: dict[str, Valued] = {}
    totals: dict[str, Totals] = {}
    for position in positions:
        one = _valued(position, prices.get(position.instrument), now, max_age)
        found[position.instrument] = one
        before = totals.get(position.currency) or Totals(currency=position.currency)
        totals[position.currency] = msgspec.structs.replace(
            before,
            value=_add(before.value, one.value or ZERO),
            cost=_add(before.cost, position.cost),
            realised=_add(before.realised, position.realised),
            unrealised=_add(before.unrealised, one.unrealised or ZERO),
            complete=before.complete and one.state in ("fresh", "flat"),
        )
        for currency, fee in position.fees.items():
            of = totals.get(currency) or Totals(currency=currency)
            totals[currency] = msgspec.structs.replace(of, fees=_add(of.fees, fee))
    return Valuation(ts=now, positions=found, totals=totals)


def _valued(position: Position, priced: Priced | None, now: int, max_age: float | None) -> Valued:
    if not position.qty:
        return Valued(position=position, state="flat", value=ZERO, unrealised=ZERO)
    if priced is None:
        return Valued(position=position, state="missing")
    price = number("price", priced.price)
    age = (now - priced.ts_event) / SECOND
    value = _multiply(_multiply(position.qty, price), position.multiplier)
    return Valued(
        position=position,
        state="fresh" if max_age is None or age <= max_age else "stale",
        price=price,
        age=age,
        value=value,
        unrealised=_subtract(value, position.cost),
    )
