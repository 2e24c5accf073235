"""Reads the newest quote or trade of instruments: field ``v`` of a hash each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from redisutils import RedisPool
from redisutils.connection.alarm import FOREVER
from redisutils.connection.packing import pack
from redisutils.topology.plan import ReadFrom
from redisutils.trading.codec import Codec
from redisutils.trading.market.latest import ABSENT, Latest
from redisutils.trading.market.quotes import Quote
from redisutils.trading.market.trade import Trade
from redisutils.trading.names import each_once
from redisutils.trading.times import checked_age

__all__ = ["Newest"]

T = TypeVar("T", Quote, Trade)

_MOST: Final = 100_000
"""Instruments remembered; then all are forgotten, so that a flood of odd names fills no memory."""


class _Place(Generic[T]):
    """Where an instrument's value is, and what was read there last: most reads find the same, and
    to decode it takes as long as all the rest of a read."""

    __slots__ = ("key", "read", "text", "value")

    def __init__(self, key: str) -> None:
        self.key = key
        self.read = pack(("HGET", key, "v"))
        self.text: bytes | None = None
        self.value: T


class Newest(Generic[T]):
    """A read is as near to a bare GET as can be: what is sent is packed once for each instrument,
    and goes to the lane itself.

    :param codec: of the records.
    :param key_of: an instrument's key; raises what is to be raised of a name that is none.
    :param lane: by which of the pool's shared connections.
    :param read_from: where; None for where the pool does.
    :param clock: the present, ns since 1970 UTC.
    """

    def __init__(
        self,
        pool: RedisPool,
        codec: Codec[T],
        key_of: Callable[[str], str],
        *,
        lane: str,
        read_from: ReadFrom | None,
        clock: Callable[[], int],
    ) -> None:
        self._codec: Codec[T] = codec
        self._key_of = key_of
        self._clock = clock
        self._lane = pool.server.lane_for(lane, read_from)
        self._timeout = min(pool.server.settings.command_timeout, FOREVER)
        self._places: dict[str, _Place[T]] = {}

    async def one(self, instrument: str, max_age: float | None) -> Latest[T] | Latest[None]:
        """An instrument's. One round trip.

        :param max_age: seconds since its ``ts_event`` beyond which it is stale; None: it never is.
        :raises InvalidValue: the name or the age is none.
        :raises UnreadableRecord: what is there was written by something else.
        """
        if max_age is not None:
            checked_age(max_age)
        place = self._places.get(instrument) or self._place(instrument)
        submit = self._lane.submit  # a slot that holds a function: load it, then call it
        return self._told(place, await submit(place.read, False, self._timeout), max_age)

    async def many(
        self, instruments: Iterable[str], max_age: float | None
    ) -> dict[str, Latest[T] | Latest[None]]:
        """Those of many, in one round trip (to each node of a cluster). As :meth:`one`."""
        checked_age(max_age)
        known = {
            name: self._places.get(name) or self._place(name)
            for name in each_once("instruments", instruments)
        }
        if not known:
            return {}
        payload = b"".join([place.read for place in known.values()])
        texts = await self._lane.submit_many(payload, len(known), False, self._timeout)
        for text in texts:
            if isinstance(text, Exception):
                raise text
        return {
            name: self._told(place, text, max_age)
            for (name, place), text in zip(known.items(), texts, strict=True)
        }

    def _place(self, instrument: str) -> _Place[T]:
        key = self._key_of(instrument)
        if len(self._places) >= _MOST:
            self._places.clear()
        place = self._places[instrument] = _Place(key)
        return place

    def _told(
        self, place: _Place[T], text: bytes | None, max_age: float | None
    ) -> Latest[T] | Latest[None]:
        if text is None:
            return ABSENT
        if text != place.text:  # what was read before is decoded, and never changes
            place.value = self._codec.decode(text, place.key)
            place.text = text
        value = place.value
        age = max(0.0, (self._clock() - value.ts_event) / 1e9)
        return Latest(value, age, "stale" if max_age is not None and age > max_age else "fresh")
