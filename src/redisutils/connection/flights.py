"""How many bytes are written and not yet answered.

They are counted by write, not by command, and only of writes that matter: a flight is how many
replies had been asked for when it left, and its bytes. It has landed when all these are answered.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FLIGHT_FROM", "MAX_BYTES_IN_FLIGHT", "MAX_IN_FLIGHT", "Flights"]

MAX_IN_FLIGHT: Final = 8192
"""Commands in flight at which the owner holds callers back: some 20 ms of a busy server."""

MAX_BYTES_IN_FLIGHT: Final = 32 * 1024 * 1024
"""The same in bytes written and not yet answered."""

FLIGHT_FROM: Final = MAX_BYTES_IN_FLIGHT // MAX_IN_FLIGHT
"""Bytes of a write from which it counts as a flight: all that is smaller can only double the
bound, since commands are counted too."""


class Flights:
    """Those of one connection."""

    __slots__ = ("bytes", "under_way")

    def __init__(self) -> None:
        self.under_way: list[tuple[int, int]] = []
        self.bytes = 0
        """Of all of them."""

    def leave(self, asked: int, size: int) -> None:
        """``size`` bytes are written, with which ``asked`` replies have been asked for in all."""
        self.under_way.append((asked, size))
        self.bytes += size

    def land(self, answered: int) -> None:
        """``answered`` replies have come in all."""
        landed = 0
        for asked, size in self.under_way:
            if asked > answered:
                break
            self.bytes -= size
            landed += 1
        del self.under_way[:landed]
