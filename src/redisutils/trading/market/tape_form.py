"""How tapes are kept: which bars, for how long, under which keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from redisutils.trading.codec import Codec, Encoding
from redisutils.trading.errors import InvalidValue
from redisutils.trading.market.bars import Bar, LatePolicy
from redisutils.trading.market.intervals import Interval
from redisutils.trading.market.trade import Trade, TradeBust
from redisutils.trading.names import checked_prefix

__all__ = ["Retention", "TapeForm", "TapeKeys"]


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long. Ages count back from the newest trade of an instrument, not from now, so a tape
    of last year can be replayed.

    :param trades: entries of history per instrument, about: whole blocks of 100 go. None keeps all.
    :param trade_age: seconds that history reaches back, about. None keeps all.
    :param bars: seconds that bars reach back, by name of the interval; others are kept.
    :param latest: seconds that the latest trade is told after it was written. None: until the
        next.
    :param idle: seconds without a trade after which all that an instrument has is removed, its
        place in the source as well; for contracts that expire. None: never.
    :raises InvalidValue: ``trades`` is not 1 to 2**53, or an age not 0.001 to 1e9 seconds.
    """

    trades: int | None = 1_000_000
    trade_age: float | None = None
    bars: Mapping[str, float] = field(default_factory=dict)
    latest: float | None = 60.0
    idle: float | None = None

    def __post_init__(self) -> None:
        # What a server refuses, it would refuse when half of a step is done.
        kept: object = self.trades
        if kept is not None and not (type(kept) is int and 1 <= kept <= 2**53):
            raise InvalidValue(f"trades={kept!r} must be an int from 1 to 2**53, or None")
        for name in ("trade_age", "latest", "idle"):
            if getattr(self, name) is not None:
                _check_age(name, getattr(self, name), ", or None")
        bars: object = self.bars
        if not isinstance(bars, Mapping):
            raise InvalidValue(f"bars={bars!r} must be a mapping: seconds by name of the interval")
        for interval, age in bars.items():
            _check_age(f"bars[{interval!r}]", age)


def _check_age(name: str, value: object, more: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= 1e9:
        raise InvalidValue(f"{name}={value!r} must be a number of seconds from 0.001 to 1e9{more}")


class TapeKeys:
    """The keys of an instrument's tape, in one slot."""

    __slots__ = ("bars", "busts", "every", "history", "latest", "state")

    def __init__(self, prefix: str, instrument: str, intervals: Sequence[Interval]) -> None:
        base = f"{prefix}md:{{{instrument}}}:"
        self.state = f"{base}t:m"
        self.history = f"{base}t"
        self.latest = f"{base}last"
        self.busts = f"{base}t:x"
        self.bars = tuple((f"{base}bar:{each}", f"{base}bar:{each}:v") for each in intervals)
        """Of each interval: where bars begin, and their records."""
        self.every = [self.state, self.history, self.latest, self.busts]
        for pair in self.bars:
            self.every += pair


class TapeForm:
    """What all who write and read some tapes agree upon.

    :param prefix: what all keys begin with.
    :param intervals: the names of those whose bars are kept.
    :param late: what becomes of trades that come after a later bar has begun.
    :param encoding: of records.
    :raises InvalidValue: an interval is none, or is there twice; a retention is of no interval; or
        policy or encoding are none.
    """

    def __init__(
        self,
        prefix: str,
        intervals: Sequence[str | Interval],
        late: LatePolicy,
        retention: Retention,
        encoding: Encoding,
    ) -> None:
        self.prefix = checked_prefix(prefix)
        if isinstance(intervals, str):
            raise InvalidValue(f"intervals={intervals!r} must be a sequence: ({intervals!r},)")
        self.intervals = tuple(map(Interval.of, intervals))
        self.names = tuple(each.name for each in self.intervals)
        if len(set(self.names)) < len(self.names):
            raise InvalidValue(f"intervals={self.names} must differ")
        if late not in get_args(LatePolicy):
            raise InvalidValue(f"late={late!r} must be 'amend' or 'drop'")
        self.late: LatePolicy = late
        self.retention = retention
        kept = {Interval.of(name).name: age for name, age in retention.bars.items()}
        if strange := kept.keys() - set(self.names):
            raise InvalidValue(
                f"bars={dict(retention.bars)} of Retention must be of the intervals {self.names}, "
                f"which {sorted(strange)} are not"
            )
        self.bar_ages = tuple(kept.get(name) for name in self.names)
        self.trades = Codec(Trade, encoding)
        self.busts = Codec(TradeBust, encoding)
        self.bars = Codec(Bar, encoding)
        self.text = f"{','.join(sorted(self.names))};{late};{encoding}"

    def keys(self, instrument: str) -> TapeKeys:
        """Those of an instrument."""
        return TapeKeys(self.prefix, instrument, self.intervals)
