"""What is known of a tape, what is to be written to it, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redisutils.trading.errors import TapeMismatch
from redisutils.trading.market.bars import Key, Series
from redisutils.trading.market.tape_form import TapeForm, TapeKeys
from redisutils.trading.scripts import Scripts, load

__all__ = ["Change", "State", "Written", "load_state", "name_of", "order_key"]

_STATE = load("trades_state")


@dataclass(frozen=True, slots=True)
class Written:
    """What became of trades and busts that were given."""

    written: int = 0
    """How many were news, and are in now."""
    duplicates: int = 0
    """How many had a place in the source that had been reached already."""
    late: int = 0
    """Of the trades written, how many came after a later bar of some interval had begun. They are
    in its bars by policy ``amend``, and not by ``drop``."""
    unmatched: int = 0
    """Of the busts written, how many found no trade: history no longer has it, never had it, or it
    had been busted before."""

    def __add__(self, other: Written) -> Written:
        return Written(
            self.written + other.written,
            self.duplicates + other.duplicates,
            self.late + other.late,
            self.unmatched + other.unmatched,
        )


@dataclass(slots=True)
class State:
    """A tape as the server has it, and then as it will have it in a moment."""

    token: str
    """Of the step that made it so, ``""`` when there is nothing: the tape's version."""
    seq: int
    """The place in the source up to which everything is in, -1 when nothing is."""
    top: int
    """Time part of the newest id, ms."""
    slack: int
    """How far at most an id's time is after its trade's, ms."""
    latest: Key
    """``ts_event`` and ``seq`` of the latest trade; less than any when there is none."""
    series: list[Series]
    """The bars, by interval."""


class Change:
    """What is to be written in one step."""

    __slots__ = ("bars", "busts", "latest", "trades")

    def __init__(self, intervals: int) -> None:
        self.trades: list[Any] = []
        """Id and record of each."""
        self.latest: tuple[str, bytes] = ("", b"")
        """Order key and record; ``""`` for no other than before, ``"-"`` for none any more."""
        self.busts: list[Any] = []
        """Place of the trade and record of each; ``""`` of what is no longer kept."""
        self.bars: list[list[Any]] = [[] for _ in range(intervals)]
        """Of each interval: name and record of each; ``""`` of what is no more."""

    def arguments(self, form: TapeForm, state: State, token: str) -> list[Any]:
        """What ``lua/trades.lua`` is told."""
        kept = form.retention
        oldest = "" if kept.trade_age is None else max(0, state.top - round(kept.trade_age * 1e3))
        words: list[Any] = [
            *(state.token, form.text, token, state.seq, state.top, state.slack),
            *(kept.trades or 0, oldest, *self.latest),
            *(round(1e3 * (kept.latest or 0)), round(1e3 * (kept.idle or 0))),
            len(self.trades) // 2,
        ]
        words += self.trades
        words.append(len(self.busts) // 2)
        words += self.busts
        for series, age, bars in zip(state.series, form.bar_ages, self.bars, strict=True):
            least = "" if age is None else name_of(max(0, series.newest - round(age * 1e9)))
            words += (least, len(bars) // 2)
            words += bars
        return words


def name_of(start: int) -> str:
    """A bar's name: its beginning, so that names sort by time."""
    return f"{start:020d}"


def order_key(key: Key) -> str:
    """A trade's, by which as text trades sort by time and place."""
    return f"{key[0]:020d}:{key[1]:020d}"


async def load_state(
    scripts: Scripts,
    form: TapeForm,
    keys: TapeKeys,
    wanted: Sequence[Sequence[int]] = (),
) -> State:
    """A tape's state, at one moment.

    :param wanted: of each interval, the beginnings of bars that are wanted beside the newest.
    :raises TapeMismatch: the tape is kept in another form.
    """
    wanted = wanted or [()] * len(form.intervals)
    words: list[Any] = []
    for starts in wanted:
        words += (len(starts), *map(name_of, starts))
    names = [name for pair in keys.bars for name in pair]
    (seq, version, text, top, slack, latest), *found = await scripts.run(
        _STATE, [keys.state, *names], words
    )
    if text is not None and text.decode() != form.text:
        raise mismatch(keys, text, form)
    series = []
    for interval, starts, records, (_, where) in zip(
        form.intervals, wanted, found, keys.bars, strict=True
    ):
        bars = [form.bars.decode(record, where) if record else None for record in records]
        one = Series(interval, form.late, bars[0])
        for start, bar in zip(starts, bars[1:], strict=True):
            one.know(start, bar)
        series.append(one)
    moment, place = latest.split(b":") if latest else (-1, -1)
    return State(
        token=(version or b"").decode(),
        seq=-1 if seq is None else int(seq),
        top=int(top or 0),
        slack=int(slack or 0),
        latest=(int(moment), int(place)),
        series=series,
    )


def mismatch(keys: TapeKeys, found: bytes, form: TapeForm) -> TapeMismatch:
    """The error that a tape is kept in another form."""
    return TapeMismatch(
        f"{keys.state} says that this tape is kept as {found.decode(errors='replace')} (intervals; "
        f"late=; encoding=), and here it would be {form.text}: write it with the same, or under "
        "another prefix"
    )
