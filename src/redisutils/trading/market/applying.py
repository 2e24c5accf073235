"""Quotes on their way to the servers: many of them in one run of a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal

from redis.exceptions import ResponseError

from redisutils import RedisPool
from redisutils.errors import Outcome, with_outcome
from redisutils.trading.codec import Codec, Encoding
from redisutils.trading.errors import InvalidValue
from redisutils.trading.market.instruments import Instruments
from redisutils.trading.market.quotes import Quote
from redisutils.trading.scripts import Scripts, load

__all__ = ["Applied", "Applier", "Call", "Channels", "Keeping"]

Channels = Literal["sharded", "plain", "none"]

_PUBLISH: Final[Mapping[Channels, str]] = {"sharded": "SPUBLISH", "plain": "PUBLISH", "none": ""}

_ARRAY: Final[Mapping[Encoding, tuple[str, str, str]]] = {
    "json": ("[", ",", "]"),
    "msgpack": ("", "", ""),
}

_SIZE: Final = 512
"""Quotes in one call: so many keep a server busy for some milliseconds, and others waiting."""

Call = list[tuple[str, list[Quote]]]
"""Instruments and their quotes, in the order in which they came."""

Applied = str
"""A digit for each quote: 1 it was newer, 0 it was not, 2 it is there already."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long what is kept. Durations in seconds."""

    ttl: float = 60.0
    """Of a quote: after so long without a newer one it is absent."""
    history: int = 0
    """Quotes of each instrument that are kept, about; 0 keeps none but the newest."""
    history_ttl: float = 7 * 86_400.0
    """Of an instrument's history after its last quote."""

    def __post_init__(self) -> None:
        for name in ("ttl", "history_ttl"):
            given: Any = getattr(self, name)
            if isinstance(given, bool) or not (
                isinstance(given, int | float) and 0.001 <= given <= 1e9
            ):
                raise InvalidValue(
                    f"{name}={given!r} must be a number of seconds from 0.001 to 1e9"
                )
        kept: Any = self.history
        if type(kept) is not int or kept < 0:
            raise InvalidValue(f"history={kept!r} must be a number of quotes, 0 or more")


class Applier:
    """Runs ``lua/quotes.lua``.

    :param instruments: by which keys are found.
    :param channels: by what updates are published: sharded needs Redis 7 or Valkey.
    """

    def __init__(
        self,
        pool: RedisPool,
        instruments: Instruments,
        codec: Codec[Quote],
        *,
        lane: str,
        encoding: Encoding,
        keeping: Keeping,
        channels: Channels,
    ) -> None:
        if channels not in _PUBLISH:
            raise InvalidValue(f"channels={channels!r} must be one of {', '.join(_PUBLISH)}")
        self._scripts = Scripts(pool, lane)
        self._script = load("quotes")
        self._clustered = pool.server.clustered
        self._instruments = instruments
        self._encode = codec.encode
        self._history = keeping.history > 0
        head = [
            str(round(keeping.ttl * 1000)),
            _PUBLISH[channels],
            str(keeping.history),
            str(round(keeping.history_ttl * 1000)),
        ]
        array = _ARRAY[encoding]
        self._heads = {each: (*head, "all" if each else "last", *array) for each in (True, False)}

    @property
    def keeps_history(self) -> bool:
        """Whether quotes that are not the newest are of use."""
        return self._history

    def calls(self, groups: Mapping[str, list[Quote]]) -> Iterator[Call]:
        """Quotes by instrument, cut into calls: of one slot each in a cluster, none of them long.
        O(quotes), and O(n log n) of instruments in a cluster."""
        if self._clustered:
            instruments = self._instruments
            named = sorted(groups, key=lambda name: instruments[name].slot)
            for _, names in groupby(named, key=lambda name: instruments[name].slot):
                yield from _cut((name, groups[name]) for name in names)
        else:
            yield from _cut(iter(groups.items()))

    async def run(
        self, call: Call, *, each: bool, again: bool = False
    ) -> list[Applied | ResponseError]:
        """Apply them.

        :param each: publish each quote that is newer than those before, else only the newest.
        :param again: they may have been applied already, by a run whose fate is unknown.
        :returns: for each instrument of the call a digit for each quote, or the server's refusal.
        :raises redis.RedisError: what became of the call as a whole, its ``outcome`` says.
        """
        instruments, encode, history = self._instruments, self._encode, self._history
        keys: list[str] = []
        arguments: list[Any] = []
        for name, quotes in call:
            instrument = instruments[name]
            keys.append(instrument.quote)
            if history:
                keys.append(instrument.history)
            arguments.append(len(quotes))
            for quote in quotes:
                number = quote.ts_recv if quote.seq is None else quote.seq
                arguments += (f"{quote.ts_event}:{number:019d}", encode(quote))
        head = self._heads[each]
        repeated = (*head, "1", *arguments)
        replies = await self._scripts.run(
            self._script,
            keys,
            repeated if again else (*head, "0", *arguments),
            again=repeated,
        )
        return [
            _read(reply.decode(errors="replace"), instruments[name].quote)
            for (name, _), reply in zip(call, replies, strict=True)
        ]


def _read(reply: str, key: str) -> Applied | ResponseError:
    if reply.isdigit():
        return reply
    return with_outcome(ResponseError(f"{reply} ({key})"), Outcome.REJECTED)


def _cut(groups: Iterator[tuple[str, list[Quote]]]) -> Iterator[Call]:
    call: Call = []
    size = 0
    for name, quotes in groups:
        start, rest = 0, len(quotes)
        while size + rest > _SIZE:
            room = _SIZE - size
            if room:
                call.append((name, quotes[start : start + room]))
            yield call
            call, size = [], 0
            start, rest = start + room, rest - room
        if rest:
            call.append((name, quotes[start:] if start else quotes))
            size += rest
    if call:
        yield call
