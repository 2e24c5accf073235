"""One answer made of several."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

__all__ = ["Gathered"]


class Gathered:
    """Waits for the answers to several commands and makes one of them.

    Args:
        count: how many futures will be given.
        finish: makes the answer of the list of theirs, exceptions among them, in the order in
            which the futures were given. What it raises is raised to the caller.
    """

    __slots__ = ("_answers", "_finish", "_left", "future")

    def __init__(
        self, loop: AbstractEventLoop, count: int, finish: Callable[[list[Any]], Any]
    ) -> None:
        self.future: Future[Any] = Future(loop=loop)
        """What the caller awaits. Cancelling it leaves the others alone: what was sent was sent."""
        self._answers: list[Any] = [None] * count
        self._left = count
        self._finish = finish

    @classmethod
    def of(
        cls,
        loop: AbstractEventLoop,
        futures: Sequence[Future[Any]],
        finish: Callable[[list[Any]], Any],
    ) -> Future[Any]:
        """The future of what ``finish`` makes of the answers, exceptions among them."""
        gathered = cls(loop, len(futures), finish)
        for place, future in enumerate(futures):
            gathered.add(place, future)
        return gathered.future

    def add(self, place: int, future: Future[Any]) -> None:
        """``future`` gives one of the answers. Each place is given one."""
        future.add_done_callback(partial(self._came, place))

    def _came(self, place: int, future: Future[Any]) -> None:
        self._answers[place] = _result(future)
        self._left -= 1
        if self._left or self.future.done():
            return
        try:
            answer = self._finish(self._answers)
        except Exception as error:  # noqa: BLE001  # it is raised to the caller
            self.future.set_exception(error)
        else:
            self.future.set_result(answer)


def _result(future: Future[Any]) -> Any:
    if future.cancelled():  # by a loop that ends
        from asyncio import CancelledError

        return CancelledError()
    return future.exception() or future.result()
