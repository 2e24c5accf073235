"""One answer made of several."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redisutils.errors import RedisUtilsError

__all__ = ["Gathered", "part"]


class Gathered:
    """Waits for the answers to several commands and makes one of them.

    Args:
        count: how many futures will be given.
        finish: makes the answer of the list of theirs, exceptions among them, in the order in
            which the futures were given. What it raises is raised to the caller.
    """

    __slots__ = ("_answers", "_finish", "_left", "_parts", "future")

    def __init__(
        self, loop: AbstractEventLoop, count: int, finish: Callable[[list[Any]], Any]
    ) -> None:
        self.future: Future[Any] = Future(loop=loop)
        """What the caller awaits."""
        self._parts: list[Future[Any]] = []
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
        gathered.end_with(gathered.future)
        return gathered.future

    def add(self, place: int, future: Future[Any]) -> None:
        """``future`` gives one of the answers. Each place is given one."""
        self._parts.append(future)
        future.add_done_callback(partial(self._came, place))

    def end_with(self, awaited: Future[Any]) -> None:
        """Where who awaits ``awaited`` goes away, nobody waits for the parts: what was not sent
        shall not be sent later."""
        awaited.add_done_callback(self._awaited)

    def _awaited(self, awaited: Future[Any]) -> None:
        if awaited.cancelled():
            for part in self._parts:
                part.cancel()

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


def part(
    loop: AbstractEventLoop,
    before: Sequence[object],
    submit: Callable[..., Future[Any]],
    *args: Any,
) -> Future[Any]:
    """``submit(*args)``, of one part of several. If that is refused when there were some ``before``
    it, which may be executed, it is the answer of this part alone."""
    try:
        return submit(*args)
    except RedisUtilsError as error:
        if not before:
            raise
        future: Future[Any] = Future(loop=loop)
        future.set_exception(error)
        return future


def _result(future: Future[Any]) -> Any:
    if future.cancelled():  # by a loop that ends
        from asyncio import CancelledError

        return CancelledError()
    return future.exception() or future.result()
