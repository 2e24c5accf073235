"""Which commands are measured.

To measure a command takes some 10 µs in a busy program, more than to have it answered. So only
``TARGET`` a second are, 1 % of a processor, however many there are. While there are fewer than
that, each is measured, and all that is told of them is exact. When there are more, one of so many
is, drawn at random, and counts for those that it was drawn from: percentiles, means and the shares
of commands are estimates then, without a bias, from a thousand samples a second.

Whatever is told apart from that stays exact: how many commands were answered, errors, retries,
bytes. And a read that brings answers to what has waited longer than the slowest commands of this
minute (:mod:`redisutils.metrics.slow`) is measured whole, up to ``SPARE`` commands a second, and
``MORE`` when one has waited twice as long as any before in that second: the log of slow commands
does not depend on luck.
"""

from __future__ import annotations

from time import monotonic
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["Meter", "Skipping"]

TARGET: Final = 1000
"""Measured commands a second that are aimed at."""

BLOCK: Final = 128
"""Measured commands after which it is asked again how many others there are for each."""

LARGEST_GAP: Final = 256
"""Commands that one stands for at most, on average."""

SPARE: Final = 500
"""Commands a second that may be measured beside those, since they are slow."""


MORE: Final = 128
"""Commands that may be measured of a read that is much slower, whatever has been spent. Waiting
cannot double often in a second."""


class Skipping(Protocol):
    """One connection, which lets commands go by between two that are measured. Must be weakly
    referable."""

    def hurry(self, skip: int) -> None:
        """Let no more than ``skip`` more go by."""


class Meter:
    """Decides for all the connections of a pool together."""

    __slots__ = ("_began", "_left", "_mean", "_seed", "_skipping", "_slowest", "_spare", "_widest")

    def __init__(self) -> None:
        self._mean = 1
        self._widest = 1  # mean, of those by which connections may be skipping still
        self._skipping: WeakSet[Skipping] = WeakSet()
        self._began = monotonic()
        self._left = BLOCK
        self._seed = 1
        self._spare = SPARE
        self._slowest = 0.0  # seconds that a read has waited, of those in this second

    def join(self, connection: Skipping) -> None:
        """It asks us from now on."""
        self._skipping.add(connection)

    def draw(self, now: float) -> int:
        """How many commands on, on this connection, the next is to be measured: 1 for the very
        next. It stands for so many.

        Args:
            now: ``time.monotonic()``, when the last has been measured.
        """
        self._left -= 1
        if not self._left:
            self._adapt(now)
        return self._gap()

    def _gap(self) -> int:
        mean = self._mean
        if mean == 1:
            return 1
        # Any cheap generator will do: a fixed gap could fall in with a pattern of the program's.
        seed = self._seed = (self._seed * 1_103_515_245 + 12_345) & 0x7FFF_FFFF
        return 1 + (seed >> 8) % (2 * mean - 1)

    def slow(self, waited: float) -> None:
        """A read is to be measured whole that brings the answer to what has waited so long."""
        if waited > 2 * self._slowest:
            self._slowest = waited
            self._spare = max(self._spare, MORE)

    def spend(self) -> bool:
        """A command was measured since it is slow. Returns whether the next may be, too."""
        self._spare -= 1
        return self._spare > 0

    def turn(self, now: float) -> None:
        """A second has passed: what was right in a burst is not, when it is over."""
        self._spare = SPARE
        self._slowest = 0.0
        if now - self._began > 0.5:
            self._adapt(now)
        if self._mean < self._widest:
            # Those that a busy second let skip hundreds would take a quiet hour for them.
            for connection in list(self._skipping):
                connection.hurry(self._gap() - 1)
            self._widest = self._mean

    def _adapt(self, now: float) -> None:
        measured = BLOCK - self._left
        rate = measured / max(now - self._began, 1e-6)
        self._mean = min(LARGEST_GAP, max(1, round(self._mean * rate / TARGET)))
        self._widest = max(self._widest, self._mean)
        self._began = now
        self._left = BLOCK
