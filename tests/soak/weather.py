"""The faults: which comes when, and for how long, is decided by the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

from redis.exceptions import RedisError

from redisutils.testing import (
    Bandwidth,
    Blackhole,
    Call,
    Cut,
    Event,
    FaultProxy,
    Fragment,
    Freeze,
    HalfClose,
    Kill,
    Latency,
    Outage,
    Refuse,
    Reset,
    Stall,
    Swallow,
    Timeline,
)

from .world import World

__all__ = ["KINDS", "Spell", "Weather"]

_EVERY: Final = (0.2, 2.0)
_LASTING: Final = (0.1, 2.0)
_PATIENCE: Final = 0.3

KINDS: Final = {
    "Latency": "latency and jitter",
    "Bandwidth": "slow line",
    "Fragment": "fragments",
    "Stall": "stall",
    "Freeze": "SIGSTOP",
    "Blackhole": "black hole",
    "Swallow": "reply swallowed",
    "Cut": "cut",
    "Reset": "reset",
    "HalfClose": "half-close",
    "ClientKill": "CLIENT KILL",
    "Refuse": "refused",
    "Outage": "outage",
    "Kill": "kill -9",
}
"""What there is, by its class's name, and what it is called in the plot: from what delays to what
destroys."""


class Spell(NamedTuple):
    """A fault that was."""

    kind: str
    """A key of ``KINDS``."""
    begin: float
    """Seconds since the run's beginning."""
    end: float


class Weather:
    """Args:
    world: over which.
    began: when the run did (``time.monotonic``).
    """

    def __init__(self, world: World, began: float) -> None:
        self.spells: list[Spell] = []
        """What was, in no order."""
        self._world = world
        self._began = began
        self._lasting: Sequence[Any] = ()
        self._periods = 0
        self._enough = asyncio.Event()

    @property
    def now(self) -> str:
        """What goes on at present, in words."""
        return ", ".join(KINDS[_kind(fault)] for fault in self._lasting) or "fair"

    def abate(self) -> None:
        """Let :meth:`blow` come to its end."""
        self._enough.set()

    async def blow(self, seconds: float) -> None:
        """Fault after fault for so long, or until :meth:`abate`. In the end network and server
        are in order."""
        self._enough.clear()
        timeline = self._forecast(seconds)
        start = monotonic() - self._began
        playing = timeline.on(self._world.proxy)
        try:
            async with playing:
                over = asyncio.ensure_future(playing.wait())
                enough = asyncio.ensure_future(self._enough.wait())
                try:
                    while not (over.done() or enough.done()):
                        await asyncio.wait(
                            [over, enough], timeout=0.5, return_when=asyncio.FIRST_COMPLETED
                        )
                        self._lasting = playing.lasting
                finally:
                    over.cancel()
                    enough.cancel()
        finally:
            self._lasting = ()
            self._remember(playing.log, start)

    def _remember(self, log: Sequence[Event], start: float) -> None:
        begun: dict[int, float] = {}
        for event in log:
            if event.what == "ends":
                moment = begun.pop(id(event.fault))
            elif event.fault.lasts:
                begun[id(event.fault)] = event.moment
                continue
            else:
                moment = event.moment
            self.spells.append(Spell(_kind(event.fault), start + moment, start + event.moment))

    def _forecast(self, seconds: float) -> Timeline:
        world, server = self._world, self._world.server
        self._periods += 1

        async def kill_clients(proxy: FaultProxy) -> None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await world.admin.client_kill_filter(_type="normal", skipme=True)
            except (RedisError, TimeoutError):
                pass  # the server is down, or frozen

        return Timeline.random(
            seed=world.seed * 1000 + self._periods,
            duration=seconds,
            every=_EVERY,
            lasting=_LASTING,
            faults=[
                lambda dice: Latency(dice.random() * 0.05, jitter=dice.random() * 0.05),
                lambda dice: Bandwidth(50_000 + dice.random() * 500_000),
                lambda dice: Fragment(1 + int(dice.random() * 100)),
                lambda dice: Cut(int(dice.random() * 5000), "reset"),
                lambda dice: Cut(int(dice.random() * 5000), "close"),
                lambda dice: Swallow(1 + int(dice.random() * 20), then="silence"),
                lambda dice: Swallow(1 + int(dice.random() * 20), then="close"),
                lambda dice: Swallow(1 + int(dice.random() * 20), then="reset"),
                Reset(),
                Stall(),
                Blackhole(),
                Refuse(),
                Outage(),
                HalfClose("client"),
                HalfClose("server"),
                Freeze(server),
                Kill(server),
                Call("CLIENT KILL", kill_clients),
            ],
        )


def _kind(fault: Any) -> str:
    return "ClientKill" if isinstance(fault, Call) else type(fault).__name__
