"""Callers of one turn of the event loop, sent together and answered each with its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.exceptions import ResponseError

from redisutils.trading.errors import ServiceClosed
from redisutils.trading.market.applying import Applier, Call
from redisutils.trading.market.quotes import Quote

__all__ = ["Together"]


class Together:
    """Gathers what is put in one turn of the loop into as few calls as can be.

    A caller who is cancelled takes nothing back. :meth:`close` waits for what is under way.
    """

    def __init__(self, applier: Applier) -> None:
        self._applier = applier
        self._waiting: list[tuple[Sequence[Quote], asyncio.Future[list[bool]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def put(self, quotes: Sequence[Quote]) -> list[bool]:
        """Apply quotes that were checked.

        :returns: of each, whether it was newer than what was there, or is there already.
        :raises ServiceClosed: after :meth:`close`.
        :raises redis.RedisError: for some of them at least, as its ``outcome`` says.
        """
        if self._closed:
            raise ServiceClosed("the market data service is closed: make another")
        if not quotes:
            return []
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send)
        answer: asyncio.Future[list[bool]] = loop.create_future()
        self._waiting.append((quotes, answer))
        return await answer

    async def close(self) -> None:
        """Take no more, and wait for what was put. A second call does nothing."""
        self._closed = True
        self._send()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        task = asyncio.get_running_loop().create_task(self._apply(waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _apply(
        self, waiting: list[tuple[Sequence[Quote], asyncio.Future[list[bool]]]]
    ) -> None:
        groups: dict[str, list[Quote]] = {}
        places: dict[str, list[tuple[int, int]]] = {}
        for caller, (quotes, _) in enumerate(waiting):
            for place, quote in enumerate(quotes):
                groups.setdefault(quote.instrument, []).append(quote)
                places.setdefault(quote.instrument, []).append((caller, place))
        answers = [[False] * len(quotes) for quotes, _ in waiting]
        errors: dict[int, Exception] = {}
        calls = list(self._applier.calls(groups))
        if len(calls) == 1:  # as most are: without a task of its own
            ran = [await self._result(calls[0])]
        else:
            ran = await asyncio.gather(*map(self._result, calls))
        at = dict.fromkeys(groups, 0)
        for call, results in zip(calls, ran, strict=True):
            for (name, quotes), result in zip(call, _each(call, results), strict=True):
                mine = places[name][at[name] : at[name] + len(quotes)]
                at[name] += len(quotes)
                for index, (caller, place) in enumerate(mine):
                    if isinstance(result, Exception):
                        errors.setdefault(caller, result)
                    else:
                        answers[caller][place] = result[index] != "0"
        for caller, (_, answer) in enumerate(waiting):
            if answer.done():  # its caller has gone
                continue
            if caller in errors:
                answer.set_exception(errors[caller])
            else:
                answer.set_result(answers[caller])

    async def _result(self, call: Call) -> list[str | ResponseError] | Exception:
        try:
            return await self._applier.run(call, each=True)
        except Exception as error:  # noqa: BLE001  # whatever it is, its callers are told
            return error


def _each(call: Call, results: list[str | ResponseError] | Exception) -> Sequence[str | Exception]:
    """Of each instrument of a call its result, if the call has failed as a whole, too."""
    return [results] * len(call) if isinstance(results, Exception) else results
