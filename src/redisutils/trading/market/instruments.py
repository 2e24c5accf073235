"""The instruments that a service has met, and what their keys are called."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from redisutils.topology.cluster.keys import slot_of
from redisutils.trading.errors import UnknownInstrument
from redisutils.trading.names import checked_name, checked_prefix

__all__ = ["Instrument", "Instruments"]

_MOST: Final = 100_000
"""Met and remembered; then all are forgotten, so that a flood of odd names fills no memory."""


class Instrument:
    """One instrument's keys."""

    __slots__ = ("book", "history", "name", "quote", "slot")

    def __init__(self, prefix: str, name: str) -> None:
        self.name = name
        self.quote = f"{prefix}md:{{{name}}}:q"
        """The hash of the newest quote, and the channel of its updates."""
        self.history = f"{self.quote}:h"
        self.book = tuple(f"{prefix}ob:{{{name}}}:{part}" for part in ("m", "b", "a", "bi", "ai"))
        """Of its order book: see ``lua/book_snapshot.lua``."""
        self.slot = slot_of(self.quote.encode())


class Instruments(dict[str, Instrument]):
    """By name; one that has not been met is checked, and then known.

    :param prefix: what all keys begin with.
    :param only: those that may be asked for; None for any.
    :raises InvalidValue: the prefix, or a name when it is first met, is none.
    :raises UnknownInstrument: when a name is first met, and is none of ``only``.
    """

    def __init__(self, prefix: str, only: Collection[str] | None = None) -> None:
        super().__init__()
        self._prefix = checked_prefix(prefix)
        self._only = None if only is None else frozenset(only)
        for name in self._only or ():
            checked_name("instruments", name)

    def __missing__(self, name: str) -> Instrument:
        self.check(name)
        if len(self) >= _MOST:
            self.clear()
        found = self[name] = Instrument(self._prefix, name)
        return found

    def check(self, name: str) -> None:
        """:raises InvalidValue, UnknownInstrument: it may not be asked for."""
        checked_name("instrument", name)
        if not self.may_have(name):
            raise UnknownInstrument(
                f"instrument={name!r} is none of the {len(self._only or ())} that this service was "
                "given: add it to instruments= if it is meant"
            )

    def may_have(self, name: str) -> bool:
        """Whether it is one of those that may be asked for."""
        return self._only is None or name in self._only
