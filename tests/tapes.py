"""Where the tests find trades that were made: 200,000 of a future."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, localcontext
from pathlib import Path
from typing import Any

from redisutils.trading.market.tape import find_tape, simulate_tape
from redisutils.trading.times import SECOND

__all__ = ["bars_by_hand", "make_tape", "real_tape", "rows_of"]

Row = tuple[int, Decimal, Decimal]
"""Moment in ns, price, volume."""


def real_tape() -> Path | None:
    """``REDISUTILS_TAPE``, or what lies in ``shared/data`` beside the repository; it belongs to
    others, so it is not in it."""
    beside = Path(__file__).parent.parent.parent / "shared" / "data" / "es-trades.csv.gz"
    return find_tape() or (beside if beside.is_file() else None)


def make_tape(path: Path, count: int) -> Path:
    """A file of simulated trades."""
    with path.open("w", newline="") as file:
        file.write("DateTime,Price,Volume\n")
        for trade in simulate_tape("ES", count):
            at = datetime.fromtimestamp(trade.ts_event // SECOND, UTC)
            rest = trade.ts_event % SECOND // 1_000_000
            file.write(f"{at:%Y-%m-%d %H:%M:%S}.{rest:03},{trade.price},{trade.quantity}\n")
    return path


def rows_of(path: Path) -> Iterator[Row]:
    """A tape's rows, read with nothing of ours."""
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for row in csv.DictReader(text.decode().splitlines()):
        since = datetime.fromisoformat(row["DateTime"]).replace(tzinfo=UTC) - epoch
        microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        yield microseconds * 1000, Decimal(row["Price"]), Decimal(row["Volume"])


def bars_by_hand(rows: list[Row], length: int, offset: int = 0) -> dict[int, tuple[Any, ...]]:
    """Start: open, high, low, close, volume, notional and count; of rows by time."""
    inside: dict[int, list[Row]] = {}
    for row in rows:
        inside.setdefault((row[0] - offset) // length * length + offset, []).append(row)
    bars = {}
    for start, group in inside.items():
        prices = [price for _, price, _ in group]
        ends = prices[0], max(prices), min(prices), prices[-1]
        with localcontext(Context(prec=100, traps=[Inexact])):
            volume = sum(volume for _, _, volume in group)
            notional = sum(price * volume for _, price, volume in group)
        bars[start] = (*ends, volume, notional, len(group))
    return bars
