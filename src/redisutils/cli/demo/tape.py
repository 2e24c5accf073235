"""Replaying a recorded tape: a CSV file ``DateTime,Price,Volume``, gzipped or not.

The file is read line by line while the replay runs, so its size does not matter. A line
that is not a trade ends the replay with an error that names file and line: a tape with
holes would prove nothing.
"""

from __future__ import annotations

import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Final, NoReturn

from redisutils.cli.demo.market import Trade

__all__ = ["Tape", "TapeError"]

HEADER: Final = ("datetime", "price", "volume")
MAX_LINE: Final = 256
"""Bytes in a line. The longest honest one has about 70; more is not a tape."""
CHUNK: Final = 8192
"""Bytes of a gzip file read at a time: how finely ``Tape.fraction`` moves."""

# Plain decimals only: Decimal() would also take "NaN", "1_0" and "1E+999999".
_PRICE: Final = re.compile(r"-?\d{1,15}(\.\d{1,15})?", re.ASCII)
_VOLUME: Final = re.compile(r"\d{1,9}", re.ASCII)


class TapeError(Exception):
    """A tape cannot be read. The message names the file and, where there is one, the line."""


class Tape:
    """The trades in a file, in its order; each ``iter()`` begins anew.

    Args:
        path: A regular file; gzip is recognised by its first bytes, not by its name.
        symbol: What the trades are in; by default what the file's name begins with:
            ``ES`` for ``es-trades.csv.gz``.

    Raises:
        TapeError: At once when the file cannot be opened or does not begin with the header;
            from an iterator at a line that is not a trade, or at damaged gzip.
    """

    def __init__(self, path: Path, symbol: str | None = None) -> None:
        self.path = path
        self.symbol = symbol or _symbol_of(path)
        self._raw: IO[bytes] | None = None
        if path.exists() and not path.is_file():
            # A pipe could keep the event loop waiting for its next line.
            raise TapeError(f"{path}: not a regular file")
        try:
            self._size = path.stat().st_size
            with path.open("rb") as raw:
                first = next(self._lines(raw), (1, ""))[1]
        except OSError as error:
            raise TapeError(f"{path}: cannot be opened: {error.strerror or error}") from error
        if tuple(name.strip().lower() for name in first.lstrip("\ufeff").split(",")) != HEADER:
            self._fail(1, f"must be DateTime,Price,Volume, not {first!r}")

    @property
    def fraction(self) -> float:
        """How much of the file the latest iterator has read: 0.0 to 1.0."""
        if self._raw is None:
            return 0.0
        return 1.0 if self._raw.closed else self._raw.tell() / self._size

    def __iter__(self) -> Iterator[Trade]:
        first: datetime | None = None
        last = 0.0
        with self.path.open("rb") as self._raw:
            for number, line in itertools.islice(self._lines(self._raw), 1, None):
                fields = line.split(",")
                if len(fields) != len(HEADER):
                    if not line.strip():
                        continue
                    self._fail(number, f"must have 3 fields, has {len(fields)}: {line!r}")
                stamp, price, volume = fields
                try:
                    moment = datetime.fromisoformat(stamp)
                    first = first or moment
                    at = (moment - first).total_seconds()
                except (ValueError, TypeError):  # TypeError: with and without a zone, mixed
                    self._fail(number, f"DateTime {stamp!r} is not like 2024-01-31 17:00:00.083")
                if not _PRICE.fullmatch(price):
                    self._fail(number, f"Price {price!r} is not a plain decimal number")
                if not _VOLUME.fullmatch(volume) or not int(volume):
                    self._fail(number, f"Volume {volume!r} is not a whole number from 1 up")
                if at < last:
                    self._fail(number, f"DateTime {stamp!r} is earlier than the line before")
                last = at
                yield Trade(self.symbol, Decimal(price), int(volume), at)

    def _lines(self, raw: IO[bytes]) -> Iterator[tuple[int, str]]:
        """Each line with its number, without its end. Never holds more than ``MAX_LINE``."""
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=_SmallReads(raw)) if zipped else raw
        for number in itertools.count(1):
            try:
                line = stream.readline(MAX_LINE + 1)
                text = line.decode()
            except UnicodeDecodeError:
                self._fail(number, "not text (UTF-8)")
            except (EOFError, zlib.error, OSError) as error:
                self._fail(number, f"cannot be read: {error}")
            if not line:
                return
            if len(line) > MAX_LINE:
                self._fail(number, f"longer than {MAX_LINE} bytes")
            yield number, text.rstrip("\r\n")

    def _fail(self, number: int, what: str) -> NoReturn:
        raise TapeError(f"{self.path}:{number}: {what}") from None


class _SmallReads(io.RawIOBase):
    """Reads at most ``CHUNK`` bytes at a time, whatever is asked for."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(CHUNK if size < 0 else min(size, CHUNK))


def _symbol_of(path: Path) -> str:
    start = re.match(r"[A-Za-z0-9]+", path.name)
    return start.group().upper() if start else "TAPE"
