"""Trades out of files, as they are sold: lines of moment, price and volume. Or made up."""

from __future__ import annotations

import csv
import gzip
import os
import re
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import IO

from redisutils.trading.errors import InvalidValue
from redisutils.trading.market.trade import Trade
from redisutils.trading.money import number, positive_number
from redisutils.trading.names import checked_name
from redisutils.trading.times import SECOND

__all__ = ["TAPE_VARIABLE", "find_tape", "read_tape", "simulate_tape"]

TAPE_VARIABLE = "REDISUTILS_TAPE"

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?", re.ASCII)


def read_tape(
    path: str | Path, instrument: str, *, after: int = -1, zone: tzinfo = UTC
) -> Iterator[Trade]:
    """The trades of a CSV file (``.gz`` too), by line. It is read as it is needed.

    The first line names the columns, in any case: ``DateTime`` (``2013-09-01 17:00:00.083``, to 9
    places), ``Price`` and ``Volume``; others are not looked at. The first trade's ``seq`` is 1, the
    next one's 2; ``ts_recv`` is ``ts_event``.

    :param after: leave out what has no greater ``seq``: with
        :meth:`~redisutils.trading.market.ticks.Ticks.reached`, go on where it stopped.
    :param zone: what the file's clock shows.
    :raises InvalidValue: a line cannot be read; it says which. What came before has been given.
    """
    checked_name("instrument", instrument)
    path = Path(path)
    with closing(_rows(path)) as rows:
        _, first = next(rows, (0, []))
        columns = [name.strip().lower() for name in first]
        try:
            at_moment, at_price, at_volume = map(columns.index, ("datetime", "price", "volume"))
        except ValueError:
            raise InvalidValue(
                f"path={path}: its first line must name the columns DateTime, Price and Volume, "
                f"and says {','.join(columns)!r}"
            ) from None
        # Prices and volumes come again and again, and so do seconds.
        prices: dict[str, Decimal] = {}
        volumes: dict[str, Decimal] = {}
        second, start = "", 0
        for seq, (line, row) in enumerate(rows, 1):
            if seq <= after:
                continue
            try:
                found = _MOMENT.fullmatch(row[at_moment])
                if found is None:
                    raise InvalidValue(
                        f"DateTime={row[at_moment]!r} must be like 2013-09-01 17:00:00.083"
                    )
                if found[1] != second:
                    second, start = found[1], _second(found[1], zone)
                moment = start + int((found[2] or "0").ljust(9, "0"))
                price = prices.get(row[at_price])
                if price is None:
                    price = prices[row[at_price]] = number("Price", row[at_price])
                volume = volumes.get(row[at_volume])
                if volume is None:
                    volume = volumes[row[at_volume]] = positive_number("Volume", row[at_volume])
            except (ValueError, IndexError) as error:
                raise InvalidValue(f"path={path}, line {line}: {error}") from error
            yield Trade(
                instrument=instrument,
                price=price,
                quantity=volume,
                ts_event=moment,
                ts_recv=moment,
                seq=seq,
            )


def find_tape() -> Path | None:
    """The file that the variable ``REDISUTILS_TAPE`` names; without it, None.

    :raises InvalidValue: it names no file.
    """
    name = os.environ.get(TAPE_VARIABLE)
    if not name:
        return None
    path = Path(name)
    if not path.is_file():
        raise InvalidValue(f"{TAPE_VARIABLE}={name} must be a file with a tape, and there is none")
    return path


def simulate_tape(
    instrument: str,
    count: int | None = None,
    *,
    seed: int = 1,
    start: int = 1_378_072_800 * SECOND,
    price: Decimal = Decimal("1640.25"),
    tick: Decimal = Decimal("0.25"),
) -> Iterator[Trade]:
    """Trades that nobody made, the same for the same arguments: a walk of prices by ``tick``, in
    bursts and pauses of about 1.3 trades a second, as a quiet future has them.

    :param count: how many; None: without end.
    :param start: when the first one is, ns since 1970 UTC. (2013-09-01 22:00 UTC.)
    :raises InvalidValue: the name, a price or a tick is none.
    """
    checked_name("instrument", instrument)
    steps = int(number("price", price) / positive_number("tick", tick))
    random, now, seq = Random(seed), start, 0
    while count is None or seq < count:
        seq += 1
        yield Trade(
            instrument=instrument,
            price=steps * tick,
            quantity=Decimal(min(500, 1 + int(random.paretovariate(1.2)) // 2)),
            ts_event=now,
            ts_recv=now,
            seq=seq,
            side=random.choice(("buy", "sell")),
        )
        if random.random() < 0.4:
            now += int(random.expovariate(1 / 1.9) * 1000) * 1_000_000
            steps += random.choice((-1, 0, 0, 1))


def _rows(path: Path) -> Generator[tuple[int, list[str]], None, None]:
    """The rows of a file, and the number of the line at which each ends."""
    line = 0
    try:
        with _opened(path) as file:
            rows = csv.reader(file)
            for row in rows:
                line = rows.line_num
                yield line, row
    except (csv.Error, UnicodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidValue(f"path={path}, after line {line}: {error}") from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _second(text: str, zone: tzinfo) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * SECOND
