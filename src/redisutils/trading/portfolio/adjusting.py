"""Adjustments: what is let in, and how they are decided."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast, get_args

from msgspec.structs import replace

from redisutils.trading.errors import Conflict, InvalidValue, UnknownPosition
from redisutils.trading.ledger.view import Kind, View
from redisutils.trading.money import number, positive_number
from redisutils.trading.names import checked_name
from redisutils.trading.portfolio.books import Positions
from redisutils.trading.portfolio.position import adjusted
from redisutils.trading.portfolio.records import Adjustment, AdjustmentKind, Position
from redisutils.trading.texts import checked_text, shown
from redisutils.trading.times import moment

__all__ = ["Adjust", "checked_adjustment"]


def checked_adjustment(event: Adjustment, now: int) -> Adjustment:
    """The adjustment with exact numbers.

    :param now: the present, ns.
    :raises InvalidValue: one of its fields cannot be meant.
    """
    if not isinstance(cast(object, event), Adjustment):
        raise InvalidValue(f"event={shown(event)} must be an Adjustment")
    if event.kind not in get_args(AdjustmentKind):
        raise InvalidValue(
            f"kind={shown(event.kind)} must be one of {', '.join(get_args(AdjustmentKind))}"
        )
    checked_name("id", event.id)
    checked_name("instrument", event.instrument)
    if event.currency != "":
        checked_name("currency", event.currency)
    checked_text("note", event.note)
    moment("ts_event", event.ts_event, now)
    moment("ts_recv", event.ts_recv, now)
    for name in ("numerator", "denominator"):
        value = getattr(event, name)
        if type(value) is not int or not 0 < value < 10**9:
            raise InvalidValue(f"{name}={shown(value)} must be an int from 1 to 999999999")
    event = replace(
        event,
        amount=number("amount", event.amount),
        qty=number("qty", event.qty),
        cost=number("cost", event.cost),
        multiplier=positive_number("multiplier", event.multiplier),
    )
    if event.kind == "transfer" and not event.qty:
        raise InvalidValue(f"qty={event.qty} of a transfer must not be 0")
    return event


class Adjust:
    """An adjustment of a position; the same again changes nothing."""

    __slots__ = ("content", "event", "positions", "text")

    def __init__(self, positions: Positions, event: Adjustment) -> None:
        self.positions = positions
        self.event = event
        self.text = positions.adjustments.encode(event)
        # The same adjustment may be heard of again later.
        self.content = positions.adjustments.content(event, ts_recv=0).encode()

    def expected(self, view: View) -> Iterable[tuple[str, Kind[Any]]]:
        """The position."""
        yield self.positions.keys.position(self.event.instrument), self.positions.kind

    def decide(self, view: View) -> Position:
        """The position after it, or as it is if it was made before."""
        positions, event, keys = self.positions, self.event, self.positions.keys
        position = view.record(positions.kind, keys.position(event.instrument))
        if (seen := view.taken(keys.adjustments, event.id)) is not None:
            if seen != self.content:
                raise Conflict(f"adjustment {event.id!r} was another one")
            if position is None:
                raise UnknownPosition(
                    f"{event.kind} {event.id!r} was made before, but {event.instrument} is not "
                    "there any more: give it another id to make it anew"
                )
            return position
        if position is None:
            if event.kind != "transfer":
                raise UnknownPosition(f"a {event.kind} of {event.instrument}, which is not held")
            position = positions.of(
                view,
                lambda: f"transfer {event.id!r}",
                event.instrument,
                event.currency,
                event.multiplier,
            )
        else:
            _check_same(position, event)
        after = adjusted(position, event)
        view.name(keys.adjustments, event.id, self.content)
        text = positions.put(view, after)
        view.event("", 0, "k", "adjusted", "r", self.text, "p", text)
        return after


def _check_same(position: Position, event: Adjustment) -> None:
    """An adjustment is of a position as it is held; only fees may be of another currency."""
    fits = event.kind == "fee" or event.currency in ("", position.currency)
    if not fits or event.multiplier not in (1, position.multiplier):
        raise Conflict(
            f"{event.kind} {event.id!r}: {event.instrument} is held in "
            f"currency={position.currency!r} with multiplier={position.multiplier}; it says "
            f"currency={event.currency!r}, multiplier={event.multiplier}"
        )
