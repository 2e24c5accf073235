"""One way through the fault proxy: its faults, its counters, and the brake of a slow line."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Literal, TypeAlias, get_args

from ._checks import Settable, check_choice, check_count, check_rate, check_seconds

__all__ = ["SETTINGS", "Direction", "Ending"]

SETTINGS = ("latency", "jitter", "bandwidth", "fragment")
"""What is assigned to a direction."""

Ending: TypeAlias = Literal["close", "reset"]

# A slow line is simulated in slices of so many seconds: finer than anybody notices, and coarse
# enough to cost a hundred wake-ups a second, however fast the line is.
_SLICE = 0.01

# What a slow line holds beside what is under way: then the sender feels the brake.
_BUFFER = 16384


class Direction(Settable):
    """One way through the proxy, over all its connections: its faults and its counters.

    ``latency``, ``jitter``, ``bandwidth`` and ``fragment`` are assigned while traffic flows. A
    value that makes no sense raises ConfigError, which is a ValueError; any other attribute is an
    AttributeError.
    """

    __slots__ = (
        "_brake",
        "_cut_after",
        "_cut_ending",
        "_fragment",
        "_jitter",
        "_latency",
        "discarded",
        "forwarded",
    )

    def __init__(self) -> None:
        self.forwarded = 0
        """Bytes sent on since the proxy was started."""
        self.discarded = 0
        """Bytes received and thrown away since the proxy was started."""
        self._latency = 0.0
        self._jitter = 0.0
        self._fragment: int | None = None
        self._cut_after: int | None = None
        self._cut_ending: Ending = "close"
        self._brake = _Brake()

    def __repr__(self) -> str:
        faults = "".join(f" {fault}" for fault in self.faults)
        return f"<Direction forwarded={self.forwarded} discarded={self.discarded}{faults}>"

    @property
    def faults(self) -> tuple[str, ...]:
        """What is set to other than the default: ``("latency=0.3", "cut_after=100")``."""
        settings = {name: getattr(self, name) for name in SETTINGS} | {"cut_after": self._cut_after}
        # A cut after 0 bytes is one; a latency of 0 is none.
        return tuple(
            f"{name}={value}"
            for name, value in settings.items()
            if value or (name == "cut_after" and value is not None)
        )

    @property
    def latency(self) -> float:
        """Seconds by which every byte is late, default 0. Order and throughput stay. It is for
        what is received from now on."""
        return self._latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        check_seconds("latency", seconds)
        self._latency = seconds

    @property
    def jitter(self) -> float:
        """Seconds, default 0: each piece (what one read from the socket has brought) is late by a
        random part of it, on top of ``latency``. Order stays: a piece also waits for those before
        it. The proxy's seed decides."""
        return self._jitter

    @jitter.setter
    def jitter(self, seconds: float) -> None:
        check_seconds("jitter", seconds)
        self._jitter = seconds

    @property
    def bandwidth(self) -> float | None:
        """Bytes per second that all connections together get through this way; None, the default,
        for no limit. They take turns in slices of 10 ms. Who sends faster is held up: the proxy
        takes in little more than is under way, and the rest fills the kernel's buffers."""
        return self._brake.rate

    @bandwidth.setter
    def bandwidth(self, rate: float | None) -> None:
        check_rate("bandwidth", rate)
        self._brake.change(rate)

    @property
    def fragment(self) -> int | None:
        """Largest number of bytes sent at once; None, the default, for no limit. A client in the
        proxy's own event loop receives every fragment by itself; another process may get several
        at once."""
        return self._fragment

    @fragment.setter
    def fragment(self, size: int | None) -> None:
        check_count("fragment", size, 1)
        self._fragment = size

    def cut_after(self, count: int | None, ending: Ending = "close") -> None:
        """Let the next ``count`` bytes pass this way, over whichever connections, and end the
        connection that carried the last of them (with 0, the one that would carry the next).

        It happens once. None takes back what has not happened yet.

        :param ending: ``"close"`` (FIN, the default) or ``"reset"`` (RST).
        :raises ConfigError: for any other ``ending``, or a ``count`` below 0.
        """
        check_count("count", count, 0)
        check_choice("ending", ending, get_args(Ending))
        self._cut_after = count
        self._cut_ending = ending

    def restore(self) -> None:
        """Take all faults off this direction; the counters stay."""
        self.latency = self.jitter = 0.0
        self.bandwidth = self.fragment = None
        self._cut_after = None

    def _no_setting(self, name: str) -> str:
        return f"{super()._no_setting(name)}: there are {', '.join(SETTINGS)}, and cut_after()"

    # --- for the proxy's connections ---

    def lateness(self, random: Random) -> float:
        """By how many seconds a piece that arrives now is late."""
        return self._latency + (random.random() * self._jitter if self._jitter else 0.0)

    def capacity(self) -> float:
        """How many bytes of a connection may wait here before no more of them are read."""
        if self._brake.rate is None:
            return float("inf")
        return _BUFFER + self._brake.rate * (self._latency + self._jitter)

    async def turn(self, size: int) -> int:
        """Wait until the line has carried the first of ``size`` bytes; how many it has."""
        return await self._brake.carry(self.allowance(size))

    def allowance(self, size: int) -> int:
        """How many of ``size`` bytes to send next; 0 only if the connection has to end now."""
        limits = (size, self._fragment, self._cut_after)
        return min(limit for limit in limits if limit is not None)

    def account(self, size: int) -> Ending | None:
        """Count bytes as sent; how the connection has to end now, if it has to."""
        self.forwarded += size
        if self._cut_after is None:
            return None
        self._cut_after -= size
        if self._cut_after > 0:
            return None
        self._cut_after = None
        return self._cut_ending


class _Brake:
    """A line that carries so many bytes a second, slice after slice, for whoever comes first.

    A sender reserves the line for one slice and waits until that has been carried, so that
    several senders get on in turn. A change of the rate makes all reservations void.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self._free_at = 0.0
        self._waiting: set[asyncio.Future[bool]] = set()

    def change(self, rate: float | None) -> None:
        if rate == self.rate:
            return
        self.rate = rate
        self._free_at = 0.0
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(False)

    async def carry(self, size: int) -> int:
        """Wait until the first of ``size`` bytes have been carried; how many."""
        loop = asyncio.get_running_loop()
        while size and self.rate is not None:
            piece = min(size, max(1, int(self.rate * _SLICE)))
            now = loop.time()
            # A timer is late, always a little. Who was kept from the line by that alone goes on
            # from where the line stood; or the rate would never be reached.
            start = self._free_at if now - self._free_at < _SLICE else now
            self._free_at = start + piece / self.rate
            if await self._wait_until(self._free_at, loop):
                return piece
        return size

    async def _wait_until(self, moment: float, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the moment has come; else the rate has been changed."""
        carried: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_at(moment, _settle, carried)
        self._waiting.add(carried)
        try:
            return await carried
        finally:
            timer.cancel()
            self._waiting.discard(carried)


def _settle(carried: asyncio.Future[bool]) -> None:
    if not carried.done():
        carried.set_result(True)
