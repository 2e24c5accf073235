"""Faults as plain data: what a timeline does to a proxy. Those of servers: ``server_faults.py``.

A fault is a frozen dataclass that knows how to begin and how to end. What it claims while it
lasts (``"latency toward client"``, ``"stall"``) tells which others it would disturb: a timeline
never has two faults at once that claim the same. Ending switches off what is claimed, and nothing
else; connections that a fault has silenced stay silent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias, get_args

from ._checks import check_choice, check_count, check_rate, check_seconds, refuse
from ._direction import Direction, Ending
from ._relay import Then
from .proxy import FaultProxy, Side

__all__ = [
    "Bandwidth",
    "Blackhole",
    "Call",
    "Close",
    "Cut",
    "Fault",
    "Fragment",
    "HalfClose",
    "Latency",
    "Outage",
    "Refuse",
    "Reset",
    "Stall",
    "Swallow",
]

Toward: TypeAlias = Literal["client", "server", "both"]
Action: TypeAlias = Callable[[FaultProxy], Awaitable[object] | None]


@dataclass(frozen=True)
class Fault(ABC):
    """What all faults have in common, and the base of your own: subclasses are frozen
    dataclasses, so that a timeline's text shows what they are set to."""

    @property
    def lasts(self) -> bool:
        """Whether it goes on until it is ended; else it is over as soon as it has begun."""
        return True

    @property
    def claims(self) -> frozenset[str]:
        """What no other fault may claim while this one lasts; by default its class's name."""
        return frozenset({type(self).__name__.lower()})

    @abstractmethod
    def begin(self, proxy: FaultProxy) -> Awaitable[object] | None:
        """Switch it on. What is returned is awaited. One that raises has not begun."""

    def end(self, proxy: FaultProxy) -> Awaitable[object] | None:
        """Switch it off. What is returned is awaited. Never called when it does not last."""
        return None

    def __str__(self) -> str:
        shown = [
            f"{part.name}={getattr(self, part.name)!r}"
            for part in sorted(fields(self), key=lambda part: part.kw_only is True)
            if part.repr and getattr(self, part.name) != part.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


# --- settings of one way through the proxy, or of both ---


@dataclass(frozen=True)
class _OneWay(Fault):
    toward: Toward = field(default="both", kw_only=True)
    """Whither the bytes go that are concerned: ``"client"``, ``"server"`` or ``"both"``."""

    def __post_init__(self) -> None:
        check_choice("toward", self.toward, get_args(Toward))

    @property
    def claims(self) -> frozenset[str]:
        return frozenset(f"{type(self).__name__.lower()} toward {side}" for side in self._sides())

    def begin(self, proxy: FaultProxy) -> None:
        proxy.check_running()
        for direction in self._directions(proxy):
            self._apply(direction)

    def end(self, proxy: FaultProxy) -> None:
        for direction in self._directions(proxy):
            self._clear(direction)

    @abstractmethod
    def _apply(self, direction: Direction) -> None: ...

    @abstractmethod
    def _clear(self, direction: Direction) -> None: ...

    def _sides(self) -> tuple[str, ...]:
        return ("client", "server") if self.toward == "both" else (self.toward,)

    def _directions(self, proxy: FaultProxy) -> list[Direction]:
        ways = {"client": proxy.to_client, "server": proxy.to_server}
        return [ways[side] for side in self._sides()]


@dataclass(frozen=True)
class Latency(_OneWay):
    """Every byte is late by ``seconds`` plus a random part of ``jitter``, each way by itself."""

    seconds: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds("seconds", self.seconds)
        check_seconds("jitter", self.jitter)

    def _apply(self, direction: Direction) -> None:
        direction.latency = self.seconds
        direction.jitter = self.jitter

    def _clear(self, direction: Direction) -> None:
        direction.latency = direction.jitter = 0.0


@dataclass(frozen=True)
class Bandwidth(_OneWay):
    """A slow line: ``rate`` bytes per second each way, over all connections together."""

    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("rate", self.rate, optional=False)

    def _apply(self, direction: Direction) -> None:
        direction.bandwidth = self.rate

    def _clear(self, direction: Direction) -> None:
        direction.bandwidth = None


@dataclass(frozen=True)
class Fragment(_OneWay):
    """Bytes arrive in pieces of at most ``size``."""

    size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("size", self.size, 1, optional=False)

    def _apply(self, direction: Direction) -> None:
        direction.fragment = self.size

    def _clear(self, direction: Direction) -> None:
        direction.fragment = None


@dataclass(frozen=True)
class Cut(_OneWay):
    """The connection that carries the ``after``-th byte from now on ends there: once each way,
    and not at all when fewer bytes pass while it lasts."""

    after: int
    ending: Ending = "close"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("after", self.after, 0, optional=False)
        check_choice("ending", self.ending, get_args(Ending))

    def _apply(self, direction: Direction) -> None:
        direction.cut_after(self.after, self.ending)

    def _clear(self, direction: Direction) -> None:
        direction.cut_after(None)


# --- states of the proxy ---


@dataclass(frozen=True)
class Swallow(Fault):
    """The server executes what it is sent, and the client does not hear of it: as
    :meth:`FaultProxy.swallow_replies`, for requests that contain some bytes (None: for all)."""

    count: int | None = None
    containing: bytes | None = None
    then: Then = "silence"

    def __post_init__(self) -> None:
        check_count("count", self.count, 1)
        check_choice("then", self.then, get_args(Then))
        if not isinstance(self.containing, bytes | None):
            refuse("containing", self.containing, "must be bytes, or None")

    def begin(self, proxy: FaultProxy) -> None:
        """Replies are swallowed from now on."""
        proxy.swallow_replies(self.count, self._concerns, self.then)

    def end(self, proxy: FaultProxy) -> None:
        """No more are swallowed."""
        proxy.restore("swallow")

    def _concerns(self, request: bytes) -> bool:
        return self.containing is None or self.containing in request


@dataclass(frozen=True)
class Blackhole(Fault):
    """Connections are accepted and every byte gets lost; all of them stay silent for good."""

    def begin(self, proxy: FaultProxy) -> None:
        """Every connection falls silent."""
        proxy.blackhole()

    def end(self, proxy: FaultProxy) -> None:
        """New connections work again."""
        proxy.restore("blackhole")


@dataclass(frozen=True)
class Stall(Fault):
    """Nothing is forwarded either way, and nothing gets lost."""

    def begin(self, proxy: FaultProxy) -> None:
        """Bytes stop."""
        proxy.stall()

    def end(self, proxy: FaultProxy) -> None:
        """Bytes flow on."""
        proxy.restore("stall")


@dataclass(frozen=True)
class Refuse(Fault):
    """New connections are refused, open ones go on."""

    def begin(self, proxy: FaultProxy) -> None:
        """Nobody listens."""
        proxy.refuse()

    def end(self, proxy: FaultProxy) -> None:
        """The proxy listens again."""
        proxy.restore("refuse")


@dataclass(frozen=True)
class Outage(Refuse):
    """Open connections are reset, and new ones are refused while it lasts."""

    @property
    def claims(self) -> frozenset[str]:
        """The same as Refuse."""
        return frozenset({"refuse"})

    def begin(self, proxy: FaultProxy) -> None:
        """Nobody listens, and nobody is connected."""
        proxy.refuse()
        proxy.reset()


# --- events: over as soon as they have happened ---


class _Event(Fault):
    @property
    def lasts(self) -> bool:
        return False


@dataclass(frozen=True)
class Reset(_Event):
    """All open connections end with RST."""

    def begin(self, proxy: FaultProxy) -> None:
        """They end."""
        proxy.reset()


@dataclass(frozen=True)
class Close(_Event):
    """All open connections end with FIN."""

    def begin(self, proxy: FaultProxy) -> None:
        """They end."""
        proxy.close_all()


@dataclass(frozen=True)
class HalfClose(_Event):
    """One side of all open connections reads the end of the stream, and can go on writing."""

    toward: Side = "client"

    def __post_init__(self) -> None:
        check_choice("toward", self.toward, get_args(Side))

    def begin(self, proxy: FaultProxy) -> None:
        """That side is sent FIN."""
        proxy.half_close(self.toward)


# --- anything else ---


@dataclass(frozen=True)
class Call(Fault):
    """Whatever you like: ``Call("failover", promote)`` or ``Call("load", raise_it, lower_it)``.

    The functions are called with the proxy, and may be coroutine functions. With ``at_end`` it
    lasts, and is undone by it; without, it is over as soon as it has happened. It claims its
    ``name``.
    """

    name: str
    at_begin: Action = field(repr=False)
    at_end: Action | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            refuse("name", self.name, "must be a str")
        if not callable(self.at_begin):
            refuse("at_begin", self.at_begin, "must be a function that takes the proxy")
        if not (self.at_end is None or callable(self.at_end)):
            refuse("at_end", self.at_end, "must be a function that takes the proxy, or None")

    @property
    def lasts(self) -> bool:
        """Whether there is something to do at the end."""
        return self.at_end is not None

    @property
    def claims(self) -> frozenset[str]:
        """The name."""
        return frozenset({self.name})

    def begin(self, proxy: FaultProxy) -> Awaitable[object] | None:
        """Call ``at_begin``."""
        return self.at_begin(proxy)

    def end(self, proxy: FaultProxy) -> Awaitable[object] | None:
        """Call ``at_end``."""
        return None if self.at_end is None else self.at_end(proxy)
