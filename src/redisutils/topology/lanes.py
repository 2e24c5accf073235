"""The lanes of one server or many: those that are shared, by their names, and those that are one
client's alone."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ["Lanes"]


class _Closable(Protocol):
    def close(self) -> None: ...


_L = TypeVar("_L", bound=_Closable)


class Lanes(Generic[_L]):
    """See the module's docstring. Iterating gives all of them, as they are at that moment."""

    __slots__ = ("_private", "shared")

    def __init__(self) -> None:
        self.shared: dict[str, _L] = {}
        """By name."""
        self._private: weakref.WeakSet[_L] = weakref.WeakSet()

    def __iter__(self) -> Iterator[_L]:
        return iter([*self.shared.values(), *self._private])

    def named(self, name: str, make: Callable[[], _L]) -> _L:
        """The shared lane of this name, made when first asked for."""
        lane = self.shared.get(name)
        if lane is None:
            lane = self.shared[name] = make()
        return lane

    def private(self, lane: _L) -> _L:
        """``lane`` is one client's alone, who closes it. It is known for as long as it is his."""
        self._private.add(lane)
        return lane

    def close(self) -> None:
        """Close all, and forget those that are shared."""
        for lane in self:
            lane.close()
        self.shared.clear()
