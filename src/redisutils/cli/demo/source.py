"""Where the trades come from: a file, or a simulated market."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Final

from redisutils.cli.demo.instruments import INSTRUMENTS, Instrument, instrument_of
from redisutils.trading.market import Trade, read_tape, simulate_tape

__all__ = ["Source", "TapeError", "recorded", "simulated"]

_UNREADABLE: Final = (OSError, ValueError)
"""What a file may raise that is no tape: ``InvalidValue`` is a ValueError."""


class TapeError(Exception):
    """A tape cannot be read. The message names the file and, where there is one, the line."""


@dataclass(frozen=True, slots=True)
class Source:
    """Trades in the order in which they happened."""

    words: str
    """What it is."""
    instruments: Sequence[Instrument]
    ends: bool
    """Whether the trades come to an end by themselves."""
    trades: Callable[[], Iterator[Trade]]
    """Begins anew each time. It may raise :class:`TapeError`."""


def simulated(seed: int) -> Source:
    """Trades without end in all the ``INSTRUMENTS``, the same for the same seed."""

    def trades() -> Iterator[Trade]:
        tapes = (
            simulate_tape(one.symbol, seed=seed + place, price=one.start, tick=one.tick)
            for place, one in enumerate(INSTRUMENTS)
        )
        return merge(*tapes, key=lambda trade: trade.ts_event)

    return Source(f"simulated tape, seed {seed}", INSTRUMENTS, ends=False, trades=trades)


def recorded(path: Path) -> Source:
    """The trades in a file: see :func:`redisutils.trading.market.read_tape`. Their instrument is
    what its name begins with: ``ES`` for ``es-trades.csv.gz``.

    Raises:
        TapeError: It is no file, or does not begin as a tape does.
    """
    if path.exists() and not path.is_file():
        # A pipe could keep the event loop waiting for its next line.
        raise TapeError(f"{path}: not a regular file")
    start = re.match(r"[A-Za-z0-9]+", path.name)
    symbol = start.group().upper() if start else "TAPE"

    def trades() -> Iterator[Trade]:
        last = 0
        try:
            for trade in read_tape(path, symbol):
                if trade.ts_event < last:
                    raise TapeError(f"{path}: trade {trade.seq} is earlier than the one before")
                last = trade.ts_event
                yield trade
        except OSError as error:
            raise TapeError(f"{path}: cannot be read: {error.strerror or error}") from error
        except _UNREADABLE as error:
            told = str(error)
            raise TapeError(told if str(path) in told else f"{path}: {told}") from error

    first = next(trades(), None)
    if first is None:
        raise TapeError(f"{path}: there is no trade in it")
    # Prices are often written with as many digits as they need: the finest of some tells.
    some = list(itertools.islice(_until_error(trades()), 200))
    finest = max((trade.price for trade in some), key=lambda price: -price.as_tuple().exponent)  # type: ignore[operator]  # finite prices have a number there
    return Source(f"tape {path.name}", (instrument_of(symbol, finest),), ends=True, trades=trades)


def _until_error(trades: Iterator[Trade]) -> Iterator[Trade]:
    try:
        yield from trades
    except TapeError:
        return  # told when the replay comes to it
