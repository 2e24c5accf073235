"""What a read of the newest value says: the value, how old it is, and whether that is good."""

from __future__ import annotations

from typing import Final, Generic, Literal, TypeVar

import msgspec

__all__ = ["ABSENT", "Latest", "State"]

T = TypeVar("T")

State = Literal["fresh", "stale", "absent"]


class Latest(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """The newest value there is.

    ``value`` is None when there is none, as ``state`` says in words: ``"absent"``. ``age`` is in
    seconds since the value's ``ts_event``, by this machine's clock; a venue's that is ahead gives
    0. ``"stale"``: it is older than ``max_age``.
    """

    value: T | None
    age: float | None
    state: State

    @property
    def fresh(self) -> bool:
        """Whether there is a value, not older than was asked for."""
        return self.state == "fresh"


ABSENT: Final = Latest[None](None, None, "absent")
